package punch

import (
	"testing"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/natlab"

	ma "github.com/multiformats/go-multiaddr"
)

// TestStandingConnectionIsNamed: a peer that calls through the relay although a direct
// connection stands is reported with the address of that.
func TestStandingConnectionIsNamed(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		ended := make(chan Report, 1)
		s := newSiege(t, lab, natlab.NAT{}, Config{On: func(e Event) {
			if e.Report != nil {
				ended <- *e.Report
			}
		}})
		l := s.liar(t, "caller")
		if _, err := l.Dial(t.Context(), s.target.ID(), s.target.AddrsFor(s.relay.ID())); err != nil {
			t.Fatal(err)
		}
		circuit := s.at().Addrs[0].Encapsulate(ma.StringCast("/p2p/" + s.relay.ID().String() + "/p2p-circuit"))
		if err := l.DialBeside(t.Context(), s.target.ID(), circuit); err != nil {
			t.Fatal(err)
		}
		select {
		case r := <-ended:
			if r.Outcome != AlreadyDirect || r.Addr == nil || r.Transport == nil || *r.Transport != addr.TransportQUIC {
				t.Errorf("%+v", r)
			}
		case <-time.After(time.Minute):
			t.Fatal("no report")
		}
	})
}
