package punch_test

import (
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/nat"
	"dibber/netkit/natlab"
	"dibber/netkit/punch"
)

// TestPunchesAgain: what cannot be punched now is tried again while the connection
// stays relayed, no sooner than after a minute and ever less often.
func TestPunchesAgain(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		cone := natlab.NAT{Filtering: natlab.AddressAndPortDependent}
		g := newGridWith(t, lab, cone, cone, unlimited())
		join := lab.Part(g.targetAt.External(), g.dialerAt.External())
		relayed := g.call(t)
		var ended []time.Time
		for range 3 {
			if r := g.target.next(t); r.Outcome != punch.Failed {
				t.Fatalf("punched through a cut: %+v", r)
			}
			ended = append(ended, time.Now())
		}
		for i, least := range []time.Duration{time.Minute, 2 * time.Minute} {
			// Three attempts of 3 s each, and a quarter of chance, may come on top.
			if pause := ended[i+1].Sub(ended[i]); pause < least || pause > least*5/4+15*time.Second {
				t.Errorf("pause %d is %s", i+1, pause)
			}
		}
		join()
		r := g.target.next(t)
		if r.Outcome != punch.Direct || !relayed.IsClosed() {
			t.Errorf("with the way restored: %+v", r)
		}
		time.Sleep(time.Hour)
		select {
		case <-g.target.more:
			t.Error("punched again although direct")
		default:
		}
	})
}

// TestNotAgainWithoutAConnection: the end of the relayed connection ends it all.
func TestNotAgainWithoutAConnection(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		cone := natlab.NAT{Filtering: natlab.AddressAndPortDependent}
		g := newGridWith(t, lab, cone, cone, unlimited())
		lab.Part(g.targetAt.External(), g.dialerAt.External())
		relayed := g.call(t)
		g.target.next(t)
		if err := relayed.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		select {
		case <-g.target.more:
			t.Error("punched without a relayed connection")
		default:
		}
	})
}

// TestDeadDirectConnectionIsNoWay: a peer whose direct connection is gone calls again
// through the relay, and is punched although this end still believes in the old one.
func TestDeadDirectConnectionIsNoWay(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		cone := natlab.NAT{Filtering: natlab.AddressAndPortDependent}
		g := newGridWith(t, lab, cone, cone, unlimited())
		g.call(t)
		if r := g.target.next(t); r.Outcome != punch.Direct {
			t.Fatalf("%+v", r)
		}
		join := lab.Part(g.targetAt.External(), g.dialerAt.External())
		g.dialer.Forget(g.target.ID()) // of which no word gets to the target
		time.Sleep(time.Second)
		join()
		if len(g.target.Conns(g.dialer.ID())) == 0 {
			t.Fatal("the target knows of the loss")
		}
		g.dialer.next(t)
		g.dialer.Forget(g.target.ID()) // also the addresses that came by what was under way
		g.call(t)
		if r := g.target.next(t); r.Outcome != punch.Direct || len(r.Attempts) == 0 {
			t.Errorf("%+v", r)
		}
	})
}

// TestWhoOnlyAskedMayPunch: a peer that came through the relay without punching, to ask
// something, is made an offer when it comes to punch, though that is within the minute.
func TestWhoOnlyAskedMayPunch(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		kinds := natlab.Grid()
		g := newVantageGrid(t, lab, kinds[2], kinds[2], 0)
		n := lab.Internet().Router("other-router", natlab.RouterConfig{NAT: kinds[5]}).LAN().Machine("other", natlab.MachineConfig{}).Host(host.Config{})
		g.dialer.Node = n
		asking := g.call(t)
		time.Sleep(5 * time.Second)
		if err := asking.Close(); err != nil {
			t.Fatal(err)
		}
		if r := g.target.next(t); r.Outcome != punch.Failed {
			t.Fatalf("%+v", r)
		}
		g.dialer = punching(t, n, punch.Config{})
		g.call(t)
		if r := g.target.next(t); r.Outcome != punch.Direct || *r.Method != string(nat.MethodSpray) {
			t.Errorf("%s %+v", text(r.Detail), r)
		}
	})
}
