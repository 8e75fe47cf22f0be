package gossip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/record"
	"google.golang.org/protobuf/encoding/protowire"
)

// TopicsProtocol answers who is subscribed to a topic, and between nodes that relay why they do. One exchange of frames of netkit/wire
// on a stream. The request is a protobuf message: topic (1, bytes) asks for its subscribers; without it, the question is for what
// topics the node is subscribed. The answer: subscribed (1, bool): the node itself is, and not only for others; record (2, repeated
// bytes): signed peer records (libp2p RFC 0003) of neighbours that are; private (3, bool): those are told to nobody; held (4, repeated): a
// topic that the node takes part in (1, bytes) and how many nodes there are to the next one that is subscribed for itself, at most
// maxHops (2, varint), 0 for the node itself. A topic that it takes part in for the asker alone is left out, so that nodes that relay do
// not keep each other at it.
const TopicsProtocol protocol.ID = "/dibber/topics/1.0.0"

var (
	// ErrPrivate means that a node tells nobody who is subscribed.
	ErrPrivate = errors.New("the peer tells nobody who is subscribed")
	// ErrUnsupported means that a peer does not speak TopicsProtocol.
	ErrUnsupported = errors.New("peer does not speak " + string(TopicsProtocol))
	// errAnswer means that an answer was none.
	errAnswer = errors.New("malformed answer")
)

const (
	maxQuestion = MaxTopicLen + 8
	maxAnswer   = 256 << 10
	maxRecords  = 64
	maxHops     = 6
)

// answer is what a node says of topics.
type answer struct {
	subscribed bool
	records    [][]byte
	private    bool
	held       map[string]int
}

func (a answer) encode() []byte {
	out := []byte{} // to say nothing of all that is an answer, too
	if a.subscribed {
		out = protowire.AppendVarint(protowire.AppendTag(out, 1, protowire.VarintType), 1)
	}
	for _, r := range a.records {
		out = protowire.AppendBytes(protowire.AppendTag(out, 2, protowire.BytesType), r)
	}
	if a.private {
		out = protowire.AppendVarint(protowire.AppendTag(out, 3, protowire.VarintType), 1)
	}
	for topic, hops := range a.held {
		one := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), topic)
		one = protowire.AppendVarint(protowire.AppendTag(one, 2, protowire.VarintType), uint64(hops))
		out = protowire.AppendBytes(protowire.AppendTag(out, 4, protowire.BytesType), one)
	}
	return out
}

func decodeAnswer(body []byte) (answer, error) {
	a := answer{held: make(map[string]int)}
	err := wire.Fields(body, func(f wire.Field) error {
		switch f.Num {
		case 1:
			a.subscribed = f.Number != 0
		case 2:
			if len(a.records) == maxRecords {
				return fmt.Errorf("%w: more than %d records", errAnswer, maxRecords)
			}
			a.records = append(a.records, f.Bytes)
		case 3:
			a.private = f.Number != 0
		case 4:
			topic, hops := "", uint64(0)
			err := wire.Fields(f.Bytes, func(f wire.Field) error {
				switch f.Num {
				case 1:
					topic = string(f.Bytes)
				case 2:
					hops = f.Number
				default: // of a later version
				}
				return nil
			})
			if err != nil || topic == "" || len(topic) > MaxTopicLen || hops > maxHops || len(a.held) == maxEntries {
				return errors.Join(errAnswer, err)
			}
			a.held[topic] = int(hops)
		default: // of a later version
		}
		return nil
	})
	if errors.Is(err, wire.ErrBadMessage) {
		err = fmt.Errorf("%w: %w", errAnswer, err)
	}
	return a, err
}

// answerTopics begins to answer.
func (s *Service) answerTopics() (stop func()) {
	service := wire.NewService(wire.ServiceConfig{
		Name: "dibber/topics", MaxRequest: maxQuestion, MaxReply: maxAnswer, Rate: 2, Burst: 20,
	}, func(_ context.Context, req wire.Request) ([]byte, error) {
		topic, asked := "", false
		err := wire.Fields(req.Body, func(f wire.Field) error {
			if f.Num == 1 {
				topic, asked = string(f.Bytes), true
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if !asked {
			return answer{held: s.heldFor(req.Peer)}.encode(), nil
		}
		return s.subscribersFor(req.Peer, topic).encode(), nil
	})
	s.n.SetStreamHandler(TopicsProtocol, service.Handle)
	return func() {
		s.n.RemoveStreamHandler(TopicsProtocol)
		_ = service.Close() // returns nil always
	}
}

// subscribersFor is the answer to who is subscribed to a topic.
func (s *Service) subscribersFor(asker peer.ID, topic string) answer {
	a := answer{subscribed: s.wants(topic), private: !s.cfg.Exchange}
	if a.private {
		return a
	}
	size := 0
	for _, p := range s.subscribed(topic) {
		if p == asker || s.heldOnlyBy(p, topic) {
			continue
		}
		raw := s.records.of(p)
		if size += len(raw); raw == nil || size > maxAnswer/2 || len(a.records) == maxRecords {
			continue
		}
		a.records = append(a.records, raw)
	}
	return a
}

// wants reports whether the node is subscribed to a topic for itself.
func (s *Service) wants(topic string) bool { return slices.Contains(s.ps.GetTopics(), topic) }

// subscribed are the neighbours that are subscribed to a topic.
func (s *Service) subscribed(topic string) (out []peer.ID) {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	for p, n := range s.table.peers {
		if slices.Contains(n.topics, topic) {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// Subscribers are what a node told of those who are subscribed to a topic.
type Subscribers struct {
	Itself  bool // the node that was asked is subscribed for itself
	Records []*peer.PeerRecord
	Broken  int // records that were not signed by their peers
}

// AskSubscribers asks a connected peer who is subscribed to a topic. It fails with ErrUnsupported and with ErrPrivate, which comes with
// what the peer says of itself.
func AskSubscribers(ctx context.Context, n *host.Node, p peer.ID, topic string) (out Subscribers, err error) {
	question := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), topic)
	a, err := ask(ctx, n, p, question)
	if err != nil {
		return out, fmt.Errorf("ask %s who is subscribed: %w", p, err)
	}
	out.Itself = a.subscribed
	for _, raw := range a.records {
		_, rec, err := record.ConsumeEnvelope(raw, peer.PeerRecordEnvelopeDomain)
		signed, ok := rec.(*peer.PeerRecord)
		if err != nil || !ok {
			out.Broken++
			continue
		}
		out.Records = append(out.Records, signed)
	}
	if a.private {
		return out, ErrPrivate
	}
	return out, nil
}

// ask asks one question.
func ask(ctx context.Context, n *host.Node, p peer.ID, question []byte) (answer, error) {
	conns := n.Conns(p)
	if len(conns) == 0 {
		return answer{}, errors.New("no open connection")
	}
	st, err := n.OpenStream(ctx, conns[0], TopicsProtocol)
	if err != nil {
		return answer{}, err
	}
	reply, err := wire.Exchange(ctx, st, question, maxAnswer)
	if err != nil {
		if speaks, asked := n.Supports(ctx, conns[0], TopicsProtocol); asked == nil && !speaks {
			return answer{}, ErrUnsupported
		}
		return answer{}, err
	}
	return decodeAnswer(reply)
}

// How often nodes that relay are asked why, and how long that may take.
const (
	hubsEvery   = 30 * time.Second
	hubsTimeout = 5 * time.Second
)
