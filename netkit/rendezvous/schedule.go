package rendezvous

import (
	"slices"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"dibber/netkit/retry"
)

// settle is how long a change of addresses is left to settle: addresses
// rarely come alone.
const settle = time.Second

// schedule decides when a Registrar registers. It is pure: time and chance are
// arguments.
type schedule struct {
	// debounce is the least time between registrations because of changed
	// addresses.
	debounce time.Duration
	// again paces attempts after failures and losses.
	again retry.Schedule
	// chance returns a number in [0, 1).
	chance func() float64

	// next is when to register; zero while there is nothing to do.
	next time.Time
	// registered are the addresses of the last registration, which holds
	// until expires.
	registered []ma.Multiaddr
	expires    time.Time
	// changing is set when next was chosen for changed addresses, and changedAt
	// is when that was last so.
	changing  bool
	changedAt time.Time
	// failing is set after a failed attempt, down while the connection to the
	// server is known to be lost.
	failing, down bool
	// acknowledged is when the server last said that it has the registration, and
	// missing is set once that is not known any more.
	acknowledged time.Time
	missing      bool
}

// live reports whether the registration has not come to its end at now.
func (s *schedule) live(now time.Time) bool { return s.expires.After(now) }

// held reports whether the server is believed to have the registration.
func (s *schedule) held(now time.Time) bool { return s.live(now) && !s.missing }

// start makes the first attempt due.
func (s *schedule) start(now time.Time) { s.next = now }

// changed takes note of the addresses there are to announce now.
func (s *schedule) changed(now time.Time, addrs []ma.Multiaddr) {
	switch {
	case len(addrs) == 0, s.failing, s.down, s.missing && !s.next.IsZero(), s.held(now) && sameAddrs(addrs, s.registered):
		// Nothing to say, or back-off decides when to say it.
	case s.held(now):
		at := now.Add(settle)
		if again := s.changedAt.Add(s.debounce); again.After(at) {
			at = again
		}
		s.sooner(at)
		s.changing = true
	default:
		s.sooner(now)
	}
}

// attempted takes note that registering is tried now.
func (s *schedule) attempted(now time.Time) {
	s.again.Begin(now)
	if s.changing {
		s.changedAt = now
	}
	s.changing = false
	s.next = time.Time{}
}

// waiting takes note that the server is connected and there is no address to
// register: the next change decides.
func (s *schedule) waiting(now time.Time) {
	s.again.Succeeded(now)
	s.failing, s.down = false, false
	s.next = time.Time{}
}

// done takes note of a registration, and makes its refresh due at 50 to 70 %
// of its TTL.
func (s *schedule) done(now time.Time, ttl time.Duration, addrs []ma.Multiaddr) {
	s.again.Succeeded(now)
	s.failing, s.down = false, false
	s.registered, s.acknowledged, s.missing = addrs, now, false
	s.expires = now.Add(ttl)
	s.next = now.Add(time.Duration(float64(ttl) * (0.5 + 0.2*s.chance())))
}

// failed takes note of a failed attempt.
func (s *schedule) failed(now time.Time) {
	s.failing = true
	s.next = s.again.Failed(now)
}

// lost takes note that the connection to the server is gone. The server may
// be, too, and its registrations with it. It reports whether one is missing now
// that was not before.
func (s *schedule) lost(now time.Time) bool {
	miss := s.miss(now)
	s.down = true
	return miss
}

// dropped takes note that a server which is connected was seen at that moment
// without the registration. It reports whether it is missing now and was not before.
func (s *schedule) dropped(now, seen time.Time) bool {
	return s.held(now) && !seen.Before(s.acknowledged) && s.miss(now)
}

func (s *schedule) miss(now time.Time) bool {
	held := s.held(now)
	s.missing = true
	if !s.down && !s.failing {
		s.sooner(s.again.Lost(now))
	}
	return held
}

// found takes note that the server is connected again.
func (s *schedule) found(now time.Time) {
	if s.down || s.failing {
		s.sooner(s.again.Hint(now))
	}
	s.down = false
}

// backoff is how long to wait after n failures in a row, n > 0, from first on
// and up to last. Chance, in [0, 1), spreads it by a quarter to either side so
// that the clients of a restarted server do not come at once.
func backoff(first, last time.Duration, n int, chance float64) time.Duration {
	wait := last
	if doublings := n - 1; doublings < 20 {
		wait = min(wait, first<<doublings)
	}
	return time.Duration(float64(wait) * (0.75 + 0.5*chance))
}

func (s *schedule) sooner(at time.Time) {
	if s.next.IsZero() || at.Before(s.next) {
		s.next = at
	}
}

// sameAddrs compares addresses without their order.
func sameAddrs(a, b []ma.Multiaddr) bool {
	return slices.Equal(addrKeys(a), addrKeys(b))
}

func addrKeys(addrs []ma.Multiaddr) []string {
	keys := make([]string, len(addrs))
	for i, addr := range addrs {
		keys[i] = string(addr.Bytes())
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
