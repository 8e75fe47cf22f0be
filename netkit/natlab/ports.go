package natlab

import "math/rand/v2"

const (
	// lowestPort keeps translated ports out of the well-known range, as
	// RFC 4787 REQ-3a asks for inside ports that are not in it.
	lowestPort = 1024
	// firstSequential is far from ports that programs bind, so that a
	// sequential NAT is never mistaken for one that preserves ports.
	firstSequential = 40000
)

// allocator chooses external ports.
type allocator struct {
	kind Ports
	next uint16
	rng  *rand.Rand
}

// pick returns the first free port at or above where the kind starts looking,
// wrapping round; false when none is free.
func (a *allocator) pick(inner uint16, free func(uint16) bool) (uint16, bool) {
	port := a.start(inner)
	for range 1<<16 - lowestPort {
		if free(port) {
			if a.kind == Sequential {
				a.next = above(port)
			}
			return port, true
		}
		port = above(port)
	}
	return 0, false
}

func (a *allocator) start(inner uint16) uint16 {
	switch a.kind {
	case Sequential:
		return a.next
	case Random:
		return uint16(lowestPort + a.rng.IntN(1<<16-lowestPort))
	default:
		return inner
	}
}

// above is the next port, wrapping round to the lowest.
func above(port uint16) uint16 {
	return max(port+1, lowestPort)
}
