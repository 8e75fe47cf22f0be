package dial

import (
	"context"
	"slices"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	ma "github.com/multiformats/go-multiaddr"
)

// readyTimeout is how long to wait until this host can take part in a hole punch:
// libp2p looks for a public address of its own 0, 250, 750 and 1750 ms after the
// start.
const readyTimeout = 2 * time.Second

// prepareUpgrade makes the host ready to be punched before a relayed connection
// is dialled: one that is older than the host's DCUtR handler is never upgraded.
// For that a relay must first tell the host its address. What goes wrong here
// shows in the dial itself.
func (d *dialler) prepareUpgrade(ctx context.Context, try []ma.Multiaddr) {
	wanted := d.cfg.Upgrade || d.cfg.UntilDirect || d.cfg.Hold != 0
	if !wanted || !slices.ContainsFunc(try, addr.IsRelayed) || d.punchable() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	sub, err := d.n.EventBus().Subscribe(new(event.EvtLocalProtocolsUpdated), eventbus.Name("dial upgrade"))
	if err != nil {
		return
	}
	defer sub.Close()
	public := false
	for _, a := range try {
		if relay, ok := relayOf(a); ok && d.seenInPublic(ctx, relay) {
			public = true
		}
	}
	for public && !d.punchable() {
		select {
		case <-ctx.Done():
			return
		case <-sub.Out():
		}
	}
}

// punchable reports whether the host answers hole punches.
func (d *dialler) punchable() bool {
	return slices.Contains(d.n.Mux().Protocols(), holepunch.Protocol)
}

// seenInPublic connects to a relay and reports whether it sees the host at a public
// address; libp2p punches no others.
func (d *dialler) seenInPublic(ctx context.Context, relay peer.AddrInfo) bool {
	ids, err := watchIdentify(d.n, relay.ID)
	if err != nil {
		return false
	}
	defer ids.close()
	c, err := d.n.Dial(ctx, relay.ID, relay.Addrs)
	if err != nil {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-d.n.Identified(c):
	}
	if e := ids.last(); e != nil {
		return e.ObservedAddr != nil && addr.ScopeOf(e.ObservedAddr) == addr.ScopePublic
	}
	return slices.ContainsFunc(d.n.Observations(), func(o host.Observation) bool {
		return addr.ScopeOf(o.Addr) == addr.ScopePublic
	})
}

// relayOf is the relay that a leads through.
func relayOf(a ma.Multiaddr) (peer.AddrInfo, bool) {
	before, _ := ma.SplitFunc(a, func(c ma.Component) bool { return c.Protocol().Code == ma.P_CIRCUIT })
	at, id := peer.SplitAddr(before)
	if id == "" || at == nil || len(before) == len(a) {
		return peer.AddrInfo{}, false
	}
	return peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{at}}, true
}
