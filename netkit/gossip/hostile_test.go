package gossip

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dibber/netkit/natlab"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
)

// attacked calls f with a node that is subscribed to "news", what it gets, and a rogue in its mesh.
func attacked(t *testing.T, cfg Config, f func(l lab, n node, got *inbox, r *rogue)) {
	t.Helper()
	bubble(t, func(l lab) {
		n := l.node("victim", cfg)
		got := l.subscribe(n, "news")
		r := l.rogue(l.lab.Internet().Machine("rogue", natlab.MachineConfig{}))
		r.meet(peer.AddrInfo{ID: n.host.ID(), Addrs: n.host.Addrs()}, "news")
		l.settle(1)
		f(l, n, got, r)
	})
}

// scoreNow is the score of a peer after the next look at it.
func (l lab) scoreNow(n node, p peer.ID) float64 {
	l.Helper()
	l.settle(2)
	s := n.scoreOf(p)
	if s == nil {
		l.Fatal("no score")
	}
	return s.Total
}

// Wrong signatures are not delivered, and after the third nothing is read of who sends them.
func TestWrongSignatures(t *testing.T) {
	attacked(t, Config{}, func(l lab, n node, got *inbox, r *rogue) {
		r.send(n.host.ID(), &pb.RPC{Publish: []*pb.Message{r.message("news", []byte("right"), true)}})
		for range 4 {
			r.send(n.host.ID(), &pb.RPC{Publish: []*pb.Message{r.message("news", []byte("wrong"), false)}})
		}
		if score := l.scoreNow(n, r.host.ID()); score > -80 {
			l.Errorf("score %v", score)
		}
		why := n.scoreOf(r.host.ID()).Parts
		if !slices.ContainsFunc(why, func(p Part) bool { return p.Of == PartInvalid && *p.Topic == "news" && p.Count > 3 }) {
			l.Errorf("why: %+v", why)
		}
		r.send(n.host.ID(), &pb.RPC{Publish: []*pb.Message{r.message("news", []byte("right again"), true)}})
		l.settle(1)
		if texts := got.texts(); !slices.Equal(texts, []string{"right"}) {
			l.Errorf("delivered %q", texts)
		}
	})
}

// A message that comes again, long after the network has forgotten it, is not delivered twice.
func TestReplay(t *testing.T) {
	attacked(t, Config{Seen: 5 * time.Second}, func(l lab, n node, got *inbox, r *rogue) {
		old := r.message("news", []byte("once"), true)
		for range 3 {
			r.send(n.host.ID(), &pb.RPC{Publish: []*pb.Message{old}})
			l.settle(120)
		}
		if texts := got.texts(); !slices.Equal(texts, []string{"once"}) {
			l.Errorf("delivered %q", texts)
		}
	})
	attacked(t, Config{Seen: 5 * time.Second, Replay: -1}, func(l lab, n node, got *inbox, r *rogue) {
		old := r.message("news", []byte("twice"), true)
		for range 2 {
			r.send(n.host.ID(), &pb.RPC{Publish: []*pb.Message{old}})
			l.settle(120)
		}
		if texts := got.texts(); len(texts) != 2 {
			l.Errorf("the message of this test is not forgotten: %q", texts)
		}
	})
}

// An author who sends more than is allowed is cut to that, and trusted no more.
func TestSpam(t *testing.T) {
	attacked(t, Config{Rate: 2, Burst: 10}, func(l lab, n node, got *inbox, r *rogue) {
		for range 50 {
			r.send(n.host.ID(), &pb.RPC{Publish: []*pb.Message{r.message("news", []byte("buy"), true)}})
		}
		if score := l.scoreNow(n, r.host.ID()); score > -80 {
			l.Errorf("score %v", score)
		}
		if texts := got.texts(); len(texts) < 10 || len(texts) > 12 {
			l.Errorf("delivered %d", len(texts))
		}
	})
}

