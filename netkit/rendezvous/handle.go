package rendezvous

import (
	"context"
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protowire"

	"dibber/netkit/store"
	"dibber/netkit/wire"
)

// handle answers one request. Every request that is not understood gets a
// status too; only UNREGISTER has no answer.
func (s *Server) handle(ctx context.Context, req wire.Request) ([]byte, error) {
	m, err := decodeMessage(req.Body)
	kind, known := requestType(m, err)
	if !known {
		return s.refuse(req.Peer, typeRegister, "", refusal(reasonUnknownType, "unknown message type")), nil
	}
	if err != nil {
		return s.refuse(req.Peer, kind, "", decodeRefusal(kind, err)), nil
	}
	switch kind {
	case typeRegister:
		return s.register(ctx, req, orEmpty(m.register)), nil
	case typeUnregister:
		return nil, s.unregister(ctx, req.Peer, orEmpty(m.unregister))
	default:
		return s.discover(ctx, req, orEmpty(m.discover)), nil
	}
}

func orEmpty[T any](v *T) *T {
	if v == nil {
		return new(T)
	}
	return v
}

// requestType tells which request m is. Where the type is missing the body
// decides: proto3 implementations do not write a type of 0.
func requestType(m message, err error) (kind messageType, known bool) {
	var field *fieldError
	switch {
	case m.kind != nil:
		kind = *m.kind
	case m.register != nil:
		kind = typeRegister
	case m.unregister != nil:
		kind = typeUnregister
	case m.discover != nil:
		kind = typeDiscover
	case errors.As(err, &field):
		kind = field.kind
	default:
		return 0, false
	}
	return kind, kind == typeRegister || kind == typeUnregister || kind == typeDiscover
}

// decodeRefusal is the status of a request that could not be decoded: the one
// of the field at fault, or else of the request's required field.
func decodeRefusal(kind messageType, err error) *StatusError {
	var field *fieldError
	if errors.As(err, &field) && field.kind == kind {
		switch {
		case kind == typeRegister && field.field == fieldRegisterNS,
			kind == typeDiscover && field.field == fieldDiscoverNS:
			return malformed(StatusInvalidNamespace, "malformed namespace")
		case kind == typeRegister && field.field == fieldRegisterTTL:
			return malformed(StatusInvalidTTL, "malformed ttl")
		case kind == typeDiscover && field.field == fieldDiscoverCookie:
			return malformed(StatusInvalidCookie, "malformed cookie")
		}
	}
	if kind == typeRegister {
		return malformed(StatusInvalidSignedPeerRecord, "malformed request")
	}
	return malformed(StatusInvalidNamespace, "malformed request")
}

// peekType reads the type of a request, and of the request the first field
// alone, in which every implementation sends it.
func peekType(body []byte) messageType {
	if num, typ, n := protowire.ConsumeTag(body); n > 0 && num == fieldType && typ == protowire.VarintType {
		v, _ := protowire.ConsumeVarint(body[n:])
		return messageType(v)
	}
	return typeRegister
}

// admitRate takes a token for a request, of its peer and of its network, or says
// which has none. The peer's comes first: what it sends beyond its own rate must
// not use up its neighbours'.
func (s *Server) admitRate(req wire.Request, kind messageType) *StatusError {
	limits, now := s.reg.limits.Load(), s.reg.clock(time.Now())
	peers, prefixes, perPeer, perPrefix := s.registers.peers, s.registers.prefixes, limits.PeerRegister, limits.PrefixRegister
	if kind == typeDiscover {
		peers, prefixes, perPeer, perPrefix = s.discovers.peers, s.discovers.prefixes, limits.PeerDiscover, limits.PrefixDiscover
	}
	if !peers.take(now, req.Peer, perPeer) {
		return refusal(reasonPeerRate, "too many requests")
	}
	if !prefixes.take(now, prefixOf(req.Conn.RemoteMultiaddr()), perPrefix) {
		return refusal(reasonPrefixRate, "too many requests from your network")
	}
	return nil
}

