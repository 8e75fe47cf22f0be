package rendezvous

import (
	"context"
	"slices"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Sealer keeps the record that a host last sent to a server and has it sent again
// until the addresses change, or the flavours: a server need not verify what it
// has. A record sealed anew has a higher number than those before; after a restart
// too, since the clock gives it.
//
// The registrars of one host at one server must share one: the server refuses a
// record that is older than another it got before, and each would have to seal anew
// after the other.
type Sealer struct {
	// turn is taken from the sealing of a record to its answer; it guards last.
	turn chan struct{}
	last *sealed
}

// NewSealer returns a sealer that has sent nothing.
func NewSealer() *Sealer { return &Sealer{turn: make(chan struct{}, 1)} }

// take waits for the turn of the caller, who gives it back.
func (s *Sealer) take(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Sealer) giveBack() { <-s.turn }

// sealed is a record in one or both flavours.
type sealed struct {
	// chosen are the addresses to register, of which addrs are those that fit.
	chosen, addrs []ma.Multiaddr
	flavours      []Flavour
	envelopes     [2][]byte
}

// of reports whether the record is what would be sealed now.
func (r *sealed) of(chosen []ma.Multiaddr, flavours []Flavour) bool {
	return r != nil && sameAddrs(r.chosen, chosen) && slices.Equal(r.flavours, flavours)
}

// seal seals a record of h with a number that no record before had.
func seal(h host.Host, chosen, addrs []ma.Multiaddr, flavours []Flavour) (*sealed, error) {
	r := &sealed{chosen: chosen, addrs: addrs, flavours: flavours}
	seq := peer.TimestampSeq()
	for i, flavour := range flavours {
		envelope, err := SealRecord(h.Peerstore().PrivKey(h.ID()), seq, addrs, flavour)
		if err != nil {
			return nil, err
		}
		r.envelopes[i] = envelope
	}
	return r, nil
}
