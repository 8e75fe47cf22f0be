package gossip

import (
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// EventKind is what an Event is about.
type EventKind string

// The kinds of events.
const (
	PeerJoined   EventKind = "peer.joined"   // a neighbour is subscribed to a topic
	PeerLeft     EventKind = "peer.left"     // it is no longer
	Grafted      EventKind = "mesh.grafted"  // a neighbour is in the mesh of a topic
	Pruned       EventKind = "mesh.pruned"   // it is no longer
	Rejected     EventKind = "rejected"      // a message was not taken, for Reason
	Copied       EventKind = "copy"          // a copy of a message came; only with Config.Trace
	RelayStarted EventKind = "relay.started" // a topic is forwarded for those who are subscribed
	RelayStopped EventKind = "relay.stopped"
	RelayFull    EventKind = "relay.full" // a topic is not forwarded: there is no room, in all or for the peer
)

// Event is one thing that happened.
type Event struct {
	Kind   EventKind
	Topic  string
	Peer   peer.ID
	Reason string // in the library's words, when rejected
	Copy   *Copy  // when copied
}

// tracer hears from the library what happens. All but the rejections comes from its one loop.
type tracer struct{ s *Service }

var _ pubsub.RawTracer = tracer{}

// OnNewOutboundStream notes a peer that listens to this node.
func (t tracer) OnNewOutboundStream(p peer.ID, proto protocol.ID) {
	t.s.table.mu.Lock()
	t.s.table.at(p).proto = proto
	t.s.table.mu.Unlock()
	t.s.table.touched()
}

// OnClosedOutboundStream notes its end.
func (t tracer) OnClosedOutboundStream(p peer.ID) {
	t.s.streams.gone(p)
	table := t.s.table
	table.mu.Lock()
	if n := table.peers[p]; n != nil {
		n.proto = ""
		table.forget(p)
	}
	var left []string
	for topic, members := range table.mesh {
		if _, in := members[p]; in {
			delete(members, p)
			left = append(left, topic)
		}
	}
	for _, members := range table.fanout {
		delete(members, p)
	}
	table.mu.Unlock()
	for _, topic := range left {
		t.s.cfg.On(Event{Kind: Pruned, Topic: topic, Peer: p})
	}
}

// Join notes a topic in whose mesh the node takes part, Leave the end of that.
func (t tracer) Join(topic string) {
	t.s.table.mu.Lock()
	defer t.s.table.mu.Unlock()
	t.s.table.joined[topic] = true
	delete(t.s.table.fanout, topic)
}

// Leave is the end of Join.
func (t tracer) Leave(topic string) {
	t.s.table.mu.Lock()
	defer t.s.table.mu.Unlock()
	delete(t.s.table.joined, topic)
	delete(t.s.table.mesh, topic)
}

// Graft notes a neighbour in a mesh.
func (t tracer) Graft(p peer.ID, topic string) {
	table := t.s.table
	table.mu.Lock()
	if table.mesh[topic] == nil {
		table.mesh[topic] = make(map[peer.ID]time.Time)
	}
	table.mesh[topic][p] = time.Now()
	table.mu.Unlock()
	t.s.cfg.On(Event{Kind: Grafted, Topic: topic, Peer: p})
}

// Prune notes that it left, or was made to.
func (t tracer) Prune(p peer.ID, topic string) {
	table := t.s.table
	table.mu.Lock()
	_, in := table.mesh[topic][p]
	delete(table.mesh[topic], p)
	table.mu.Unlock()
	if in {
		t.s.cfg.On(Event{Kind: Pruned, Topic: topic, Peer: p})
	}
}

// ValidateMessage and the following say nothing that is wanted.
func (tracer) ValidateMessage(*pubsub.Message) {}

// DeliverMessage is told by copies, and for own messages by published.
func (tracer) DeliverMessage(*pubsub.Message) {}

// DuplicateMessage is told by copies.
func (tracer) DuplicateMessage(*pubsub.Message) {}

// ThrottlePeer does not happen: no gater is on.
func (tracer) ThrottlePeer(peer.ID) {}

// RejectMessage tells of a message that was not taken.
func (t tracer) RejectMessage(m *pubsub.Message, reason string) {
	t.s.cfg.On(Event{Kind: Rejected, Topic: m.GetTopic(), Peer: m.ReceivedFrom, Reason: reason})
}

// RecvRPC sees every copy of every message.
func (t tracer) RecvRPC(rpc *pubsub.RPC) {
	if t.s.table.trace != nil {
		t.s.table.trace.received(rpc, time.Now())
	}
}

// SendRPC notes what is in the queue of a neighbour.
func (t tracer) SendRPC(rpc *pubsub.RPC, p peer.ID) {
	table := t.s.table
	if table.trace != nil {
		table.trace.sent(rpc, p, time.Now())
	}
	if len(rpc.GetPublish()) == 0 {
		return
	}
	t.s.streams.queued(p, len(rpc.GetPublish()))
	table.mu.Lock()
	defer table.mu.Unlock()
	for _, m := range rpc.GetPublish() {
		if !table.joined[m.GetTopic()] {
			if table.fanout[m.GetTopic()] == nil {
				table.fanout[m.GetTopic()] = make(map[peer.ID]time.Time)
			}
			table.fanout[m.GetTopic()][p] = time.Now()
		}
		if o := table.outcomeOf(m); o != nil {
			o.peers = append(o.peers, p)
		}
	}
}

// DropRPC notes what the queue of a neighbour had no room for.
func (t tracer) DropRPC(rpc *pubsub.RPC, p peer.ID) {
	table := t.s.table
	table.mu.Lock()
	defer table.mu.Unlock()
	for _, m := range rpc.GetPublish() {
		if o := table.outcomeOf(m); o != nil {
			o.missed = append(o.missed, p)
		}
	}
}

// outcomeOf is the record of a message that is just being published; nil for others. The caller holds the lock.
func (t *table) outcomeOf(m *pb.Message) *outcome {
	if len(t.pending) == 0 {
		return nil
	}
	return t.pending[t.s.cfg.MessageID(m.GetTopic(), peer.ID(m.GetFrom()), m.GetSeqno(), m.GetData())]
}

// UndeliverableMessage counts a message that came when the buffer of a subscription was full.
func (t tracer) UndeliverableMessage(m *pubsub.Message) { t.s.table.losses(m.GetTopic()).Add(1) }

// published hears when the library begins to send a message of this node, which it tells no RawTracer.
type published struct{ s *Service }

// Trace is the library's EventTracer.
func (p published) Trace(e *pb.TraceEvent) {
	if d := e.GetDeliverMessage(); d != nil && peer.ID(d.GetReceivedFrom()) == p.s.n.ID() {
		p.s.table.publishing(string(d.GetMessageID()))
	}
}
