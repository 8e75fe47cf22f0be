package chain

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"dibber/netkit/gossip"
	"dibber/netkit/pchain"

	"github.com/libp2p/go-libp2p/core/peer"
)

// messageID names a message of gossip. One without a sequence number of eight bytes is not of this network and will be refused: its
// bytes are its name.
func messageID(p pchain.Profile, topic string, from peer.ID, seqno, data []byte) string {
	if len(seqno) != 8 {
		return topic + string(from) + string(seqno) + string(data)
	}
	return p.MessageID(topic, from, binary.BigEndian.Uint64(seqno))
}

// validate keeps back what is not what its topic says: a peer of 0.5 ends at some of it. Nobody is blamed, for peers of the network
// pass on whatever is signed.
func (s *Service) validate(m gossip.Message) gossip.Verdict {
	if _, err := s.cfg.Profile.Open(m.Topic, m.From, m.Data); err != nil {
		e := Event{Kind: Refused, Peer: m.From, Topic: m.Topic, Err: err}
		e.Address, _ = pchain.AddressOf(m.From)
		s.cfg.On(e)
		return gossip.Ignore
	}
	return gossip.Accept
}

func (s *Service) subscribe(name string) error {
	topic, err := s.gossip.Join(name, gossip.TopicConfig{})
	if err != nil {
		return err
	}
	sub, err := topic.Subscribe(gossip.SubscribeConfig{})
	if err != nil {
		return err
	}
	s.subs = append(s.subs, sub)
	s.running.Go(func() {
		for {
			m, err := sub.Next(s.ctx)
			if err != nil {
				return
			}
			s.received(m)
		}
	})
	return nil
}

func (s *Service) received(m gossip.Message) {
	if m.From == s.n.ID() && !s.cfg.Profile.Echo {
		return
	}
	e, err := s.cfg.Profile.Open(m.Topic, m.From, m.Data)
	if err != nil {
		return // validated before
	}
	s.deliver(Delivery{Envelope: e, Seq: m.Seq, Via: m.Via, At: m.At, Neighbour: s.isNear(m.From)})
}

func (s *Service) deliver(d Delivery) {
	s.take.Lock()
	defer s.take.Unlock()
	for _, g := range s.cfg.Gates {
		if (g.Wants == nil || g.Wants(d.Topic)) && g.Take(d) {
			return
		}
	}
}

// settle is how long a connection has to be open before messages are sent: a peer of 0.4 drops those of whom it has not identified
// yet, which it asks for when a connection opens, and nothing tells when it has.
const settle = time.Second

// settled waits until the connections with peers are old enough.
func (s *Service) settled(ctx context.Context, peers []peer.ID) error {
	if !s.cfg.Profile.NeighboursOnly {
		return nil
	}
	wait := time.Duration(0)
	for _, p := range peers {
		youngest := time.Duration(math.MaxInt64)
		for _, c := range s.n.Conns(p) {
			youngest = min(youngest, time.Since(c.Stat().Opened))
		}
		wait = max(wait, settle-youngest)
	}
	if wait <= 0 {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return gossip.ErrClosed
	}
}

// Broadcast sends data to all who are subscribed to a topic; data is what pchain encodes for it. That nobody is subscribed is no
// error: the receipt says so. Errors are those of pchain.Profile.Decode, which judges data first, and of gossip's Publish.
func (s *Service) Broadcast(ctx context.Context, topic string, data []byte) (gossip.Receipt, error) {
	if _, err := s.cfg.Profile.Decode(topic, data); err != nil {
		return gossip.Receipt{}, err
	}
	return s.publish(ctx, topic, data)
}

func (s *Service) publish(ctx context.Context, name string, data []byte) (gossip.Receipt, error) {
	topic, err := s.gossip.Join(name, gossip.TopicConfig{})
	if err != nil {
		return gossip.Receipt{}, err
	}
	defer func() { _ = topic.Close() }() // it fails where the service has ended
	if err := s.settled(ctx, topic.Peers()); err != nil {
		return gossip.Receipt{}, err
	}
	return topic.Publish(ctx, data)
}

// AwaitSubscribers waits until as many neighbours are subscribed to a topic.
func (s *Service) AwaitSubscribers(ctx context.Context, name string, least int) error {
	topic, err := s.gossip.Join(name, gossip.TopicConfig{})
	if err != nil {
		return err
	}
	defer func() { _ = topic.Close() }()
	return topic.AwaitPeers(ctx, least)
}

