package gossip

import (
	"cmp"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// RelayConfig says for what a node forwards messages that it does not want itself. The zero value works.
type RelayConfig struct {
	// Topics is how many in all; 0 means 256. Peer is how many for one peer; 0 means 32. A topic that several peers are subscribed to
	// counts for each.
	Topics, Peer int
	// For says which topics are forwarded for which of the peers that are subscribed to them; nil means all.
	For func(topic string, p peer.ID) bool
	// Linger is for how long a topic is kept after the last one who was subscribed has gone; 0 means 30 s.
	Linger time.Duration
}

func (c RelayConfig) withDefaults() RelayConfig {
	c.Topics = cmp.Or(c.Topics, 256)
	c.Peer = cmp.Or(c.Peer, 32)
	c.Linger = cmp.Or(c.Linger, 30*time.Second)
	return c
}

// demand is what one peer is subscribed to, in order.
type demand struct {
	peer   peer.ID
	since  time.Time
	topics []string
}

// allot says which topics are forwarded, and which not for want of room: of each peer the first PerPeer, and of all peers the first of
// each before the second of any, those who came earlier before the others. So one that asks for much takes nothing from those that
// ask for little.
func (c RelayConfig) allot(all []demand) (chosen map[string]bool, left map[string]peer.ID) {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b demand) int {
		if by := a.since.Compare(b.since); by != 0 {
			return by
		}
		return slices.Compare([]byte(a.peer), []byte(b.peer))
	})
	chosen, left = make(map[string]bool), make(map[string]peer.ID)
	deepest := 0
	for _, d := range all {
		deepest = max(deepest, len(d.topics))
	}
	for rank := range deepest {
		for _, d := range all {
			switch {
			case rank >= len(d.topics) || chosen[d.topics[rank]]:
			case rank >= c.Peer || len(chosen) >= c.Topics:
				left[d.topics[rank]] = d.peer
			default:
				chosen[d.topics[rank]] = true
				delete(left, d.topics[rank])
			}
		}
	}
	return chosen, left
}
