package peering

import (
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/protocol"
)

func TestWhoSpeaksARole(t *testing.T) {
	plain := []protocol.ID{"/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0", "/libp2p/circuit/relay/0.2.0/stop", "/libp2p/dcutr"}
	for _, c := range []struct {
		with, require protocol.ID
		want          bool
	}{
		{"", "", false},
		{"/libp2p/circuit/relay/0.2.0/hop", "", true},
		{"/rendezvous/1.0.0", "", true},
		{"/libp2p/autonat/1.0.0", "", true},
		{"/libp2p/autonat/2/dial-request", "", true},
		{"/p2p/p2panda/1.0.0", "", true},
		{"/dibber/anything", "", true},
		{"/dibber/punch/1.0.0", "", false},
		{"/dibber/anything", "/chat/1", false},
		{"/chat/1", "/chat/1", true},
		{"/chat/1", "", false},
		{"", "/libp2p/dcutr", true},
	} {
		var require []protocol.ID
		if c.require != "" {
			require = append(require, c.require)
		}
		if got := speaksOne(append(slices.Clone(plain), c.with), require); got != c.want {
			t.Errorf("%q with %q required: %v", c.with, c.require, got)
		}
	}
}