// The reasons why a message cannot be on its way to one receiver.
var (
	// ErrNotReached means that the receiver is not connected and could not be, and nobody else takes its mail.
	ErrNotReached = errors.New("the receiver cannot be reached")
	// ErrNoMailbox means that the receiver is connected and not subscribed to its mailbox.
	ErrNoMailbox = errors.New("the receiver is not subscribed to its mailbox")
)

// Sent is what is known of a message to one receiver: nobody acknowledges it.
type Sent struct {
	Topic string
	Seq   *uint64
	// Peers are the neighbours it is on its way to; none for one to the node itself.
	Peers, Missed []peer.ID
	// Direct is set if the receiver is one of Peers, or the node itself. The others are hubs, or nodes of 0.6 near to the receiver.
	Direct bool
	// Local is set for a message to the node itself, which its gates have taken.
	Local bool
}

// SendTo sends data to one address, by its mailbox. It dials the receiver where it is not connected, after looking it up where it is
// not known at which address. Errors wrap ErrNotReached or ErrNoMailbox, or are ctx's or those of Broadcast.
func (s *Service) SendTo(ctx context.Context, to pchain.Address, data []byte) (Sent, error) {
	name := s.cfg.Profile.Mailbox(to)
	sent := Sent{Topic: name}
	if _, err := s.cfg.Profile.Decode(name, data); err != nil {
		return sent, err
	}
	if to == s.address {
		e, err := s.cfg.Profile.Open(name, s.n.ID(), data)
		if err != nil {
			return sent, err
		}
		s.deliver(Delivery{Envelope: e, Via: s.n.ID(), At: time.Now(), Neighbour: true})
		sent.Direct, sent.Local = true, true
		return sent, nil
	}
	unreached := s.reach(ctx, to.Peer())
	if ctx.Err() != nil {
		return sent, ctx.Err()
	}
	if err := s.awaitMailbox(ctx, name, to.Peer(), unreached); err != nil {
		return sent, err
	}
	r, err := s.publish(ctx, name, data)
	if err != nil {
		return sent, err
	}
	sent.Seq, sent.Peers, sent.Missed, sent.Direct = r.Seq, r.Peers, r.Missed, slices.Contains(r.Peers, to.Peer())
	if len(sent.Peers) == 0 {
		return sent, fmt.Errorf("send to %s: %w: it left while the message was on its way out", to, ErrNotReached)
	}
	return sent, nil
}

// reach connects with a peer; nil if it is connected.
func (s *Service) reach(ctx context.Context, p peer.ID) error {
	if len(s.n.Conns(p)) > 0 {
		return nil
	}
	within, cancel := context.WithTimeout(ctx, s.cfg.Await)
	defer cancel()
	known := s.n.Peerstore().Addrs(p)
	if len(known) == 0 {
		found, _, err := s.route.FindPeer(within, p, nil)
		if err != nil {
			return err
		}
		known = found.Addrs
	}
	c, err := s.n.Dial(within, p, known)
	if err != nil {
		return err
	}
	select { // who lets nobody in says so after the handshake
	case <-s.n.Identified(c):
	case <-within.Done():
	}
	if len(s.n.Conns(p)) == 0 {
		return fmt.Errorf("%s closed the connection", p)
	}
	return nil
}

// awaitMailbox waits until somebody takes a receiver's mail: itself, or where it cannot be reached and mail is passed on, whoever
// does so.
func (s *Service) awaitMailbox(ctx context.Context, name string, to peer.ID, unreached error) error {
	if unreached != nil && !s.cfg.Profile.Hub {
		return fmt.Errorf("%w: %w", ErrNotReached, unreached)
	}
	topic, err := s.gossip.Join(name, gossip.TopicConfig{})
	if err != nil {
		return err
	}
	defer func() { _ = topic.Close() }()
	within, cancel := context.WithTimeout(ctx, s.cfg.Await)
	defer cancel()
	away := func() error { // a peer that lets nobody in is connected for a moment
		if unreached == nil && len(s.n.Conns(to)) == 0 {
			unreached = fmt.Errorf("%s closed the connection", to)
		}
		return unreached
	}
	enough := func(peers []peer.ID) bool {
		return slices.Contains(peers, to) || s.cfg.Profile.Hub && len(peers) > 0 && away() != nil
	}
	err = topic.Await(within, enough)
	switch {
	case err == nil || ctx.Err() != nil || within.Err() == nil:
		return err
	case enough(topic.Peers()):
		return nil
	case away() != nil:
		return fmt.Errorf("%w, and no neighbour takes its mail: %w", ErrNotReached, unreached)
	}
	return ErrNoMailbox
}
