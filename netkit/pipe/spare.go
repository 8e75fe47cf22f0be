package pipe

import (
	"math"
	"time"

	"dibber/netkit/host"

	"github.com/libp2p/go-libp2p/core/network"
)

// A relay ends a circuit that has carried as much as it allows, and a fast sender gets there
// before the two sides have a direct connection, which they agree on over that circuit.
const (
	// spareShare is which part of what a relay allows is sent at once; the rest waits.
	spareShare = 4
	// spareRest is how many times as much may follow, if nothing comes after.
	spareRest = 2
	// spareFirst is how long it waits for a direct connection: as long as a punch may take,
	// and another. Where that was in vain, spareAgain is how long on each further circuit.
	spareFirst = 5 * time.Second
	spareAgain = time.Second
)

// spareOn is how many bytes may be sent on c at once; without a limit as many as there are.
func spareOn(n *host.Node, c network.Conn) int {
	u, limited := n.CircuitUse(c)
	if !limited || u.Bytes == 0 {
		return math.MaxInt
	}
	return int(min(u.Bytes/spareShare, math.MaxInt))
}

// spare has a stream send no more than its budget for a while. The returned function ends
// that.
func (s *Session) spare(a *attachment) (stop func()) {
	if a.budget == math.MaxInt {
		return func() {}
	}
	s.mu.Lock()
	wait := spareFirst
	if s.vain {
		wait = spareAgain
	}
	s.mu.Unlock()
	timer := time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.vain = s.vain || a.budget <= 0
		a.budget = math.MaxInt
		s.changed()
	})
	return func() { timer.Stop() }
}
