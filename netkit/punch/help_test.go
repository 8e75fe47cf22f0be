package punch_test

import (
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

type maddr = ma.Multiaddr

func circuitOf(relay peer.ID) ma.Multiaddr {
	return ma.StringCast("/p2p/" + relay.String() + "/p2p-circuit")
}
