package host

import (
	"context"
	"testing"

	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"
)

// TestPunchedAddressesStay: an identify that ends while a hole is punched drops what is
// kept for a time of its own, and not the addresses that are punched to.
func TestPunchedAddressesStay(t *testing.T) {
	n, other := quicHost(t), quicHost(t)
	at := []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/udp/1/quic-v1")}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.DialTogether(ctx, other.ID(), at, true); err == nil {
		t.Fatal("dialled in no time")
	}
	n.Peerstore().UpdateAddrs(other.ID(), peerstore.TempAddrTTL, 0) // as identify does
	if got := n.Peerstore().Addrs(other.ID()); len(got) != 1 {
		t.Errorf("addresses %v", got)
	}
}
