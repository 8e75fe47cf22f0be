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
	defer identified.Close()
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
