package gossip

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

// seqnoLen is how many bytes a sequence number has.
const seqnoLen = 8

// Message is one that came, or one of this node.
type Message struct {
	ID    string // as Config.MessageID names it: any bytes
	Topic string
	From  peer.ID // who wrote it; empty where messages are anonymous
	Seq   *uint64 // of its author's; nil where it has none of eight bytes
	Data  []byte
	Via   peer.ID   // who delivered it first; this node for its own
	At    time.Time // when it was read, or published

	seqno []byte
}

func (s *Service) message(m *pubsub.Message) Message {
	out := Message{
		ID: m.ID, Topic: m.GetTopic(), From: m.GetFrom(), Data: m.GetData(), Via: m.ReceivedFrom, At: time.Now(),
		seqno: m.GetSeqno(),
	}
	if len(out.seqno) == seqnoLen {
		out.Seq = new(binary.BigEndian.Uint64(out.seqno))
	}
	return out
}

// handle is a topic that the node has to do with; the library allows one for each name.
type handle struct {
	name  string
	t     *pubsub.Topic
	users int // guarded by Service.mu, as the following
	check Validator
}

// TopicConfig tunes a topic. The zero value works.
type TopicConfig struct {
	// Validate looks at the messages of this topic after Config.Validate; nil accepts all. The last one given holds.
	Validate Validator
}

// Topic is one that the node may publish on and subscribe to. A topic may be joined several times.
type Topic struct {
	s    *Service
	h    *handle
	pace *rate.Limiter // nil: none
	left atomic.Bool
}

// Join makes ready to publish on a topic, or to subscribe to it: nothing is announced yet. It fails with ErrBadTopic.
func (s *Service) Join(name string, cfg TopicConfig) (*Topic, error) {
	if !s.goodTopic(name) {
		return nil, fmt.Errorf("join %q: %w", name, ErrBadTopic)
	}
	h, err := s.take(name)
	if err != nil {
		return nil, err
	}
	if cfg.Validate != nil {
		s.mu.Lock()
		h.check = cfg.Validate
		s.mu.Unlock()
	}
	t := &Topic{s: s, h: h}
	if s.cfg.Rate > 0 {
		// A little less than what others allow, and half the burst: what they see of it may come in bunches.
		t.pace = rate.NewLimiter(rate.Limit(s.cfg.Rate*0.9), max(s.cfg.Burst/2, 1))
	}
	return t, nil
}

// take counts one more user of a topic.
func (s *Service) take(name string) (*handle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if h := s.topics[name]; h != nil {
		h.users++
		return h, nil
	}
	t, err := s.ps.Join(name)
	if err != nil {
		return nil, fmt.Errorf("join %q: %w", name, err)
	}
	if !s.cfg.NoScore {
		if err := t.SetScoreParams(topicScoreParams()); err != nil {
			return nil, errors.Join(fmt.Errorf("join %q: %w", name, err), t.Close())
		}
	}
	h := &handle{name: name, t: t, users: 1}
	s.topics[name] = h
	return h, nil
}

// drop counts one user less.
func (s *Service) drop(h *handle) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.users--; h.users > 0 || s.closed {
		return nil
	}
	delete(s.topics, h.name)
	if err := h.t.Close(); err != nil {
		return fmt.Errorf("leave %q: %w", h.name, err)
	}
	return nil
}

// validatorOf is what TopicConfig gave; nil for none.
func (s *Service) validatorOf(topic string) Validator {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.topics[topic]; h != nil {
		return h.check
	}
	return nil
}

// Name is the name of the topic.
func (t *Topic) Name() string { return t.h.name }

// Close leaves the topic. Its subscriptions must be cancelled before.
func (t *Topic) Close() error {
	if t.left.Swap(true) {
		return nil
	}
	return t.s.drop(t.h)
}

// Peers are the neighbours that a message on the topic would reach now: they are subscribed, and listen to this node.
func (t *Topic) Peers() []peer.ID {
	peers, _ := t.s.table.subscribers(t.h.name)
	return peers
}

// AwaitPeers waits until Peers has that many. It fails with ctx's error or ErrClosed.
func (t *Topic) AwaitPeers(ctx context.Context, least int) error {
	return t.Await(ctx, func(peers []peer.ID) bool { return len(peers) >= least })
}

