package peering

import (
	"slices"
	"strings"

	"dibber/netkit/punch"

	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
)

// ours begins the names of all protocols that dibber defines. That of punch is no role,
// either: a command that dials speaks it, too.
const ours = "/dibber/"

// P2panda is the protocol of aquadoggo's nodes. Those that know no relay do not even
// answer identify, so they are asked for it.
const P2panda protocol.ID = "/p2p/p2panda/1.0.0"

// roles are the protocols of others by which a node serves its peers. What hosts
// speak for themselves (identify, ping, the near end of a circuit, DCUtR) is no role.
func roles() []protocol.ID {
	return []protocol.ID{
		P2panda,
		"/rendezvous/1.0.0",
		proto.ProtoIDv2Hop,
		"/libp2p/autonat/1.0.0",
		autonatv2.DialProtocol,
	}
}

// speaksOne reports whether a peer with these protocols is worth a connection: it
// speaks one of those required or, when none is, one of a role.
func speaksOne(protocols, required []protocol.ID) bool {
	return slices.ContainsFunc(protocols, func(p protocol.ID) bool {
		if len(required) > 0 {
			return slices.Contains(required, p)
		}
		return strings.HasPrefix(string(p), ours) && p != punch.ViewsProtocol || slices.Contains(roles(), p)
	})
}
