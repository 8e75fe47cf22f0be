package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natlab"

	"github.com/libp2p/go-libp2p/core/peer"
)

// lab is a handful of machines on the internet with gossip on each.
type lab struct {
	*testing.T
	lab *natlab.Lab
}

// bubble calls f in a lab.
func bubble(t *testing.T, f func(l lab)) {
	t.Helper()
	natlab.Run(t, func(t *testing.T, l *natlab.Lab) { f(lab{t, l}) })
}

// node is a host with gossip.
type node struct {
	*Service
	host *host.Node
	log  *events
}

func (l lab) node(name string, cfg Config) node {
	l.Helper()
	h := l.lab.Internet().Machine(name, natlab.MachineConfig{}).Host(host.Config{})
	log := &events{}
	cfg.On = log.add
	s, err := New(h, cfg)
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { _ = s.Close() })
	return node{s, h, log}
}

func (l lab) connect(a node, others ...node) {
	l.Helper()
	for _, b := range others {
		if err := a.host.Connect(l.Context(), peer.AddrInfo{ID: b.host.ID(), Addrs: b.host.Addrs()}); err != nil {
			l.Fatal(err)
		}
	}
}

// settle lets n heartbeats pass.
func (l lab) settle(n int) {
	time.Sleep(time.Duration(n)*DefaultHeartbeat + DefaultHeartbeat/2)
	synctest.Wait()
}

func (l lab) join(n node, topic string) *Topic {
	l.Helper()
	t, err := n.Join(topic, TopicConfig{})
	if err != nil {
		l.Fatal(err)
	}
	return t
}

func (l lab) subscribe(n node, topic string) *inbox {
	l.Helper()
	sub, err := l.join(n, topic).Subscribe(SubscribeConfig{})
	if err != nil {
		l.Fatal(err)
	}
	box := &inbox{}
	go func() {
		for {
			m, err := sub.Next(context.Background())
			if err != nil {
				return
			}
			box.add(m)
		}
	}()
	return box
}

func (l lab) publish(t *Topic, data string) Receipt {
	l.Helper()
	r, err := t.Publish(l.Context(), []byte(data))
	if err != nil {
		l.Fatal(err)
	}
	return r
}

// inbox keeps what a subscription got.
type inbox struct {
	mu   sync.Mutex
	list []Message
}

func (b *inbox) add(m Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = append(b.list, m)
}

func (b *inbox) messages() []Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.list)
}

func (b *inbox) texts() (out []string) {
	for _, m := range b.messages() {
		out = append(out, string(m.Data))
	}
	return out
}

// events keeps what happened.
type events struct {
	mu   sync.Mutex
	list []Event
}

func (e *events) add(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, ev)
}

func (e *events) of(kind EventKind) (out []Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.list {
		if ev.Kind == kind {
			out = append(out, ev)
		}
	}
	return out
}

// Whatever the bytes of a message are, they come out as they went in, over two hops, with author and sequence number, and the receipt
// names who it went to.
func TestMessagesSurvive(t *testing.T) {
	bubble(t, func(l lab) {
		a, b, c := l.node("a", Config{}), l.node("b", Config{}), l.node("c", Config{})
		l.connect(a, b)
		l.connect(b, c)
		l.subscribe(b, "news")
		box := l.subscribe(c, "news")
		l.settle(2)
		topic := l.join(a, "news")
		all := make([]byte, 256)
		for i := range all {
			all[i] = byte(i)
		}
		want := [][]byte{nil, []byte("plain"), []byte("two\nlines\n"), all, bytes.Repeat(all, 4096-8), {0xff, 0xfe, 0x00}}
		var sent []Receipt
		for _, data := range want {
			r, err := topic.Publish(l.Context(), data)
			if err != nil {
				l.Fatal(err)
			}
			if !slices.Equal(r.Peers, []peer.ID{b.host.ID()}) || len(r.Missed) > 0 {
				l.Errorf("receipt: %v", r)
			}
			sent = append(sent, r)
		}
		l.settle(3)
		got := box.messages()
		if len(got) != len(want) {
			l.Fatalf("%d messages, want %d", len(got), len(want))
		}
		for i, m := range got {
			if !bytes.Equal(m.Data, want[i]) || m.From != a.host.ID() || m.Via != b.host.ID() || m.Topic != "news" || *m.Seq != *sent[i].Seq || m.ID != sent[i].ID {
				l.Errorf("message %d: %d bytes from %s by %s", i, len(m.Data), m.From, m.Via)
			}
		}
	})
}

// Drain ends with everything read by the neighbour, however much there was.
func TestDrainLosesNothing(t *testing.T) {
	bubble(t, func(l lab) {
		a, b := l.node("a", Config{}), l.node("b", Config{})
		l.connect(a, b)
		box := l.subscribe(b, "news")
		l.settle(1)
		topic := l.join(a, "news")
		for i := range 300 {
			l.publish(topic, fmt.Sprint(i))
		}
		if d := a.Drain(l.Context()); d != (Drained{Confirmed: 1}) {
			l.Errorf("drained %+v", d)
		}
		_ = a.Close()
		_ = a.host.Close()
		synctest.Wait()
		if got := box.texts(); len(got) != 300 || got[299] != "299" {
			l.Errorf("%d messages arrived", len(got))
		}
	})
}

// Who is subscribed is often known before there is a stream to it: it counts from when it can be reached, and is not waited for in vain.
func TestAwaitPeersWhoCanBeReached(t *testing.T) {
	bubble(t, func(l lab) {
		a := l.node("a", Config{})
		topic := l.join(a, "news")
		a.table.opened("early")
		a.table.subscribe("early", "news", 1)
		if got := topic.Peers(); len(got) > 0 {
			l.Errorf("reachable before there is a stream: %v", got)
		}
		time.AfterFunc(time.Second, func() { tracer{a.Service}.OnNewOutboundStream("early", Protocols()[0]) })
		began := time.Now()
		if err := topic.AwaitPeers(l.Context(), 1); err != nil || time.Since(began) != time.Second {
			l.Errorf("after %v: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(l.Context(), time.Second)
		defer cancel()
		if err := topic.AwaitPeers(ctx, 2); !errors.Is(err, context.DeadlineExceeded) {
			l.Errorf("one too few: %v", err)
		}
		time.AfterFunc(time.Second, func() { _ = a.Close() })
		if err := topic.AwaitPeers(l.Context(), 2); !errors.Is(err, ErrClosed) {
			l.Errorf("closed: %v", err)
		}
	})
}

// What is queued for a peer after its stream has ended is never written: nobody waits for it.
func TestQueueOfAPeerThatIsGone(t *testing.T) {
	bubble(t, func(l lab) {
		n := l.node("a", Config{})
		l.settle(1)
		n.streams.queued("gone", 1)
		tracer{n.Service}.OnClosedOutboundStream("gone")
		if left := n.streams.backlog(); left > 0 || len(n.streams.waiting) > 0 {
			l.Errorf("waits for %d messages to %d peers", left, len(n.streams.waiting))
		}
	})
}
