package reach

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// gap is the least time between two questions to a server: stock servers
	// answer twelve a minute.
	gap = 6 * time.Second
	// firstRest is how long a server that failed or had too much to do is left
	// alone, doubled up to lastRest while it goes on.
	firstRest = time.Minute
	lastRest  = 30 * time.Minute
	// unwillingFor is how long a server that would not dial an address, as one
	// without IPv6, is not asked about it again.
	unwillingFor = time.Hour
)

// question is one to be put to a server.
type question struct {
	server peer.ID
	about  ma.Multiaddr
}

// outcome is what came of a question.
type outcome struct {
	reachable bool
	err       error // nil when the server has said whether
}

// server is a peer that answers AutoNAT v2.
type server struct {
	present   bool                 // connected; otherwise kept so that it is not asked too often when it is back
	about     ma.Multiaddr         // what it is being asked about; nil while it is not
	ready     time.Time            // when it may be asked next
	rest      time.Duration        // of the last failure; 0: the last question was answered
	unwilling map[string]time.Time // by address: until when
}

// answered notes what came of a question.
func (s *server) answered(now time.Time, about ma.Multiaddr, o outcome) {
	s.about = nil
	s.ready = now.Add(gap)
	switch {
	case errors.Is(o.err, ErrUnwilling):
		maps.DeleteFunc(s.unwilling, func(_ string, until time.Time) bool { return !now.Before(until) })
		s.unwilling[string(about.Bytes())] = now.Add(unwillingFor)
		s.rest = 0
	case o.err != nil:
		s.rest = min(max(2*s.rest, firstRest), lastRest)
		s.ready = now.Add(s.rest)
	default:
		s.rest = 0
	}
}

// declines reports whether s would not dial a.
func (s *server) declines(now time.Time, a ma.Multiaddr) bool {
	return now.Before(s.unwilling[string(a.Bytes())])
}

// resting reports whether s failed and is left alone.
func (s *server) resting(now time.Time) bool { return s.rest > 0 && now.Before(s.ready) }

// setServers replaces the servers. What too few of them stand for is due when one
// is new.
func (l *ledger) setServers(now time.Time, list []peer.ID) {
	for p, s := range l.servers {
		s.present = slices.Contains(list, p)
		if !s.present && s.about == nil && !now.Before(s.ready) {
			delete(l.servers, p)
		}
	}
	for _, p := range list {
		if l.servers[p] != nil {
			continue
		}
		l.servers[p] = &server{present: true, unwilling: make(map[string]time.Time)}
		for _, a := range l.addrs {
			if len(a.by(a.verdict)) < agreement {
				a.next = now
			}
		}
	}
}

// usable are the servers whose word about a counts. Where a NAT gives the node
// another address towards each peer, that peer may come in at it and nobody else:
// so the one that sees an address alone is not asked about it if there are others.
func (l *ledger) usable(now time.Time, a *address) []peer.ID {
	var out []peer.ID
	for _, p := range slices.Sorted(maps.Keys(l.servers)) {
		if s := l.servers[p]; s.present && !s.resting(now) && !s.declines(now, a.addr) {
			out = append(out, p)
		}
	}
	if len(out) > 1 {
		out = slices.DeleteFunc(out, a.seenOnlyBy)
	}
	return out
}

// seenOnlyBy reports whether p is the only peer that sees the node at a.
func (a *address) seenOnlyBy(p peer.ID) bool { return len(a.observers) == 1 && a.observers[0] == p }

// declined reports whether all servers there are would not dial a.
func (l *ledger) declined(now time.Time, a *address) bool {
	present := 0
	for _, s := range l.servers {
		if !s.present {
			continue
		}
		present++
		if !s.declines(now, a.addr) {
			return false
		}
	}
	return present > 0
}

// eligible are the servers that can still be asked about a in this round, now or a
// little later.
func (l *ledger) eligible(now time.Time, a *address) []peer.ID {
	usable := l.usable(now, a)
	out := slices.DeleteFunc(slices.Clone(usable), func(p peer.ID) bool {
		s := l.servers[p]
		return a.round[p] != nil || s.about != nil && s.about.Equal(a.addr)
	})
	if len(out) == 0 && len(usable) == 1 && a.turning(usable[0]) && l.alone(now, a, usable[0]) {
		return usable
	}
	return out
}

// alone reports whether no other server may come to be asked about a soon. One that
// has failed once may.
func (l *ledger) alone(now time.Time, a *address, p peer.ID) bool {
	for other, s := range l.servers {
		counts := s.present && s.rest <= firstRest && !s.declines(now, a.addr) && !a.seenOnlyBy(other)
		if other != p && counts {
			return false
		}
	}
	return true
}

// turning reports whether p, in this round, speaks against what was known of a but
// has not said so often enough to be believed alone.
func (a *address) turning(p peer.ID) bool {
	v := a.round[p]
	return v != nil && a.verdict != Unknown && v.reachable != (a.verdict == Reachable) && v.times < agreement
}

// asking is how many servers are being asked about a.
func (l *ledger) asking(a *address) int {
	n := 0
	for _, s := range l.servers {
		if s.about != nil && s.about.Equal(a.addr) {
			n++
		}
	}
	return n
}

// ask returns the questions that are due, which count as put, what follows from
// time having passed, and when to ask again; zero: when something happens.
func (l *ledger) ask(now time.Time) (due []question, events []Event, next time.Time) {
	wake := func(at time.Time) {
		if at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	byNeed := slices.Clone(l.addrs)
	slices.SortStableFunc(byNeed, func(a, b *address) int { return a.need() - b.need() })
	for _, a := range byNeed {
		if !a.open && !now.Before(a.next) && len(l.usable(now, a)) > 0 {
			l.begin(a)
		}
		events = append(events, l.conclude(now, a)...)
		if !a.open {
			wake(a.next)
			continue
		}
		for l.asking(a) < a.atOnce() {
			p, later := l.pick(now, a)
			wake(later)
			if p == "" {
				break
			}
			l.servers[p].about = a.addr
			due = append(due, question{p, a.addr})
		}
	}
	for _, s := range l.servers {
		wake(s.ready)
		for _, until := range s.unwilling {
			wake(until)
		}
	}
	return due, append(events, l.settle(now)...), next
}

// need orders addresses: those of which nothing is known come first.
func (a *address) need() int {
	if a.verdict == Unknown {
		return 0
	}
	return 1
}

// begin opens a round. Who is no server any more has no voice.
func (l *ledger) begin(a *address) {
	a.open, a.round = true, make(map[peer.ID]*vote)
	maps.DeleteFunc(a.voices, func(p peer.ID, _ bool) bool { return l.servers[p] == nil })
}

// atOnce is how many servers are asked about a at the same time: one is enough to
// confirm what is known.
func (a *address) atOnce() int {
	if a.verdict != Unknown && len(a.round) == 0 && len(a.by(a.verdict)) >= agreement {
		return 1
	}
	return agreement
}

// pick chooses a server at random to be asked about a now; if there is none, the
// time when there will be.
func (l *ledger) pick(now time.Time, a *address) (chosen peer.ID, later time.Time) {
	list := l.eligible(now, a)
	for _, i := range l.order(len(list)) {
		p := list[i]
		s := l.servers[p]
		ready := s.ready
		if v := a.round[p]; v != nil && ready.Before(v.last.Add(askAgain)) {
			ready = v.last.Add(askAgain)
		}
		switch {
		case s.about != nil: // an answer is under way, after which we come back
		case !now.Before(ready):
			return p, time.Time{}
		case later.IsZero() || ready.Before(later):
			later = ready
		}
	}
	return "", later
}
