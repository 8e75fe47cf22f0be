package rendezvous

import "time"

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
		if one, err := readEntry(ns, &m); err == nil { // it was read when it was taken
			out = append(out, one)
		}
	}
	return out
}