// screen refuses a request above a rate, before anything of it but the type is
// read.
func (s *Server) screen(req wire.Request) (reply []byte, refused bool) {
	kind := peekType(req.Body)
	if why := s.admitRate(req, kind); why != nil {
		return s.refuse(req.Peer, kind, "", why), true
	}
	return nil, false
}

// refuse reports a refusal and returns its reply, nil for UNREGISTER.
func (s *Server) refuse(p peer.ID, kind messageType, ns string, why *StatusError) []byte {
	s.counters.refuse(kind, why)
	switch why.reason {
	case reasonMalformed, reasonUnknownType, reasonCookie, reasonForeignRecord:
		s.service.Fault(p)
	default: // what an honest peer may not know or help
	}
	s.emit(Event{Kind: EventRefused, Peer: p, Namespace: ns, Status: why.Status, Text: why.Text})
	switch kind {
	case typeUnregister:
		return nil
	case typeDiscover:
		return message{
			kind:             new(typeDiscoverResponse),
			discoverResponse: &discoverResponse{status: &why.Status, text: &why.Text},
		}.encode()
	default:
		return message{
			kind:             new(typeRegisterResponse),
			registerResponse: &registerResponse{status: &why.Status, text: &why.Text},
		}.encode()
	}
}

// allow asks the access lists.
func (s *Server) allow(p peer.ID, ns string) *StatusError {
	if !s.reg.limits.Load().allows(ns) {
		return refusal(reasonAccess, "namespace is not served here")
	}
	if s.cfg.Allow == nil {
		return nil
	}
	if err := s.cfg.Allow(p, ns); err != nil {
		return refusal(reasonAccess, "%v", err)
	}
	return nil
}

func (s *Server) register(ctx context.Context, req wire.Request, m *registerMessage) []byte {
	p, began := req.Peer, time.Now()
	c, why := s.admit(p, prefixOf(req.Conn.RemoteMultiaddr()), m)
	if why != nil {
		return s.refuse(p, typeRegister, c.ns, why)
	}
	kind, why := s.put(ctx, c)
	if why != nil {
		return s.refuse(p, typeRegister, c.ns, why)
	}
	s.counters.count(typeRegister, StatusOK)
	s.emit(Event{Kind: kind, Peer: p, Namespace: c.ns, TTL: c.ttl, Took: time.Since(began)})
	return message{
		kind: new(typeRegisterResponse),
		registerResponse: &registerResponse{
			status: new(StatusOK),
			ttl:    new(uint64(c.ttl / time.Second)),
		},
	}.encode()
}

// put stores a claim and waits until that is durable. A refusal may be due to
// registrations that have expired but are not swept yet, hence the second try.
func (s *Server) put(ctx context.Context, c claim) (EventKind, *StatusError) {
	// Behind a write that waits for the disk a claim would wait, too, and its peer would not learn why.
	if db, tells := s.cfg.DB.(interface{ Refusal() error }); tells {
		if err := db.Refusal(); err != nil {
			return "", notStored(err)
		}
	}
	kind, evicted, why := s.backend.put(ctx, c)
	if why != nil && s.sweep(time.Now()) {
		kind, evicted, why = s.backend.put(ctx, c)
	}
	s.tellGone(evicted)
	return kind, why
}

// notStored refuses with as much of the cause as peers are told, who learn nothing of paths.
func notStored(err error) *StatusError {
	if why := store.Unwritable(err); why != nil {
		return refusal(reasonStorage, "registration could not be stored: %v", why)
	}
	return refusal(reasonStorage, "registration could not be stored")
}

// unregister ends a registration. The stream is dropped when that could not
// be stored, since the protocol has no answer to say so.
func (s *Server) unregister(ctx context.Context, p peer.ID, m *unregisterMessage) error {
	if m.ns == nil {
		s.refuse(p, typeUnregister, "", refusal(reasonNamespace, "no namespace"))
		return nil
	}
	found, why := s.backend.remove(ctx, entryKey{ns: *m.ns, peer: p})
	if found {
		s.emit(Event{Kind: EventUnregister, Peer: p, Namespace: *m.ns})
	}
	if why != nil {
		s.refuse(p, typeUnregister, *m.ns, why)
		return why
	}
	s.counters.count(typeUnregister, StatusOK)
	return nil
}
