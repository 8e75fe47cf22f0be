package gossip

import (
	"context"
	"fmt"
	"math"
	"time"

	"dibber/netkit/host"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// options turns the configuration into the library's.
func (s *Service) options() []pubsub.Option {
	params := pubsub.DefaultGossipSubParams()
	params.HeartbeatInterval = s.cfg.Heartbeat
	if !s.cfg.Exchange {
		params.Connectors = 0 // nobody is dialled whom a peer tells of
	}
	if s.cfg.Relay != nil {
		// Many know nobody else: those outside the mesh must hear of every message, not of each with a chance of seven in eight.
		params.GossipFactor = 1
	}
	policy := pubsub.StrictSign
	if s.cfg.Signing == Anonymous {
		policy = pubsub.StrictNoSign
	}
	opts := []pubsub.Option{
		pubsub.WithGossipSubParams(params),
		pubsub.WithFloodPublish(true), // a message of one's own goes to every subscriber at hand: it cannot be kept in by a few
		pubsub.WithPeerExchange(s.cfg.Exchange),
		pubsub.WithMessageSignaturePolicy(policy),
		pubsub.WithMaxMessageSize(s.cfg.MaxMessage),
		pubsub.WithMessageIdFn(func(m *pb.Message) string {
			return s.cfg.MessageID(m.GetTopic(), peer.ID(m.GetFrom()), m.GetSeqno(), m.GetData())
		}),
		pubsub.WithSeenMessagesTTL(s.cfg.Seen),
		pubsub.WithSubscriptionFilter(filter{s}),
		pubsub.WithDefaultValidator(pubsub.ValidatorEx(s.validate), pubsub.WithValidatorInline(true)),
		// One worker keeps messages in the order in which a neighbour sent them; a signature takes it a tenth of a millisecond.
		pubsub.WithValidateWorkers(1),
		pubsub.WithValidateQueueSize(validateQueue),
		pubsub.WithPeerOutboundQueueSize(sendQueue),
		pubsub.WithRawTracer(tracer{s}),
		pubsub.WithEventTracer(published{s}),
	}
	if s.cfg.Signing == Anonymous {
		opts = append(opts, pubsub.WithNoAuthor())
	}
	if !s.cfg.NoScore {
		opts = append(opts, pubsub.WithPeerScore(s.scoreParams(), thresholds(s.cfg.Exchange)),
			pubsub.WithPeerScoreInspect(func(all map[peer.ID]*pubsub.PeerScoreSnapshot) { s.scores.Store(&all) }, time.Second))
	}
	return opts
}

const (
	// validateQueue is how many messages wait for validation; the library drops what comes when it is full, without having noted it.
	validateQueue = 4096
	// sendQueue is how many messages wait for one neighbour to take them; what comes when it is full is not sent to it.
	sendQueue = 2048
)

// overheadOf is how many bytes a message of n has besides payload and topic: author, sequence number, signature, and the key where the
// author's id does not contain it.
func overheadOf(n *host.Node, signing Signing) (int, error) {
	const framing = 64 // tags and lengths of all fields, and of the message in its frame
	if signing == Anonymous {
		return framing, nil
	}
	key := n.Peerstore().PrivKey(n.ID())
	if key == nil {
		return 0, fmt.Errorf("%s has no private key", n.ID())
	}
	signature, err := key.Sign([]byte("size"))
	if err != nil {
		return 0, fmt.Errorf("sign: %w", err)
	}
	size := framing + len(n.ID()) + seqnoLen + len(signature)
	if public, err := n.ID().ExtractPublicKey(); err != nil || public == nil {
		raw, err := crypto.MarshalPublicKey(key.GetPublic())
		if err != nil {
			return 0, fmt.Errorf("public key: %w", err)
		}
		size += len(raw)
	}
	return size, nil
}

// MaxPayload is the most bytes that a message of this node may carry on a topic.
func (s *Service) MaxPayload(topic string) int {
	return max(s.cfg.MaxMessage-s.overhead-len(topic), 0)
}

// validate is asked by the library for every message whose signature is right, of others and of this node.
func (s *Service) validate(_ context.Context, via peer.ID, m *pubsub.Message) pubsub.ValidationResult {
	msg := s.message(m)
	switch v := s.judge(msg, via == s.n.ID(), time.Now()); v {
	case Accept:
		if receipt, ok := m.ValidatorData.(*Receipt); ok {
			receipt.ID, receipt.Seq = msg.ID, msg.Seq
			s.table.expect(msg.ID)
		}
		return pubsub.ValidationAccept
	case Reject:
		return pubsub.ValidationReject
	default:
		return pubsub.ValidationIgnore
	}
}

// judge is what this node thinks of a message at a time.
func (s *Service) judge(m Message, own bool, now time.Time) Verdict {
	switch {
	case !s.goodTopic(m.Topic):
		return Reject
	case !own && m.From != "" && !s.replays.fresh(m.From, m.seqno):
		return Ignore // who forwards it may remember less than this node
	case !own && m.From != "" && s.cfg.Rate > 0 && !s.authors.Allow(m.From, now):
		if m.Via == m.From {
			return Reject
		}
		return Ignore
	}
	verdict := Accept
	if s.cfg.Validate != nil {
		verdict = s.cfg.Validate(m)
	}
	if check := s.validatorOf(m.Topic); verdict == Accept && check != nil {
		verdict = check(m)
	}
	return verdict
}

// thresholds say what a score is good for: below gossip nothing is announced to a peer or taken from its announcements, below publish
// it gets nothing of this node's own, below graylist nothing of it is read. Who tells of other peers must have been named by a
// person: no other score goes up that far.
func thresholds(exchange bool) *pubsub.PeerScoreThresholds {
	t := &pubsub.PeerScoreThresholds{
		GossipThreshold: -20, PublishThreshold: -40, GraylistThreshold: -80,
		AcceptPXThreshold: scoreTrusted / 2, OpportunisticGraftThreshold: 1,
	}
	if !exchange {
		t.AcceptPXThreshold = math.MaxFloat64
	}
	return t
}
