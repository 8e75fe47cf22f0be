package rendezvous

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// admit checks a REGISTER before the registry sees it, and returns the claim to
// put. The claim's namespace is set even when the request is refused.
func (s *Server) admit(p peer.ID, from prefix, m *registerMessage) (claim, *StatusError) {
	limits := s.reg.limits.Load()
	c := claim{entryKey: entryKey{peer: p}, from: from, ttl: limits.DefaultTTL}
	if m.ns == nil || *m.ns == "" || len(*m.ns) > maxNamespace {
		return c, refusal(reasonNamespace, "namespace must have 1 to %d bytes", maxNamespace)
	}
	c.ns = *m.ns
	if why := s.allow(p, c.ns); why != nil {
		return c, why
	}
	if m.ttl != nil {
		// Compared in seconds, which time.Duration may be too small for.
		if *m.ttl > uint64(limits.MaxTTL/time.Second) {
			return c, s.reg.checkTTL(limits.MaxTTL + 1)
		}
		c.ttl = time.Duration(*m.ttl) * time.Second
	}
	// Before the signatures, which cost far more.
	if why := s.reg.checkTTL(c.ttl); why != nil {
		return c, why
	}
	if m.record == nil {
		return c, refusal(reasonRecord, "no record")
	}
	if why := s.admitRecords(&c, m, limits); why != nil {
		return c, why
	}
	if c.kinds&^limits.RefuseAddrs == 0 {
		return c, refusal(reasonAddrs, "no address of a kind that is accepted here")
	}
	return c, nil
}

// admitRecords verifies the records of a REGISTER. Those that the peer's last
// registration already has were verified when it came: the registrations are
// the cache of verified envelopes, as large as what they hold and warm after a
// restart.
func (s *Server) admitRecords(c *claim, m *registerMessage, limits *Limits) *StatusError {
	if newest := s.reg.newest(c.peer); newest != nil && newest.same(c, m) {
		s.counters.cacheHits.Add(1)
		return nil
	}
	s.counters.cacheMisses.Add(1)
	first, why := openAdmitted(c.peer, m.record, limits)
	if why != nil {
		return why
	}
	var records [2][]byte
	take := func(rec *Record, envelope []byte) {
		records[rec.Flavour] = envelope
		c.recordSeqs[rec.Flavour] = rec.Seq
		for _, addr := range rec.Addrs {
			c.kinds |= kindOf(addr, rec.Peer)
		}
	}
	c.primary = first.Flavour
	take(first, m.record)
	if m.other != nil {
		second, why := openAdmitted(c.peer, m.other, limits)
		if why != nil {
			return why
		}
		if second.Flavour == first.Flavour {
			return refusal(reasonRecord, "two records of one flavour")
		}
		take(second, m.other)
	}
	c.packed = pack(c.peer, records)
	return nil
}

// same reports whether a REGISTER has the records of e and no others, and
// completes its claim if so.
func (e *entry) same(c *claim, m *registerMessage) bool {
	id := e.owner.id
	if (m.other != nil) != (e.packed.has(Standard) && e.packed.has(Legacy)) {
		return false
	}
	equal := func(f Flavour, envelope []byte) bool { return e.packed.part(f).is(envelope, id, f) }
	c.primary = Standard
	if !equal(Standard, m.record) {
		if !equal(Legacy, m.record) {
			return false
		}
		c.primary = Legacy
	}
	if m.other != nil && !equal(c.primary.other(), m.other) {
		return false
	}
	c.packed, c.kinds = e.packed, e.kinds
	for f := range c.recordSeqs {
		c.recordSeqs[f] = e.packed.recordSeq(id, Flavour(f))
	}
	return true
}

// kindOf is the kind of an address of a peer, or 0 for one of another peer.
func kindOf(addr ma.Multiaddr, self peer.ID) AddrKinds {
	addr = stripPeer(addr, self)
	if addr == nil {
		return 0
	}
	switch addrRank(addr) {
	case 0:
		return AddrPublic
	case 1:
		return AddrRelayed
	default:
		return AddrPrivate
	}
}

// openAdmitted verifies a record that peer p sent about itself.
func openAdmitted(p peer.ID, envelope []byte, limits *Limits) (*Record, *StatusError) {
	if len(envelope) > limits.RecordBytes {
		return nil, refusal(reasonRecord, "record is larger than %d bytes", limits.RecordBytes)
	}
	rec, err := OpenRecord(envelope)
	switch {
	case err != nil:
		return nil, refusal(reasonRecord, "%v", err)
	case rec.Peer != p:
		return nil, refusal(reasonForeignRecord, "record is about another peer")
	case len(rec.Addrs) == 0:
		return nil, refusal(reasonAddrs, "record has no addresses")
	case limits.CircuitsOnly && slices.ContainsFunc(rec.Addrs, func(a ma.Multiaddr) bool { return addrRank(a) != 1 }):
		return nil, refusal(reasonAddrs, "only circuit addresses are handed out here, and the record has others")
	case len(rec.Addrs) > limits.RecordAddrs:
		return nil, refusal(reasonAddrs, "record has more than %d addresses", limits.RecordAddrs)
	}
	return rec, nil
}
