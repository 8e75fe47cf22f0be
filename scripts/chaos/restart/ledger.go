package main

import (
	"fmt"
	"slices"

	ma "github.com/multiformats/go-multiaddr"
)

// place is a registration as its client knows it: one peer in one namespace. Each REGISTER there has another version, which the
// address it registers tells; version 0 is none.
type place struct {
	ns    string
	acked uint64
	// open are versions that were asked for after acked, and not answered: what became of them is the server's choice.
	open []uint64
}

// answered notes what the server acknowledged, refused or left open.
func (p *place) answered(version uint64, acked bool) {
	if acked {
		p.acked, p.open = version, nil
		return
	}
	p.open = append(p.open, version)
}

// verdict is what a check finds.
type verdict int

const (
	good verdict = iota
	lost
	stale
	undead
)

// check compares what there is, and goes on from it.
func (p *place) check(found uint64) verdict {
	acked := p.acked
	expected := found == acked || slices.Contains(p.open, found)
	p.acked, p.open = found, nil
	switch {
	case expected:
		return good
	case found == 0:
		return lost
	case acked == 0:
		return undead
	default:
		return stale
	}
}

// versionAddr is the address of a version.
func versionAddr(version uint64) ma.Multiaddr {
	return ma.StringCast(fmt.Sprintf("/ip4/10.%d.%d.%d/tcp/%d", version>>32&255, version>>24&255, version>>16&255, version&0xffff))
}

// addrVersion is the version of an address.
func addrVersion(addr ma.Multiaddr) (version uint64, err error) {
	var a, b, c, port uint64
	if _, err := fmt.Sscanf(addr.String(), "/ip4/10.%d.%d.%d/tcp/%d", &a, &b, &c, &port); err != nil {
		return 0, fmt.Errorf("address %s: %w", addr, err)
	}
	return a<<32 | b<<24 | c<<16 | port, nil
}
