package natcheck

import (
	"context"
	"net/netip"
	"time"

	"dibber/netkit/nat"
	"dibber/netkit/portmap"

	ma "github.com/multiformats/go-multiaddr"
)

// removal is how long a router may take to give a mapping up.
const removal = time.Second

// PortMap is whether the router forwards a port when asked.
type PortMap struct {
	// Protocol is what it was had by: pcp, nat-pmp or upnp; nil if it was not.
	Protocol *string `json:"protocol"`
	Gateway  string  `json:"gateway"`
	// External is the endpoint by the router's own knowledge.
	External *netip.AddrPort `json:"external"`
	// Verified says whether a server got in there; nil if none could say.
	Verified *bool `json:"verified"`
	// DoubleNAT says whether the router's outside address is another than servers see:
	// then there is one more NAT, which knows nothing of the mapping.
	DoubleNAT *bool             `json:"double_nat"`
	Tried     []portmap.Attempt `json:"tried"`
}

// mapPort has the router forward the node's UDP port for the time of the check, if it
// is behind a NAT. The returned function takes the mapping back.
func (c *check) mapPort(ctx context.Context) (remove func()) {
	remove = func() {}
	c.mu.Lock()
	p := nat.Classify(c.path(IP4, UDP))
	c.mu.Unlock()
	if !c.cfg.PortMap || p.NAT == nil || !*p.NAT || len(p.Observed) == 0 {
		return remove
	}
	port := c.n.QUICPort()
	if port == 0 {
		return remove
	}
	// Another port than the one seen already: what gets in there came by the mapping.
	r, err := portmap.Do(ctx, c.n, portmap.Config{Port: port, Outside: p.Observed[0].Port() ^ 1})
	if !r.Gateway.IsValid() {
		return remove // there is no router to ask
	}
	out := &PortMap{Gateway: r.Gateway.String(), Tried: r.Tried}
	if err == nil {
		out.Protocol, out.External = &r.Protocol, &r.External
		if !r.External.Addr().IsUnspecified() {
			out.DoubleNAT = new(r.External.Addr() != p.Observed[0].Addr())
		}
	}
	c.mu.Lock()
	c.r.PortMap = out
	c.mu.Unlock()
	return func() {
		// Though the time of the check is over.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removal)
		defer cancel()
		_ = r.Remove(ctx) // it ends by itself before long
	}
}

// mapped is the address that a mapping makes; nil without one.
func (c *check) mapped() ma.Multiaddr {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.r.PortMap == nil || c.r.PortMap.External == nil {
		return nil
	}
	return quicAddr(*c.r.PortMap.External)
}

// mappingVerified notes what servers said about the mapping. The caller holds c.mu.
func (c *check) mappingVerified(a Address) {
	if c.r.PortMap != nil && a.Mapped && a.Reachability != Unknown {
		c.r.PortMap.Verified = new(a.Reachability == Reachable)
	}
}
