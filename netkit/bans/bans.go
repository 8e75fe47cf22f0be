// Package bans is the book of whom the operator of a node keeps out, peers and networks, for a time or for good. It is a file in the
// state folder, so that a ban outlives the process.
package bans

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"dibber/netkit/store"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Most is how many bans a book has room for.
const Most = 10_000

// ErrFull means that the book has Most bans.
var ErrFull = fmt.Errorf("there are %d bans already", Most)

// Ban is one peer or one network that is kept out.
type Ban struct {
	Peer    *peer.ID      `json:"peer"`    // null: a network
	Network *netip.Prefix `json:"network"` // null: a peer
	Since   time.Time     `json:"since"`
	Until   *time.Time    `json:"until"`  // null: for good
	Reason  *string       `json:"reason"` // the operator's words; null: none were given
}

// Of reads whom a ban is for: a peer id, an IP address or a network as in 192.0.2.0/24, whose other bits are cleared.
func Of(text string) (Ban, error) {
	if p, err := peer.Decode(text); err == nil {
		return Ban{Peer: &p}, nil
	}
	if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return Ban{Network: new(netip.PrefixFrom(ip, ip.BitLen()))}, nil
	}
	if n, err := netip.ParsePrefix(text); err == nil && !n.Addr().Is4In6() {
		return Ban{Network: new(n.Masked())}, nil
	}
	return Ban{}, fmt.Errorf("%q is neither a peer id nor an IP address or a network", text)
}

// Subject is whom the ban is for, as [Of] reads it.
func (b Ban) Subject() string {
	if b.Peer != nil {
		return b.Peer.String()
	}
	return b.Network.String()
}

// over reports whether the ban has come to its end.
func (b Ban) over(now time.Time) bool { return b.Until != nil && !now.Before(*b.Until) }

// valid reports whether a ban that was read is for exactly one.
func (b Ban) valid() bool {
	return (b.Peer != nil) != (b.Network != nil) && (b.Peer == nil || b.Peer.Validate() == nil) && (b.Network == nil || b.Network.IsValid())
}

// Book is a file of bans. It may be used by several goroutines.
type Book struct {
	file string

	mu   sync.Mutex // guards following
	list []Ban      // the oldest first
}

// document is what the file holds.
type document struct {
	Bans []Ban `json:"bans"`
}

// Open reads the book in a file, which need not exist yet. One that cannot be read is an error: nobody is let in by mistake.
func Open(file string) (*Book, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return &Book{file: file}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read bans: %w", err)
	}
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("read bans in %s: %w", file, err)
	}
	for i, b := range d.Bans {
		if !b.valid() {
			return nil, fmt.Errorf("read bans in %s: number %d is of neither a peer nor a network", file, i+1)
		}
	}
	return &Book{file: file, list: d.Bans}, nil
}

// List are the bans in force, the oldest first.
func (b *Book) List(now time.Time) []Ban {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.inForce(now)
}

func (b *Book) inForce(now time.Time) []Ban {
	return slices.DeleteFunc(slices.Clone(b.list), func(one Ban) bool { return one.over(now) })
}

// Add enters a ban, in place of one of the same subject, and returns when it is on disk.
func (b *Book) Add(one Ban, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := slices.DeleteFunc(b.inForce(now), func(o Ban) bool { return o.Subject() == one.Subject() })
	if len(list) >= Most {
		return ErrFull
	}
	return b.write(append(list, one))
}

// Remove strikes out the ban of a subject, which it returns; false if there is none in force.
func (b *Book) Remove(subject string, now time.Time) (Ban, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.inForce(now)
	i := slices.IndexFunc(list, func(o Ban) bool { return o.Subject() == subject })
	if i < 0 {
		return Ban{}, false, nil
	}
	gone := list[i]
	return gone, true, b.write(slices.Delete(list, i, i+1))
}

// write replaces the file, whole or not at all.
func (b *Book) write(list []Ban) error {
	data, err := json.MarshalIndent(document{list}, "", "  ")
	if err != nil {
		return fmt.Errorf("write bans: %w", err)
	}
	if err := store.Replace(b.file, append(data, '\n')); err != nil {
		return fmt.Errorf("write bans: %w", err)
	}
	b.list = list
	return nil
}
