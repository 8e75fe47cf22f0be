package rendezvous

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"

	"dibber/netkit/wire"
)

// identifyWait is how long after a connection opened a DISCOVER waits to learn
// the requester's implementation.
const identifyWait = time.Second

// entryOverhead is what an entry costs in an answer besides namespace and
// records: tags, lengths and TTL.
const entryOverhead = 40

func (s *Server) discover(ctx context.Context, req wire.Request, m *discoverMessage) []byte {
	ns := *orEmpty(m.ns)
	after, why := s.checkDiscover(req.Peer, ns, m)
	if why != nil {
		return s.refuse(req.Peer, typeDiscover, ns, why)
	}
	reply := discoverResponse{status: ptr(StatusOK)}
	flavour := s.flavourFor(ctx, req, ns, m)
	now := time.Now()
	s.mu.Lock()
	found, last := s.reg.page(now, ns, after, s.pageLimit(m.limit), pageBytes, func(e *entry) int {
		if ns == "" && s.allow(req.Peer, e.ns) != nil {
			return 0
		}
		return e.cost(flavour, m.both)
	})
	s.mu.Unlock()
	for _, e := range found {
		reply.registrations = append(reply.registrations, e.answer(flavour, m.both, now))
	}
	reply.cookie = s.key.mint(ns, last)
	s.emit(Event{Kind: EventDiscover, Peer: req.Peer, Namespace: ns, Count: len(found)})
	return message{kind: ptr(typeDiscoverResponse), discoverResponse: &reply}.encode()
}

// checkDiscover refuses a bad DISCOVER, and returns the seq its cookie stands
// for.
func (s *Server) checkDiscover(p peer.ID, ns string, m *discoverMessage) (after uint64, why *StatusError) {
	if len(ns) > maxNamespace {
		return 0, refusal(StatusInvalidNamespace, "namespace is longer than %d bytes", maxNamespace)
	}
	if why := s.allow(p, ns); why != nil {
		return 0, why
	}
	if len(m.cookie) == 0 {
		return 0, nil
	}
	after, ok := s.key.open(ns, m.cookie)
	if !ok || after > s.lastSeq() {
		return 0, refusal(StatusInvalidCookie, "cookie is not of this server and namespace")
	}
	return after, nil
}

func (s *Server) lastSeq() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reg.seq
}

func (s *Server) pageLimit(asked *uint64) int {
	if asked == nil || *asked == 0 {
		return s.cfg.Limits.PageDefault
	}
	return int(min(*asked, uint64(s.cfg.Limits.PageMax)))
}

// cost is the size of the entry in an answer of a flavour, or 0 when it has
// no record of that flavour.
func (e *entry) cost(flavour Flavour, both bool) int {
	size := entryOverhead + len(e.ns)
	if both {
		return size + len(e.records[0]) + len(e.records[1])
	}
	if e.records[flavour] == nil {
		return 0
	}
	return size + len(e.records[flavour])
}

// answer is the entry as an answer of a flavour holds it.
func (e *entry) answer(flavour Flavour, both bool, now time.Time) registerMessage {
	out := registerMessage{ns: &e.ns, record: e.records[flavour], ttl: ptr(e.remaining(now))}
	switch {
	case !both:
	case out.record == nil:
		out.record = e.records[flavour.other()]
	default:
		out.other = e.records[flavour.other()]
	}
	return out
}

// flavourFor chooses the records a requester is given. One it cannot read
// would cost a rust client the whole answer, so they are never mixed, save for
// a requester that asked for both.
func (s *Server) flavourFor(ctx context.Context, req wire.Request, ns string, m *discoverMessage) Flavour {
	if m.both {
		return Standard
	}
	s.mu.Lock()
	state := s.reg.peers[req.Peer]
	var own Flavour
	if state != nil {
		own = state.primary
	}
	s.mu.Unlock()
	if state != nil {
		return own
	}
	if legacyOnly("", ns) || legacyOnly(s.agent(ctx, req), ns) {
		return Legacy
	}
	return Standard
}

// agent returns the requester's agent. Its first request may come before its
// identify message does, so on a young connection that is waited for.
func (s *Server) agent(ctx context.Context, req wire.Request) string {
	left := identifyWait - time.Since(req.Conn.Stat().Opened)
	if agent := knownAgent(s.host.Peerstore(), req.Peer); agent != "" || left <= 0 {
		return agent
	}
	identified, err := s.host.EventBus().Subscribe(
		[]any{new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerIdentificationFailed)},
		eventbus.Name("rendezvous"))
	if err != nil {
		return ""
	}
	defer identified.Close() //nolint:errcheck // closing a subscription cannot fail
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	// Again, for what came before the subscription.
	for agent := knownAgent(s.host.Peerstore(), req.Peer); ; agent = knownAgent(s.host.Peerstore(), req.Peer) {
		if agent != "" || !awaitPeer(ctx, identified.Out(), req.Peer) {
			return agent
		}
	}
}

// awaitPeer waits for an event about p and reports whether to look again.
func awaitPeer(ctx context.Context, events <-chan any, p peer.ID) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case e, ok := <-events:
			if !ok {
				return false
			}
			switch e := e.(type) {
			case event.EvtPeerIdentificationCompleted:
				if e.Peer == p {
					return true
				}
			case event.EvtPeerIdentificationFailed:
				if e.Peer == p {
					return false
				}
			}
		}
	}
}

// agentStore is the part of a peerstore that holds what identify said.
type agentStore interface {
	Get(p peer.ID, key string) (any, error)
}

// knownAgent returns the agent identify reported for p, or "".
func knownAgent(store agentStore, p peer.ID) string {
	value, err := store.Get(p, "AgentVersion")
	if err != nil {
		return ""
	}
	agent, _ := value.(string)
	return agent
}
