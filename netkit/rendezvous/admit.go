package rendezvous

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// admit checks a REGISTER before the registry sees it, and returns the entry
// to put. The entry's namespace is set even when the request is refused.
func (s *Server) admit(p peer.ID, m *registerMessage) (*entry, *StatusError) {
	e := &entry{entryKey: entryKey{peer: p}, ttl: s.cfg.Limits.DefaultTTL}
	if m.ns == nil || *m.ns == "" || len(*m.ns) > maxNamespace {
		return e, refusal(StatusInvalidNamespace, "namespace must have 1 to %d bytes", maxNamespace)
	}
	e.ns = *m.ns
	if why := s.allow(p, e.ns); why != nil {
		return e, why
	}
	if m.ttl != nil {
		// Compared in seconds, which time.Duration may be too small for.
		if *m.ttl > uint64(s.cfg.Limits.MaxTTL/time.Second) {
			return e, s.reg.checkTTL(s.cfg.Limits.MaxTTL + 1)
		}
		e.ttl = time.Duration(*m.ttl) * time.Second
	}
	// Before the signatures, which cost far more.
	if why := s.reg.checkTTL(e.ttl); why != nil {
		return e, why
	}
	if m.record == nil {
		return e, refusal(StatusInvalidSignedPeerRecord, "no record")
	}
	first, why := s.openRecord(p, m.record)
	if why != nil {
		return e, why
	}
	e.primary = first.Flavour
	e.set(first, m.record)
	if m.other != nil {
		second, why := s.openRecord(p, m.other)
		if why != nil {
			return e, why
		}
		if second.Flavour == first.Flavour {
			return e, refusal(StatusInvalidSignedPeerRecord, "two records of one flavour")
		}
		e.set(second, m.other)
	}
	return e, nil
}

func (e *entry) set(rec *Record, envelope []byte) {
	e.records[rec.Flavour] = envelope
	e.recordSeqs[rec.Flavour] = rec.Seq
}

// openRecord verifies a record that peer p sent about itself.
func (s *Server) openRecord(p peer.ID, envelope []byte) (*Record, *StatusError) {
	if len(envelope) > s.cfg.Limits.RecordBytes {
		return nil, refusal(StatusInvalidSignedPeerRecord, "record is larger than %d bytes", s.cfg.Limits.RecordBytes)
	}
	rec, err := OpenRecord(envelope)
	switch {
	case err != nil:
		return nil, refusal(StatusInvalidSignedPeerRecord, "%v", err)
	case rec.Peer != p:
		return nil, refusal(StatusNotAuthorized, "record is about another peer")
	case len(rec.Addrs) == 0:
		return nil, refusal(StatusInvalidSignedPeerRecord, "record has no addresses")
	case len(rec.Addrs) > s.cfg.Limits.RecordAddrs:
		return nil, refusal(StatusInvalidSignedPeerRecord, "record has more than %d addresses", s.cfg.Limits.RecordAddrs)
	}
	return rec, nil
}
