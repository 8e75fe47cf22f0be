// Package relay serves and uses circuit relay v2 (libp2p/specs
// relay/circuit-v2.md): a relay that works on any network, reservations that are
// kept alive, and the words for what a relay refused.
package relay

import (
	"fmt"
	"time"

	corehost "github.com/libp2p/go-libp2p/core/host"
	librelay "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
)

// Limits bound what a relay gives away. Zero fields take their default.
type Limits struct {
	// Reservations is the most peers reachable through the relay at once; 0 means
	// 1,024.
	Reservations int
	// ReservationsPerIP is the most reservations from one IP address; 0 means 256,
	// because a carrier's NAT puts many peers behind one address.
	ReservationsPerIP int
	// CircuitsPerPeer is the most circuits open to or from one peer; 0 means 64.
	CircuitsPerPeer int
	// Duration is how long a circuit may last; 0 means 2 min.
	Duration time.Duration
	// Bytes is how much a circuit may carry each way; 0 means 128 KiB.
	Bytes int64
	// Unlimited lifts Duration and Bytes, so that circuits are no longer marked
	// limited.
	Unlimited bool
}

// Defaults of Limits. Duration and bytes are those of the specification's
// reference relay.
const (
	defaultReservations      = 1024
	defaultReservationsPerIP = 256
	defaultCircuitsPerPeer   = 64
	defaultDuration          = 2 * time.Minute
	defaultBytes             = 128 << 10
	reservationTTL           = time.Hour
	// copyBuffer is eight times the library's, which spends most of its time in
	// system calls.
	copyBuffer = 16 << 10
)

// WithDefaults returns l with every zero field filled.
func (l Limits) WithDefaults() Limits {
	fill := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	fill(&l.Reservations, defaultReservations)
	fill(&l.ReservationsPerIP, defaultReservationsPerIP)
	fill(&l.CircuitsPerPeer, defaultCircuitsPerPeer)
	if l.Duration == 0 {
		l.Duration = defaultDuration
	}
	if l.Bytes == 0 {
		l.Bytes = defaultBytes
	}
	return l
}

// Server is a running relay.
type Server struct {
	relay  *librelay.Relay
	limits Limits
}

// New starts relaying on h at once, whatever is known about h's reachability.
func New(h corehost.Host, l Limits) (*Server, error) {
	l = l.WithDefaults()
	res := librelay.Resources{
		Limit:                 &librelay.RelayLimit{Duration: l.Duration, Data: l.Bytes},
		ReservationTTL:        reservationTTL,
		MaxReservations:       l.Reservations,
		MaxCircuits:           l.CircuitsPerPeer,
		BufferSize:            copyBuffer,
		MaxReservationsPerIP:  l.ReservationsPerIP,
		MaxReservationsPerASN: l.Reservations,
	}
	if l.Unlimited {
		res.Limit = nil
	}
	r, err := librelay.New(h, librelay.WithResources(res),
		// Without this a relay on a LAN or on loopback hands out no addresses, and
		// rust-libp2p clients refuse such a reservation.
		librelay.WithReservationAddressFilter(func(ma.Multiaddr) bool { return true }))
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	return &Server{r, l}, nil
}

// Limits returns the limits in force.
func (s *Server) Limits() Limits { return s.limits }

// Close ends the relay and with it every reservation.
func (s *Server) Close() error { return s.relay.Close() }
