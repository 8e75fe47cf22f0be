package gossip

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Neighbour is a peer that speaks gossip with the node.
type Neighbour struct {
	Peer     peer.ID     `json:"peer"`
	Protocol protocol.ID `json:"protocol"` // empty: it does not listen to this node
	Topics   []string    `json:"topics"`   // that it is subscribed to, in the order in which it said so
	Score    *Score      `json:"score"`    // null: not known yet, or scores are off
}

// Peers lists the neighbours, by their ids.
func (s *Service) Peers() []Neighbour {
	t := s.table
	t.mu.Lock()
	out := make([]Neighbour, 0, len(t.peers))
	for p, n := range t.peers {
		out = append(out, Neighbour{Peer: p, Protocol: n.proto, Topics: append([]string{}, n.topics...)})
	}
	t.mu.Unlock()
	for i := range out {
		out[i].Score = s.scoreOf(out[i].Peer)
	}
	slices.SortFunc(out, func(a, b Neighbour) int { return cmp.Compare(a.Peer, b.Peer) })
	return out
}

// What a neighbour is to a topic.
const (
	InMesh   = "mesh"    // messages go both ways at once
	InFanout = "fanout"  // it gets what this node publishes without being subscribed
	Outside  = "outside" // it is subscribed and told which messages there are, to ask for
)

// Member is a neighbour that has to do with a topic.
type Member struct {
	Peer  peer.ID  `json:"peer"`
	Role  string   `json:"role"`   // mesh, fanout or outside
	ForMS *float64 `json:"for_ms"` // in the mesh, or since the last message by fanout; null: outside
	Score *Score   `json:"score"`  // null: not known yet, or scores are off
}

// Mesh is a topic as this node sees it.
type Mesh struct {
	Topic   string   `json:"topic"`
	Joined  bool     `json:"joined"`  // this node is subscribed, or forwards
	Relayed bool     `json:"relayed"` // it forwards for others
	Members []Member `json:"members"` // those in the mesh first
}

// Count is how many members have a role.
func (m Mesh) Count(role string) (n int) {
	for _, member := range m.Members {
		if member.Role == role {
			n++
		}
	}
	return n
}

// Topics lists every topic that the node or one of its neighbours has to do with, by name.
func (s *Service) Topics() []Mesh {
	now := time.Now()
	relayed := s.relayedTopics()
	t := s.table
	t.mu.Lock()
	names := make(map[string]bool)
	for _, n := range t.peers {
		for _, topic := range n.topics {
			names[topic] = true
		}
	}
	for topic := range t.joined {
		names[topic] = true
	}
	for topic := range t.fanout {
		names[topic] = true
	}
	out := make([]Mesh, 0, len(names))
	for _, topic := range slices.Sorted(maps.Keys(names)) {
		m := t.meshOf(topic, now)
		m.Relayed = relayed[topic]
		out = append(out, m)
	}
	t.mu.Unlock()
	for i := range out {
		for j := range out[i].Members {
			out[i].Members[j].Score = s.scoreOf(out[i].Members[j].Peer)
		}
	}
	return out
}

// Mesh is how one topic stands.
func (s *Service) Mesh(topic string) Mesh {
	relayed := s.relayedTopics()
	s.table.mu.Lock()
	m := s.table.meshOf(topic, time.Now())
	s.table.mu.Unlock()
	m.Relayed = relayed[topic]
	for i := range m.Members {
		m.Members[i].Score = s.scoreOf(m.Members[i].Peer)
	}
	return m
}

// fanoutFor is how long the library keeps to the peers of a fanout after the last message.
const fanoutFor = time.Minute

// meshOf is a topic without its scores. The caller holds the lock.
func (t *table) meshOf(topic string, now time.Time) Mesh {
	m := Mesh{Topic: topic, Joined: t.joined[topic], Members: []Member{}}
	placed := make(map[peer.ID]bool)
	place := func(p peer.ID, role string, since *time.Time) {
		if placed[p] {
			return
		}
		placed[p] = true
		member := Member{Peer: p, Role: role}
		if since != nil {
			member.ForMS = new(float64(now.Sub(*since).Microseconds()) / 1000)
		}
		m.Members = append(m.Members, member)
	}
	for _, p := range slices.Sorted(maps.Keys(t.mesh[topic])) {
		place(p, InMesh, new(t.mesh[topic][p]))
	}
	for _, p := range slices.Sorted(maps.Keys(t.fanout[topic])) {
		if last := t.fanout[topic][p]; now.Sub(last) < fanoutFor {
			place(p, InFanout, &last)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(t.peers)) {
		if slices.Contains(t.peers[p].topics, topic) {
			place(p, Outside, nil)
		}
	}
	return m
}

// AwaitSubscribed waits until a peer says that it is subscribed to a topic. It fails with ctx's error or ErrClosed.
func (s *Service) AwaitSubscribed(ctx context.Context, p peer.ID, topic string) (bool, error) {
	for {
		s.table.mu.Lock()
		n, next := s.table.peers[p], s.table.next
		subscribed := n != nil && slices.Contains(n.topics, topic)
		s.table.mu.Unlock()
		if subscribed {
			return true, nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return false, ctx.Err()
		case <-s.ctx.Done():
			return false, ErrClosed
		}
	}
}
