package relay

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Config sets up a [Server]. The zero value relays for everyone within the
// default limits.
type Config struct {
	// Limits bound what the relay gives away; [Server.SetLimits] replaces them.
	Limits Limits
	// TTL is how long a reservation lasts unless it is renewed; 0 means 1 h.
	TTL time.Duration
	// Requests is how many requests a second each peer may make, and Burst how
	// many at once; 0 means 20 and 128.
	Requests float64
	Burst    int
	// AllowReserve decides whether p, connected from this address, may have a
	// reservation; nil allows everyone. It must not block.
	AllowReserve func(p peer.ID, from ma.Multiaddr) bool
	// AllowConnect decides whether src, connected from this address, may open a
	// circuit to dst; nil allows everyone. It must not block.
	AllowConnect func(src peer.ID, from ma.Multiaddr, dst peer.ID) bool
	// AddrFilter chooses which of the host's direct addresses are told to those
	// who reserve; nil tells all, so that a relay on a LAN or on loopback is of
	// use (rust-libp2p refuses a reservation without addresses).
	AddrFilter func(a ma.Multiaddr) bool
	// NoIntro carries no offers, in which peers tell each other their addresses.
	NoIntro bool
	// On is told of events, from several goroutines, those of one reservation or
	// circuit in order; nil tells nobody. It must not block nor call the Server.
	On func(Event)
}

const (
	defaultTTL      = time.Hour
	defaultRequests = 20
	defaultBurst    = 128
	// ratedPeers is how many peers the limit of requests remembers.
	ratedPeers = 16 << 10
)

// The tags by which the connection manager spares a relay's clients.
const (
	reservationTag, reservationTagValue = "relay-reservation", 10
	circuitTag, circuitTagValue         = "relay-circuit", 20
)

func (c Config) withDefaults() (Config, error) {
	limits, err := c.Limits.WithDefaults()
	if err != nil {
		return c, err
	}
	c.Limits = limits
	if c.TTL == 0 {
		c.TTL = defaultTTL
	}
	if c.Requests == 0 {
		c.Requests = defaultRequests
	}
	if c.Burst == 0 {
		c.Burst = defaultBurst
	}
	return c, nil
}
