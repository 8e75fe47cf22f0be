package commands

import (
	"context"
	"errors"
	"slices"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/natcheck"
	"dibber/netkit/reach"
	"dibber/netkit/route"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
)

// vantagePoints is how many servers natcheck looks for where none is named: a mapping that depends on the remote shows
// from two, and one of three may see something else than the others.
const vantagePoints = 3

// findServers looks in the network of the hash table for nodes in different networks that dial back. Public ones are
// wanted unless the network itself is a private one.
func (o *natcheckOptions) findServers(ctx context.Context, out *output, n *host.Node) (found []peer.AddrInfo, err error) {
	cfg, err := o.Sources.Network.config(out, &o.Host, n.ID())
	if err != nil {
		return nil, err
	}
	r, err := route.New(n, cfg)
	if err != nil {
		return nil, err
	}
	defer closing(&err, r.Close)
	out.status("looking for servers in the network of %s", r.Protocol())
	if err := r.Join(ctx); err != nil {
		return nil, err
	}
	found, err = r.Offering(ctx, route.Wanted{
		Protocols: []protocol.ID{reach.ProtocolDialRequest}, Count: vantagePoints, Spread: true,
		Public: slices.ContainsFunc(cfg.Boot, func(b peer.AddrInfo) bool { return slices.ContainsFunc(b.Addrs, isPublic) }),
	})
	if errors.Is(err, route.ErrNotFound) {
		return nil, natcheck.ErrInconclusive
	}
	if err == nil && len(found) < vantagePoints {
		out.notice("only %d servers in different networks were found", len(found))
	}
	return found, err
}

// isPublic reports whether an address is one of the internet, as names are.
func isPublic(a ma.Multiaddr) bool {
	_, ok := addr.IP(a)
	return !ok || addr.ScopeOf(a) == addr.ScopePublic
}
