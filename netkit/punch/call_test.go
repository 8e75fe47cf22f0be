package punch

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"dibber/netkit/nat"
	"dibber/netkit/natlab"
	"dibber/netkit/relay"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

// TestCallersOfferOnce: who calls through the relay has one offer answered, the first, and
// not again when it calls anew within the minute.
func TestCallersOfferOnce(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s := newSiege(t, lab, natlab.NAT{Filtering: natlab.AddressAndPortDependent}, Config{})
		l := s.liar(t, "caller")
		l.key, l.id = l.Peerstore().PrivKey(l.ID()), l.ID()
		acted, answered := 0, 0
		for range 2 {
			c := l.call(t)
			for range 5 {
				answer, err := l.offer(t, c)
				if err != nil {
					continue
				}
				if answered++; len(answer.paths) > 0 {
					acted++
				}
			}
			_ = c.Close()
			time.Sleep(10 * time.Second) // virtual: the run is over
		}
		if answered != 2 || acted != 1 {
			t.Errorf("%d of 10 offers were answered, %d with something to act on", answered, acted)
		}
	})
}

// call connects to the target through the relay.
func (l liar) call(t *testing.T) network.Conn {
	t.Helper()
	circuit := ma.Join(l.s.at().Addrs[0], ma.StringCast("/p2p/"+l.s.relay.ID().String()+"/p2p-circuit"))
	c, err := l.Dial(t.Context(), l.s.target.ID(), []ma.Multiaddr{circuit})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// offer makes an offer over a relayed connection, without ever saying that both begin.
func (l liar) offer(t *testing.T, c network.Conn) (answer intro, err error) {
	t.Helper()
	in := l.claim(t, netip.AddrPortFrom(l.at(), 4001), lies()[nat.MethodTogether], l.seen(l.at()))
	signed, err := in.sign(l.key)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	st, err := l.OpenStream(ctx, c, relay.OfferProtocol)
	if err != nil {
		return intro{}, err
	}
	raw, err := wire.Exchange(ctx, st, signed, maxIntro)
	if err != nil {
		return intro{}, err
	}
	return openIntroOf(l.s.target.ID(), raw, l.id, in.nonce)
}
