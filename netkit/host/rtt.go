package host

import (
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-yamux/v5"
	"github.com/quic-go/quic-go"
)

// RTT is the round-trip time of a connection as its own protocol measures it, without a
// packet for the purpose: smoothed by QUIC (RFC 9002, section 5.3), or that of the last
// ping of yamux. Over a relay it is that of the whole path. It is false where nothing
// was measured yet, and for other multiplexers.
func RTT(c network.Conn) (rtt time.Duration, known bool) {
	var q *quic.Conn
	var y *yamux.Session
	switch {
	case c.As(&q):
		rtt = q.ConnectionStats().SmoothedRTT
	case c.As(&y):
		rtt = y.RTT()
	}
	return rtt, rtt > 0
}
