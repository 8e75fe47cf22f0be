package punch

import (
	"context"
	"fmt"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/peer"
)

// toRelay is how long it takes to the relay and back, by what the connections with it have
// measured; 0 if that is not known.
func (s *Service) toRelay(relay peer.ID) (least time.Duration) {
	for _, c := range s.n.Conns(relay) {
		rtt, known := host.RTT(c)
		if known && !addr.IsRelayed(c.RemoteMultiaddr()) && (least == 0 || rtt < least) {
			least = rtt
		}
	}
	return least
}

// pace is the round trip time through the relay, from the parts of both ends. With it the
// end that answers knows when its answer arrives, and both begin then: to be told would
// take another half of a round trip. It is 0 where one of the parts is not known.
func (x *exchanged) pace() time.Duration {
	if x.sent.rtt == 0 || x.got.rtt == 0 {
		return 0
	}
	return x.sent.rtt + x.got.rtt
}

// awaitBegin returns when an answer that was sent has arrived, or when the other end says
// so, with the round trip time. It ends with the service.
func (s *Service) awaitBegin(frames *wire.Reader, sent time.Time, pace time.Duration) (time.Duration, error) {
	begin := make(chan error, 1)
	reads := s.goRun(func() { // the end of the stream ends it
		_, err := frames.Next()
		begin <- err
	})
	if !reads {
		return 0, fmt.Errorf("wait for begin: %w", context.Canceled)
	}
	var due <-chan time.Time // never: the other end has to say it
	if pace > 0 {
		due = time.After(time.Until(sent.Add(pace / 2)))
	}
	select {
	case <-due:
		return pace, nil
	case err := <-begin:
		if err != nil {
			return 0, fmt.Errorf("wait for begin: %w", err)
		}
		return time.Since(sent), nil
	case <-s.ctx.Done():
		return 0, fmt.Errorf("wait for begin: %w", s.ctx.Err())
	}
}
