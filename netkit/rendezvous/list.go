package rendezvous

import (
	"cmp"
	"slices"
	"time"
)

// Registrations lists at most so many of the registrations of a namespace, or of all
// if ns is empty: those that stand longest without a refresh first, whoever may see
// them otherwise.
func (s *Server) Registrations(ns string, most int) []Entry {
	now := s.reg.clock(time.Now())
	found, _ := s.reg.page(query{
		now: now, ns: ns, limit: most, budget: most, want: wanted{true, true},
		size: func(*entry) int { return 1 },
	})
	out := make([]Entry, 0, len(found))
	for _, e := range found {
		left := e.remaining(now)
		m := registerMessage{ns: &e.space.ns, record: e.packed.envelope(e.owner.id, e.primary), ttl: &left}
		// It was verified when it was taken. Ten thousand signatures are a second's work, each time that somebody looks.
		if one, err := readEntry(ns, &m, reopenRecord); err == nil {
			out = append(out, one)
		}
	}
	return out
}

// Crowd is how many registrations there are in a namespace.
type Crowd struct {
	Namespace     string `json:"namespace"`
	Registrations int    `json:"registrations"`
}

// Namespaces lists at most so many namespaces, those with the most registrations first.
func (s *Server) Namespaces(most int) []Crowd {
	var out []Crowd
	larger := func(a, b Crowd) int {
		return cmp.Or(cmp.Compare(b.Registrations, a.Registrations), cmp.Compare(a.Namespace, b.Namespace))
	}
	for i := range s.reg.shards {
		sh := &s.reg.shards[i]
		sh.mu.RLock()
		for ns, sp := range sh.spaces {
			out = append(out, Crowd{ns, sp.count()})
		}
		sh.mu.RUnlock()
		if len(out) > 2*most { // no more than that is held, however many there are
			slices.SortFunc(out, larger)
			out = out[:most]
		}
	}
	slices.SortFunc(out, larger)
	return out[:min(most, len(out))]
}
