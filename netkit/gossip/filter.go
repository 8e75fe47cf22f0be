package gossip

import (
	"slices"
	"strings"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
)

// filter lets the library know of those subscriptions that there is room for.
type filter struct{ s *Service }

// CanSubscribe says which topics this node may join.
func (f filter) CanSubscribe(topic string) bool { return f.s.goodTopic(topic) }

// FilterIncomingSubscriptions leaves out names that are not allowed, and those beyond what one peer, or all of them, may have. It is
// called by the library's loop, in the order in which subscriptions come.
func (f filter) FilterIncomingSubscriptions(from peer.ID, subs []*pb.RPC_SubOpts) ([]*pb.RPC_SubOpts, error) {
	subs = pubsub.FilterSubscriptions(subs, f.s.goodTopic) // what a frame both begins and ends counts for nothing
	// Maps have lost their order, on either side: by name, so that it does not depend on luck for which there is room.
	slices.SortFunc(subs, func(a, b *pb.RPC_SubOpts) int { return strings.Compare(a.GetTopicid(), b.GetTopicid()) })
	var out []*pb.RPC_SubOpts
	for _, sub := range subs {
		topic := sub.GetTopicid()
		if sub.GetSubscribe() && f.s.table.subscribe(from, topic, f.s.cfg.PeerTopics) || !sub.GetSubscribe() && f.s.table.unsubscribe(from, topic) {
			out = append(out, sub)
		}
	}
	return out, nil
}
