package host

import (
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/record"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	ma "github.com/multiformats/go-multiaddr"
)

// addressBook is libp2p's peerstore. With fixed set it keeps only addresses that
// remember was called with: identify and signed records of others teach it
// nothing.
type addressBook struct {
	peerstore.Peerstore
	peerstore.CertifiedAddrBook
	own   peer.ID
	fixed bool
	// circuits keeps records with other addresses than circuits back.
	circuits bool
}

func newAddressBook(cfg Config) (*addressBook, error) {
	ps, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, fmt.Errorf("peerstore: %w", err)
	}
	own, err := peer.IDFromPrivateKey(cfg.Identity)
	if err != nil {
		return nil, fmt.Errorf("peer id of the identity: %w", err)
	}
	cab, ok := peerstore.GetCertifiedAddrBook(ps)
	if !ok {
		return nil, fmt.Errorf("peerstore %T keeps no signed records", ps)
	}
	return &addressBook{Peerstore: ps, CertifiedAddrBook: cab, own: own, fixed: cfg.KnownOnly, circuits: cfg.CircuitsOnly}, nil
}

// remember stores addresses whatever the mode.
func (b *addressBook) remember(p peer.ID, addrs []ma.Multiaddr, ttl time.Duration) {
	b.Peerstore.AddAddrs(p, addrs, ttl)
}

// learns reports whether something heard about p may be stored.
func (b *addressBook) learns(p peer.ID) bool { return !b.fixed || p == b.own }

// AddAddr implements peerstore.AddrBook.
func (b *addressBook) AddAddr(p peer.ID, a ma.Multiaddr, ttl time.Duration) {
	b.AddAddrs(p, []ma.Multiaddr{a}, ttl)
}

// AddAddrs implements peerstore.AddrBook.
func (b *addressBook) AddAddrs(p peer.ID, addrs []ma.Multiaddr, ttl time.Duration) {
	if b.learns(p) {
		b.Peerstore.AddAddrs(p, addrs, ttl)
	}
}

// SetAddr implements peerstore.AddrBook.
func (b *addressBook) SetAddr(p peer.ID, a ma.Multiaddr, ttl time.Duration) {
	b.SetAddrs(p, []ma.Multiaddr{a}, ttl)
}

// SetAddrs implements peerstore.AddrBook.
func (b *addressBook) SetAddrs(p peer.ID, addrs []ma.Multiaddr, ttl time.Duration) {
	if b.learns(p) {
		b.Peerstore.SetAddrs(p, addrs, ttl)
	}
}

// UpdateAddrs implements peerstore.AddrBook. Identify uses it to shorten the life
// of what it stored before; what was remembered stays.
func (b *addressBook) UpdateAddrs(p peer.ID, oldTTL, newTTL time.Duration) {
	if b.learns(p) {
		b.Peerstore.UpdateAddrs(p, oldTTL, newTTL)
	}
}

// ConsumePeerRecord implements peerstore.CertifiedAddrBook.
func (b *addressBook) ConsumePeerRecord(e *record.Envelope, ttl time.Duration) (bool, error) {
	if b.fixed {
		own, err := peer.IDFromPublicKey(e.PublicKey)
		if err != nil {
			return false, fmt.Errorf("peer id of a signed record: %w", err)
		}
		if own != b.own {
			return false, nil
		}
	}
	return b.CertifiedAddrBook.ConsumePeerRecord(e, ttl)
}

// GetPeerRecord implements peerstore.CertifiedAddrBook, from which gossip takes what it tells of others.
func (b *addressBook) GetPeerRecord(p peer.ID) *record.Envelope {
	e := b.CertifiedAddrBook.GetPeerRecord(p)
	if b.circuits && e != nil && p != b.own && !passesOn(e) {
		return nil
	}
	return e
}
