package p2panda

import (
	"context"
	"sync"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natlab"

	"github.com/libp2p/go-libp2p"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/multiformats/go-multistream"
)

// kennel is a dog on a host: one stream on each connection on which it writes, and one on which it reads.
type kennel struct {
	corehost.Host
	dog *dog

	mu      sync.Mutex
	leashes map[network.Conn]*leash
	streams map[network.Conn]network.Stream
	drops   int // connections that it gave up
}

func newKennel(t *testing.T, m *natlab.Machine, opts ...libp2p.Option) *kennel {
	t.Helper()
	k := &kennel{
		Host:    m.Stock(append(opts, libp2p.Ping(false), libp2p.DisableMetrics(), libp2p.UserAgent("rust-libp2p/0.44.1"))...),
		leashes: make(map[network.Conn]*leash), streams: make(map[network.Conn]network.Stream),
	}
	k.dog = newDog(t, k.ID())
	k.SetStreamHandler(ProtocolID, k.read)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	k.Network().Notify(&network.NotifyBundle{
		ConnectedF:    func(_ network.Network, c network.Conn) { running.Go(func() { k.open(ctx, c) }) },
		DisconnectedF: func(_ network.Network, c network.Conn) { k.closed(c) },
	})
	running.Go(func() {
		for ctx.Err() == nil {
			host.Pause(ctx, 5*time.Second)
			k.mu.Lock()
			for c, l := range k.leashes {
				l.tick()
				k.flush(c)
			}
			k.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = k.Close()
		running.Wait()
	})
	return k
}

// open opens the stream of a new connection and announces, or gives the connection up.
func (k *kennel) open(ctx context.Context, c network.Conn) {
	s, err := c.NewStream(network.WithAllowLimitedConn(ctx, "aquadoggo"))
	if err == nil {
		err = multistream.SelectProtoOrFail(ProtocolID, s)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.drops++
		_ = c.Close()
		return
	}
	k.streams[c] = s
	k.leash(c).tick()
	k.flush(c)
}

func (k *kennel) leash(c network.Conn) *leash {
	if k.leashes[c] == nil {
		k.leashes[c] = &leash{dog: k.dog, peer: c.RemotePeer()}
	}
	return k.leashes[c]
}

func (k *kennel) closed(c network.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.leashes, c)
	delete(k.streams, c)
}

// flush writes what waits; before its stream is open it waits.
func (k *kennel) flush(c network.Conn) {
	l, s := k.leash(c), k.streams[c]
	if s == nil {
		return
	}
	for _, m := range l.out {
		data, err := Encode(m)
		if err != nil {
			k.dog.t.Errorf("node writes %#v: %v", m, err)
		}
		if _, err := s.Write(data); err != nil {
			break
		}
	}
	l.out = nil
}

// read takes messages until one is none: then it closes the stream and keeps the connection.
func (k *kennel) read(s network.Stream) {
	defer func() { _ = s.Reset() }()
	for r := NewReader(s); ; {
		m, err := r.Next()
		if err != nil {
			return
		}
		k.mu.Lock()
		k.leash(s.Conn()).receive(m)
		k.flush(s.Conn())
		k.mu.Unlock()
	}
}

// with looks at the dog.
func (k *kennel) with(fn func(d *dog)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	fn(k.dog)
}

func (l *leash) find(id uint64) *dogSession {
	for _, s := range l.sessions {
		if s.id == id {
			return s
		}
	}
	return nil
}
