package rendezvous

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ma "github.com/multiformats/go-multiaddr"
)

// TestRegistrarDropped: a server was seen without the registration.
func TestRegistrarDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, addrA)
		l.at(10 * time.Minute)
		l.keep.dropped(time.Now())
		l.at(11 * time.Minute)
		l.expect(t, "0s registered 1", "10m0s lost 0", "10m1s registered 1")
		l.keep.dropped(l.start.Add(10*time.Minute + 500*time.Millisecond)) // of before
		l.at(20 * time.Minute)
		l.expect(t)
		l.stop()
	})
}

// TestRegistrarDroppedAtOnce: two that push each other out of a full server do so at
// the pace of retry.Schedule.
func TestRegistrarDroppedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, addrA)
		l.keep.plan.again.Most = 5 * time.Second
		const minutes = 10
		for time.Since(l.start) < minutes*time.Minute {
			l.keep.dropped(time.Now())
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if n := l.connected.Load(); n < 10*minutes || n > 15*minutes {
			t.Errorf("%d registrations in %d minutes", n, minutes)
		}
		l.stop()
	})
}

// TestRegistrarLosesServerWhileItAsks: that is a loss, told once.
func TestRegistrarLosesServerWhileItAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, addrA)
		l.at(10 * time.Minute)
		l.setFailure(ErrServerLost)
		l.announce(addrA, ma.StringCast("/ip4/203.0.113.8/udp/1/quic-v1"))
		l.at(10*time.Minute + 1500*time.Millisecond)
		l.keep.poke(signalDown)
		l.setFailure(nil)
		l.at(11 * time.Minute)
		l.expect(t, "0s registered 1", "10m1s lost 0", "10m3s registered 2")
		l.stop()
	})
}

// TestRegistrarLostWithoutAddresses: a host may know its addresses only some time after
// it is connected again. That they are those of before does not mean that they are
// registered.
func TestRegistrarLostWithoutAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, addrA)
		l.at(10 * time.Minute)
		l.announce()
		l.keep.poke(signalDown)
		l.at(11 * time.Minute)
		l.announce(addrA)
		l.at(12 * time.Minute)
		l.expect(t, "0s registered 1", "10m0s lost 0", "10m1s waiting 0", "11m0s registered 1")
		l.stop()
	})
}

// TestRegistrarNeverRegistered: the end of what never began is not told.
func TestRegistrarNeverRegistered(t *testing.T) {
	for _, why := range []error{ErrUnsupported, &StatusError{Status: StatusNotAuthorized}, context.DeadlineExceeded} {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t)
			l.expect(t, "0s waiting 0")
			l.setFailure(why)
			l.announce(addrA)
			l.at(time.Hour)
			l.stop()
			for len(l.log) > 0 {
				if e := <-l.log; strings.HasSuffix(e, "unregistered 0") {
					t.Errorf("%v: %s", why, e)
				}
			}
		})
	}
}
