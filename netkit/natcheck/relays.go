package natcheck

import (
	"context"

	"dibber/netkit/relay"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
)

// relayHop is the protocol of a relay.
const relayHop = proto.ProtoIDv2Hop

// Relay is a server that relays, and whether it does so for this node.
type Relay struct {
	Addr  string   `json:"addr"`
	RTTms *float64 `json:"rtt_ms"`
	// Reservation says whether it gave one; nil if there was no time to ask.
	Reservation *bool   `json:"reservation"`
	Error       *string `json:"error"`
	// Limits are those of each circuit; nil without a reservation.
	Limits *RelayLimits `json:"limits"`
}

// RelayLimits bound a circuit; nil is no limit.
type RelayLimits struct {
	DurationS *float64 `json:"duration_s"`
	Bytes     *uint64  `json:"bytes"`
}

// reserve asks a relay for a reservation, and gives it back by disconnecting.
func (c *check) reserve(ctx context.Context, v *visit) {
	if !v.speaks(relayHop) {
		return
	}
	l := v.looks[0]
	out := Relay{Addr: l.addr.String() + "/p2p/" + v.server.ID.String(), RTTms: new(ms(l.rtt))}
	r, err := relay.Reserve(ctx, c.n, peer.AddrInfo{ID: v.server.ID, Addrs: []ma.Multiaddr{l.addr}})
	c.n.Forget(v.server.ID)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		out.Reservation, out.Error = new(false), new(err.Error())
	default:
		out.Reservation, out.Limits = new(true), &RelayLimits{}
		if r.Duration > 0 {
			out.Limits.DurationS = new(r.Duration.Seconds())
		}
		if r.Bytes > 0 {
			out.Limits.Bytes = &r.Bytes
		}
	}
	c.mu.Lock()
	c.r.Relays = append(c.r.Relays, out)
	c.mu.Unlock()
	c.tell(Event{Relay: &out})
}
