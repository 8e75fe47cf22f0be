package rendezvous

import (
	"context"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protowire"

	"dibber/netkit/wire"
)

// entryOverhead is what an entry costs in an answer besides namespace and
// records: tags, lengths and TTL.
const entryOverhead = 40

// choice is which records a reader is given.
type choice struct {
	// flavour is the only one, or with both the one in the specification's
	// own field.
	flavour Flavour
	both    bool
}

func (c choice) wanted() wanted {
	if c.both {
		return wanted{true, true}
	}
	var w wanted
	w[c.flavour] = true
	return w
}

func (s *Server) discover(ctx context.Context, req wire.Request, m *discoverMessage) []byte {
	ns, began := *orEmpty(m.ns), time.Now()
	after, why := s.checkDiscover(ctx, req.Peer, ns, m.cookie)
	if why != nil {
		return s.refuse(req.Peer, typeDiscover, ns, why)
	}
	records := s.choose(ctx, req, ns, m)
	now := s.reg.clock(time.Now())
	found, last := s.reg.page(s.query(req.Peer, ns, after, s.pageLimit(m.limit), records, now))
	reply := discoverResponse{cookie: s.key.Load().mint(ns, last), status: new(StatusOK)}
	reply.more = ns == "" && len(found) == 0 && last > after
	reply.encoded = appendEntries(nil, fieldDiscoverRegistrations, found, records, now)
	s.counters.count(typeDiscover, StatusOK)
	s.emit(Event{Kind: EventDiscover, Peer: req.Peer, Namespace: ns, Count: len(found), Took: time.Since(began)})
	return message{kind: new(typeDiscoverResponse), discoverResponse: &reply}.encode()
}

// query asks for what a reader may be shown.
func (s *Server) query(p peer.ID, ns string, after uint64, limit int, records choice, now time.Duration) query {
	return query{
		now: now, ns: ns, after: after, limit: limit, budget: pageBytes, want: records.wanted(),
		size: func(e *entry) int {
			if ns == "" && s.allow(p, e.space.ns) != nil {
				return 0
			}
			return records.cost(e)
		},
	}
}

// checkDiscover refuses a bad DISCOVER, and returns the seq its cookie stands
// for.
func (s *Server) checkDiscover(ctx context.Context, p peer.ID, ns string, cookie []byte) (after uint64, why *StatusError) {
	if len(ns) > maxNamespace {
		return 0, refusal(reasonNamespace, "namespace is longer than %d bytes", maxNamespace)
	}
	if why := s.allow(p, ns); why != nil {
		return 0, why
	}
	if why := s.backend.fresh(ctx); why != nil {
		return 0, why
	}
	if len(cookie) == 0 {
		return 0, nil
	}
	after, ok := s.key.Load().open(ns, cookie)
	if !ok || after > s.reg.lastSeq() {
		return 0, refusal(reasonCookie, "cookie is not of this server and namespace")
	}
	return after, s.backend.remembers(ctx, after)
}

func (s *Server) pageLimit(asked *uint64) int {
	limits := s.reg.limits.Load()
	if asked == nil || *asked == 0 {
		return limits.PageDefault
	}
	return int(min(*asked, uint64(limits.PageMax)))
}

// cost is the size of an entry in an answer, at least, or 0 when it has no
// record the reader wants.
func (c choice) cost(e *entry) int {
	size := 0
	for f := range 2 {
		if c.both || Flavour(f) == c.flavour {
			size += e.packed.part(Flavour(f)).size(Flavour(f))
		}
	}
	if size == 0 {
		return 0
	}
	return entryOverhead + len(e.space.ns) + size
}

// appendEntries appends entries as registrations in field num.
func appendEntries(out []byte, num protowire.Number, entries []*entry, c choice, now time.Duration) []byte {
	size := 0
	for _, e := range entries {
		size += c.cost(e)
	}
	out = slices.Grow(out, size)
	for _, e := range entries {
		out = c.appendEntry(out, num, e, now)
	}
	return out
}

// appendEntry appends an entry as a registration in field num.
func (c choice) appendEntry(out []byte, num protowire.Number, e *entry, now time.Duration) []byte {
	first, second := c.flavour, c.flavour.other()
	if c.both && !e.packed.has(first) {
		first, second = second, first
	}
	one, other := e.packed.part(first), part{}
	if c.both {
		other = e.packed.part(second)
	}
	ttl := e.remaining(now)
	size := 1 + protowire.SizeBytes(len(e.space.ns)) + 1 + protowire.SizeBytes(one.size(first)) + 1 + protowire.SizeVarint(ttl)
	if other.shape != shapeNone {
		size += protowire.SizeTag(fieldRegisterOther) + protowire.SizeBytes(other.size(second))
	}
	out = protowire.AppendVarint(protowire.AppendTag(out, num, protowire.BytesType), uint64(size))
	out = appendString(out, fieldRegisterNS, &e.space.ns)
	out = protowire.AppendTag(out, fieldRegisterRecord, protowire.BytesType)
	out = one.appendTo(protowire.AppendVarint(out, uint64(one.size(first))), e.owner.id, first)
	out = appendUint(out, fieldRegisterTTL, &ttl)
	if other.shape != shapeNone {
		out = protowire.AppendTag(out, fieldRegisterOther, protowire.BytesType)
		out = other.appendTo(protowire.AppendVarint(out, uint64(other.size(second))), e.owner.id, second)
	}
	return out
}

// choose chooses the records a requester is given. One it cannot read would
// cost a rust client the whole answer, so they are never mixed, save for a
// requester that asked for both.
func (s *Server) choose(ctx context.Context, req wire.Request, ns string, m *discoverMessage) choice {
	if m.both {
		return choice{both: true}
	}
	if newest := s.reg.newest(req.Peer); newest != nil {
		return choice{flavour: newest.primary}
	}
	if legacyOnly("", ns) || legacyOnly(s.agent(ctx, req), ns) {
		return choice{flavour: Legacy}
	}
	return choice{}
}
