package replicate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dibber/netkit/bamboo"
	"dibber/netkit/gossip"
	"dibber/netkit/logstore"

	"github.com/libp2p/go-libp2p/core/peer"
)

// LiveTopic is the topic of gossip on which entries are told as they are signed.
const LiveTopic = string(Protocol)

// Live is a run of entries that came by gossip and is on disk.
type Live struct {
	Via      peer.ID // the neighbour that it came from
	Author   bamboo.Author
	Log      uint64
	From, To uint64
	Bytes    uint64 // of payload
	// Received is when it was found to be its author's, Stored when it was on disk.
	Received, Stored time.Time
}

const (
	// liveQueue is how many appends wait to be told; what is more is left to sessions.
	liveQueue = 256
	// livePatience is how long telling one may take.
	livePatience = 5 * time.Second
)

// live tells neighbours of entries, and takes those that they tell of. What is lost on the way is found by the next session.
type live struct {
	s     *Service
	topic *gossip.Topic
	sub   *gossip.Subscription
	told  chan []logstore.Record
	// behind are peers that have entries which are missing here; spread says that entries came or were signed, of which those peers are
	// to learn that gossip does not reach. Both may overflow: sessions go on anyway.
	behind chan peer.ID
	spread chan struct{}
}

// startLive joins the topic.
func (s *Service) startLive() error {
	if s.cfg.Gossip == nil {
		return nil
	}
	l := &live{s: s, told: make(chan []logstore.Record, liveQueue), behind: make(chan peer.ID, liveQueue), spread: make(chan struct{}, 1)}
	var err error
	if l.topic, err = s.cfg.Gossip.Join(LiveTopic, gossip.TopicConfig{Validate: l.validate}); err != nil {
		return err
	}
	if l.sub, err = l.topic.Subscribe(gossip.SubscribeConfig{}); err != nil {
		return errors.Join(err, l.topic.Close())
	}
	s.live = l
	s.replica.push(l.told)
	s.running.Go(l.publish)
	s.running.Go(l.receive)
	return nil
}

// close leaves the topic, when neither publish nor receive runs any more.
func (l *live) close() error {
	l.sub.Cancel()
	return l.topic.Close()
}

// reaches are the peers that gossip reaches.
func (l *live) reaches() map[peer.ID]bool {
	out := make(map[peer.ID]bool)
	for _, p := range l.topic.Peers() {
		out[p] = true
	}
	return out
}

// validate decides what is passed on.
func (l *live) validate(m gossip.Message) gossip.Verdict {
	if m.Via == l.s.n.ID() {
		return gossip.Accept
	}
	run, err := decodeLive(m.Data)
	if err != nil {
		return gossip.Reject
	}
	switch w, err := l.s.replica.judge(string(m.Via), run); {
	case err != nil, w == liveKnown, w == liveBarred:
		return gossip.Ignore
	case w == liveBad:
		return gossip.Reject
	}
	return gossip.Accept
}

// publish tells of what is signed here.
func (l *live) publish() {
	for {
		select {
		case records := <-l.told:
			if err := l.tell(records); err != nil && l.s.ctx.Err() == nil {
				l.s.replica.change() // sessions with all
			}
			l.spreads()
		case <-l.s.ctx.Done():
			return
		}
	}
}

// tell publishes entries that follow each other.
func (l *live) tell(records []logstore.Record) error {
	ctx, cancel := context.WithTimeout(l.s.ctx, livePatience)
	defer cancel()
	for sent := 0; len(records) > 0; sent++ {
		if sent == liveMessages {
			return errors.New("tell of entries: there are more than are told at once")
		}
		message, n := encodeLive(records)
		receipt, err := l.topic.Publish(ctx, message)
		if err != nil {
			return err
		}
		if len(receipt.Missed) > 0 {
			return fmt.Errorf("tell of entries: %d peers read too slowly", len(receipt.Missed))
		}
		records = records[n:]
	}
	return nil
}

// receive stores what neighbours tell of.
func (l *live) receive() {
	lost := uint64(0)
	for {
		m, err := l.sub.Next(l.s.ctx)
		if err != nil {
			return // the service ends, or gossip does
		}
		if m.Via != l.s.n.ID() {
			l.take(m)
		}
		if now := l.sub.Lost(); now != lost {
			lost = now
			l.ask(m.Via)
		}
	}
}

// take stores a message's entries, or asks who sent it for those before.
func (l *live) take(m gossip.Message) {
	run, w, added, err := l.s.replica.hear(string(m.Via), m.Data)
	if err != nil || w == liveAhead {
		l.ask(m.Via) // a session gets what is missing, or says what is wrong
	}
	if added == 0 {
		return
	}
	l.spreads()
	if l.s.cfg.OnLive == nil {
		return
	}
	e := Live{Via: m.Via, Author: run[0].Author, Log: run[0].Log, From: run[0].Seq, To: run[len(run)-1].Seq, Received: m.At, Stored: time.Now()}
	for i := range run {
		e.Bytes += run[i].PayloadSize
	}
	l.s.cfg.OnLive(e)
}

// ask has a session held with a peer.
func (l *live) ask(p peer.ID) {
	if p == l.s.n.ID() {
		return
	}
	select {
	case l.behind <- p:
	default:
	}
}

func (l *live) spreads() {
	select {
	case l.spread <- struct{}{}:
	default:
	}
}