// What no implementation sends ends the stream before it costs anything.
func TestBrokenFrames(t *testing.T) {
	name := "t"
	many := func(n int) *pb.RPC {
		rpc := &pb.RPC{}
		for range n {
			rpc.Publish = append(rpc.Publish, &pb.Message{})
		}
		return rpc
	}
	ids := &pb.RPC{Control: &pb.ControlMessage{Ihave: []*pb.ControlIHave{{TopicID: &name, MessageIDs: make([]string, maxIDs+1)}}}}
	encode := func(rpc *pb.RPC) []byte {
		body, err := rpc.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return append(binary.AppendUvarint(nil, uint64(len(body))), body...)
	}
	for _, c := range []struct {
		name  string
		frame []byte
		cut   bool
	}{
		{"too long", binary.AppendUvarint(nil, DefaultMaxMessage+1), true},
		{"no protobuf", []byte{3, 0xff, 0xff, 0xff}, true},
		{"too many messages", encode(many(maxEntries + 1)), true},
		{"too many ids", encode(ids), true},
		{"as much as is allowed", encode(many(maxEntries)), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			attacked(t, Config{}, func(l lab, n node, _ *inbox, r *rogue) {
				r.raw(n.host.ID(), c.frame)
				l.settle(2)
				if got := r.cut(n.host.ID()); got != c.cut {
					l.Errorf("cut: %t", got)
				}
				if got := n.table.violations(r.host.ID()) > 0; c.cut && !got {
					l.Error("not held against the peer")
				}
			})
		})
	}
}

// A frame that stops half way holds its stream for no longer than the time for a frame, and a silent stream for as long as it likes.
func TestHalfAFrame(t *testing.T) {
	attacked(t, Config{}, func(l lab, n node, _ *inbox, r *rogue) {
		l.settle(120)
		if r.cut(n.host.ID()) {
			l.Fatal("a silent stream was cut")
		}
		r.raw(n.host.ID(), append(binary.AppendUvarint(nil, 1000), bytes.Repeat([]byte{1}, 500)...))
		l.settle(25)
		if r.cut(n.host.ID()) {
			l.Error("cut too early")
		}
		l.settle(10)
		if !r.cut(n.host.ID()) {
			l.Error("half a frame is still waited for")
		}
	})
}

// The names that one peer is subscribed to are bounded, and those that are no names do not count.
func TestManySubscriptions(t *testing.T) {
	attacked(t, Config{PeerTopics: 3}, func(l lab, n node, _ *inbox, r *rogue) {
		rpc := &pb.RPC{}
		for _, topic := range []string{"", strings.Repeat("x", MaxTopicLen+1), "a", "b", "c", "d"} {
			rpc.Subscriptions = append(rpc.Subscriptions, &pb.RPC_SubOpts{Subscribe: new(true), Topicid: &topic})
		}
		r.send(n.host.ID(), rpc)
		l.settle(1)
		var topics []string
		for _, p := range n.Peers() {
			topics = append(topics, p.Topics...)
		}
		if !slices.Equal(topics, []string{"news", "a", "b"}) {
			l.Errorf("subscribed to %q", topics)
		}
	})
}

// A validator decides what is delivered and passed on, also of what the node itself would send.
func TestValidatorsDecide(t *testing.T) {
	bubble(t, func(l lab) {
		check := func(m Message) Verdict {
			switch string(m.Data) {
			case "ignored":
				return Ignore
			case "rejected":
				return Reject
			}
			return Accept
		}
		a, b, c := l.node("a", Config{}), l.node("b", Config{Validate: check}), l.node("c", Config{})
		l.connect(a, b)
		l.connect(b, c)
		near, far := l.subscribe(b, "news"), l.subscribe(c, "news")
		l.settle(2)
		topic := l.join(a, "news")
		for _, data := range []string{"ignored", "rejected", "fine"} {
			l.publish(topic, data)
		}
		l.settle(2)
		for _, box := range []*inbox{near, far} {
			if got := box.texts(); !slices.Equal(got, []string{"fine"}) {
				l.Errorf("delivered %q", got)
			}
		}
		if _, err := l.join(b, "news").Publish(l.Context(), []byte("rejected")); err == nil {
			l.Error("a node sent what it refuses")
		}
		synctest.Wait()
	})
}
