package rendezvous

import (
	"context"
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protowire"

	"dibber/netkit/wire"
)

// handle answers one request. Every request that is not understood gets a
// status too; only UNREGISTER has no answer.
func (s *Server) handle(ctx context.Context, req wire.Request) ([]byte, error) {
	m, err := decodeMessage(req.Body)
	kind, known := requestType(m, err)
	if !known {
		return s.refuse(req.Peer, typeRegister, "", refusal(StatusInternalError, "unknown message type")), nil
	}
	if err != nil {
		return s.refuse(req.Peer, kind, "", decodeRefusal(kind, err)), nil
	}
	switch kind {
	case typeRegister:
		return s.register(req.Peer, orEmpty(m.register)), nil
	case typeUnregister:
		return nil, s.unregister(req.Peer, orEmpty(m.unregister))
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
			return refusal(StatusInvalidNamespace, "malformed namespace")
		case kind == typeRegister && field.field == fieldRegisterTTL:
			return refusal(StatusInvalidTTL, "malformed ttl")
		case kind == typeDiscover && field.field == fieldDiscoverCookie:
			return refusal(StatusInvalidCookie, "malformed cookie")
		}
	}
	if kind == typeRegister {
		return refusal(StatusInvalidSignedPeerRecord, "malformed request")
	}
	return refusal(StatusInvalidNamespace, "malformed request")
}

// limited answers a request over the rate limit. Of the request it reads the
// first field alone, in which every implementation sends the type.
func (s *Server) limited(req wire.Request) []byte {
	kind := typeRegister
	if num, typ, n := protowire.ConsumeTag(req.Body); n > 0 && num == fieldType && typ == protowire.VarintType {
		v, _ := protowire.ConsumeVarint(req.Body[n:])
		kind = messageType(v)
	}
	return s.refuse(req.Peer, kind, "", refusal(StatusUnavailable, "too many requests"))
}

// refuse reports a refusal and returns its reply, nil for UNREGISTER.
func (s *Server) refuse(p peer.ID, kind messageType, ns string, why *StatusError) []byte {
	s.emit(Event{Kind: EventRefused, Peer: p, Namespace: ns, Status: why.Status, Text: why.Text})
	switch kind {
	case typeUnregister:
		return nil
	case typeDiscover:
		return message{
			kind:             ptr(typeDiscoverResponse),
			discoverResponse: &discoverResponse{status: &why.Status, text: &why.Text},
		}.encode()
	default:
		return message{
			kind:             ptr(typeRegisterResponse),
			registerResponse: &registerResponse{status: &why.Status, text: &why.Text},
		}.encode()
	}
}

// allow asks the access list.
func (s *Server) allow(p peer.ID, ns string) *StatusError {
	if s.cfg.Allow == nil {
		return nil
	}
	if err := s.cfg.Allow(p, ns); err != nil {
		return refusal(StatusNotAuthorized, "%v", err)
	}
	return nil
}

func (s *Server) register(p peer.ID, m *registerMessage) []byte {
	e, why := s.admit(p, m)
	if why != nil {
		return s.refuse(p, typeRegister, e.ns, why)
	}
	kind, why := s.put(e)
	if why != nil {
		return s.refuse(p, typeRegister, e.ns, why)
	}
	s.emit(Event{Kind: kind, Peer: p, Namespace: e.ns, TTL: e.ttl})
	return message{
		kind: ptr(typeRegisterResponse),
		registerResponse: &registerResponse{
			status: ptr(StatusOK),
			ttl:    ptr(uint64(e.ttl / time.Second)),
		},
	}.encode()
}

// put stores e and waits until that is durable. A refusal may be due to
// registrations that have expired but are not swept yet, hence the second try.
func (s *Server) put(e *entry) (EventKind, *StatusError) {
	kind, pending, why := s.tryPut(e)
	if why != nil && s.sweep(time.Now()) {
		kind, pending, why = s.tryPut(e)
	}
	if why == nil && pending != nil && pending.wait() != nil {
		return kind, refusal(StatusInternalError, "registration could not be stored")
	}
	return kind, why
}

func (s *Server) tryPut(e *entry) (kind EventKind, pending *commit, why *StatusError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	replaced, why := s.reg.put(now, e)
	if why != nil {
		return "", nil, why
	}
	kind = EventRegister
	var gone []*entry
	if replaced != nil {
		gone = append(gone, replaced)
		if replaced.expires.After(now) {
			kind = EventRefresh
		}
	}
	if s.journal != nil {
		pending = s.journal.record(e, gone...)
	}
	return kind, pending, nil
}

// unregister ends a registration. The stream is dropped when that could not
// be stored, since the protocol has no answer to say so.
func (s *Server) unregister(p peer.ID, m *unregisterMessage) error {
	if m.ns == nil {
		s.emit(Event{Kind: EventRefused, Peer: p, Status: StatusInvalidNamespace, Text: "no namespace"})
		return nil
	}
	s.mu.Lock()
	gone := s.reg.remove(entryKey{ns: *m.ns, peer: p})
	var pending *commit
	if gone != nil && s.journal != nil {
		pending = s.journal.record(nil, gone)
	}
	s.mu.Unlock()
	if gone == nil {
		return nil
	}
	s.emit(Event{Kind: EventUnregister, Peer: p, Namespace: gone.ns})
	if pending != nil {
		return pending.wait()
	}
	return nil
}