// Await waits until the peers that Peers returns are enough. It fails as AwaitPeers does.
func (t *Topic) Await(ctx context.Context, enough func(peers []peer.ID) bool) error {
	for {
		peers, changed := t.s.table.subscribers(t.h.name)
		if enough(peers) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-t.s.ctx.Done():
			return ErrClosed
		}
	}
}

// alive is why waiting has no point any more; nil while it has.
func (s *Service) alive(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s.ctx.Err() != nil {
		return ErrClosed
	}
	return nil
}

// Receipt says what became of a message that was published.
type Receipt struct {
	ID  string
	Seq *uint64 // nil: anonymous
	// Peers are the neighbours that it is on its way to, Missed those whose queue was full.
	Peers, Missed []peer.ID
}

// Publish signs data and sends it to the neighbours that are subscribed. It waits for its turn where the node would be quicker than
// Config.Rate allows an author to be. It fails with ErrTooLarge, with ErrRefused where the node's own validators refuse the message,
// and with ErrClosed. That nobody is subscribed is no error: the receipt says so.
func (t *Topic) Publish(ctx context.Context, data []byte) (Receipt, error) {
	if most := t.s.MaxPayload(t.h.name); len(data) > most {
		return Receipt{}, fmt.Errorf("publish on %q: %w: %d bytes, at most %d", t.h.name, ErrTooLarge, len(data), most)
	}
	if t.pace != nil {
		if err := t.pace.Wait(ctx); err != nil {
			return Receipt{}, errors.Join(ctx.Err(), err)
		}
	}
	var r Receipt
	err := t.h.t.Publish(ctx, data, pubsub.WithValidatorData(&r))
	if err == nil && r.ID == "" {
		err = errors.New("the network has seen a message of this name before")
	}
	if err != nil {
		t.s.table.unexpect(r.ID)
		return Receipt{}, fmt.Errorf("publish on %q: %w", t.h.name, closedError(err))
	}
	if r.Peers, r.Missed, err = t.s.table.outcome(ctx, t.s, r.ID); err != nil {
		return r, err
	}
	return r, nil
}

// closedError gives the library's errors the names of this package.
func closedError(err error) error {
	var refused pubsub.ValidationError
	switch {
	case errors.As(err, &refused):
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case errors.Is(err, pubsub.ErrTopicClosed), errors.Is(err, pubsub.ErrSubscriptionCancelled):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

// SubscribeConfig tunes a subscription. The zero value works.
type SubscribeConfig struct {
	// Buffer is how many messages wait for Next; 0 means 1024. What comes when it is full is lost to this subscription, and counted.
	Buffer int
}

// Subscription takes the messages of a topic.
type Subscription struct {
	s    *Service
	sub  *pubsub.Subscription
	lost *atomic.Uint64
}

// Subscribe announces that the node wants the messages of the topic, its own included, and takes them until Cancel.
func (t *Topic) Subscribe(cfg SubscribeConfig) (*Subscription, error) {
	cfg.Buffer = cmp.Or(cfg.Buffer, 1024)
	lost := t.s.table.losses(t.h.name)
	sub, err := t.h.t.Subscribe(pubsub.WithBufferSize(cfg.Buffer))
	if err != nil {
		return nil, fmt.Errorf("subscribe to %q: %w", t.h.name, closedError(err))
	}
	return &Subscription{s: t.s, sub: sub, lost: lost}, nil
}

// Next waits for a message. It fails with ctx's error or ErrClosed.
func (s *Subscription) Next(ctx context.Context) (Message, error) {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.s.ctx, cancel)()
	m, err := s.sub.Next(waiting)
	if err != nil {
		if gone := s.s.alive(ctx); gone != nil {
			return Message{}, gone
		}
		return Message{}, closedError(err)
	}
	return s.s.message(m), nil
}

// Lost is how many messages of the topic came when the buffer of one of its subscriptions was full.
func (s *Subscription) Lost() uint64 { return s.lost.Load() }

// Cancel ends the subscription; with the last one, peers are told that the node wants nothing of the topic any more.
func (s *Subscription) Cancel() { s.sub.Cancel() }
