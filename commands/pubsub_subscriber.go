package commands

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"sync"

	"dibber/netkit/gossip"
	"dibber/netkit/host"
	"dibber/netkit/letter"
)

// subscriber prints what comes.
type subscriber struct {
	o    *subOptions
	out  *output
	raw  io.Writer // of --output raw; nil for others
	done context.CancelFunc

	mu    sync.Mutex // guards following
	doc   subDoc
	all   traceDoc // without its peers
	trace map[string]*tracedPeer
}

// lent subscribes on a node of another process, which keeps in touch with its peers by itself.
func (s *subscriber) lent(ctx context.Context, l *lending) (doc any, err error) {
	subs, stop, err := s.subscribe(ctx, l.gossip)
	defer closing(&err, stop)
	if err != nil {
		return nil, err
	}
	if err := s.ready(l.n); err != nil {
		return nil, err
	}
	<-ctx.Done()
	return s.end(l.n, subs, ctx.Err())
}

// subscribe begins to print what comes on the topics, until stop is called.
func (s *subscriber) subscribe(ctx context.Context, g *gossip.Service) (subs []*gossip.Subscription, stop func() error, err error) {
	var open closers
	var receiving sync.WaitGroup
	stop = func() error {
		for _, sub := range subs {
			sub.Cancel()
		}
		receiving.Wait()
		return open.close()
	}
	for _, name := range s.o.Topics {
		topic, err := g.Join(name, gossip.TopicConfig{})
		if err != nil {
			return subs, stop, err
		}
		open.add(topic.Close)
		sub, err := topic.Subscribe(gossip.SubscribeConfig{})
		if err != nil {
			return subs, stop, err
		}
		subs = append(subs, sub)
		receiving.Go(func() { s.receive(ctx, sub) })
	}
	return subs, stop, nil
}

// ready tells that messages may come.
func (s *subscriber) ready(n *host.Node) error {
	own := readyOf(n)
	ready := subReady{Peer: own.Peer, Addrs: own.Addrs, Topics: s.o.Topics, direct: s.o.Direct}
	if err := writeReady(s.out, ready, s.o.ReadyFile); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	s.out.emit("ready", ready, false)
	if len(ready.Addrs) > 0 {
		s.out.notice("%s", ready.hint())
	}
	return nil
}

// end is the document, and nil if the command reached its goal.
func (s *subscriber) end(n *host.Node, subs []*gossip.Subscription, cause error) (subDoc, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.doc
	d.Peer = new(n.ID())
	for _, sub := range subs {
		d.Lost += sub.Lost()
	}
	d.Trace = s.traced()
	if s.o.Count > 0 && d.Messages >= s.o.Count {
		return d, nil
	}
	return d, cause
}

// receive prints what comes on one topic.
func (s *subscriber) receive(ctx context.Context, sub *gossip.Subscription) {
	for {
		m, err := sub.Next(ctx)
		if err != nil {
			return
		}
		s.print(m.Data, messageLine{
			From: m.From.String(), Topic: &m.Topic, Seq: m.Seq, ReceivedMS: millis(m.At.Sub(s.out.e.start)),
			Via: m.Via.String(), output: s.o.Output, many: len(s.o.Topics) > 1 || s.o.Direct,
		})
	}
}

// take prints what was sent to this node alone.
func (s *subscriber) take(ctx context.Context, l letter.Letter) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.print(l.Data, messageLine{
		From: l.From.String(), ReceivedMS: millis(l.At.Sub(s.out.e.start)), Via: l.From.String(), Path: &l.Path,
		output: s.o.Output, many: len(s.o.Topics) > 0,
	})
	return nil
}

func (s *subscriber) print(data []byte, m messageLine) {
	m.data, m.Data = data, base64.StdEncoding.EncodeToString(data)
	s.printed(data, func() { s.out.event("message", m) })
}
