package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"

	"dibber/netkit/control"
	"dibber/netkit/rendezvous"
	"dibber/scripts/node"
)

const (
	registrars = 8
	namespaces = 16 // of each
	pairs      = 4  // that use the relay at a time
	keysEach   = 8  // identities that a pair takes turns with
	patience   = 20 * time.Second
	payload    = 16 << 10 // bytes there and back on a circuit
	echo       = "/soak/echo/1.0.0"

	registerEvery = 100 * time.Millisecond
	askEvery      = 500 * time.Millisecond
	lookFor       = 10 * time.Second // until a dashboard is opened again
)

// load is who uses the server.
type load struct {
	s       *node.Node
	running sync.WaitGroup
	mu      sync.Mutex // guards what follows
	done    map[string]int64
	failed  map[string]int64
	errs    []error
}

func newLoad(s *node.Node) *load {
	return &load{s: s, done: make(map[string]int64), failed: make(map[string]int64)}
}

// note counts what somebody did; what the end of ctx has cut short counts as nothing.
func (l *load) note(ctx context.Context, kind string, err error) {
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.done[kind]++
		return
	}
	l.failed[kind]++
	if l.failed[kind] <= 3 {
		fmt.Printf("%s failed: %v\n", kind, err)
	}
}

// start begins all of it; it ends with ctx.
func (l *load) start(ctx context.Context) error {
	for range registrars {
		h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}))
		if err != nil {
			return err
		}
		l.running.Go(func() { l.register(ctx, h) })
	}
	for range pairs {
		var keys []crypto.PrivKey
		for range 2 * keysEach {
			key, _, err := crypto.GenerateEd25519Key(nil)
			if err != nil {
				return err
			}
			keys = append(keys, key)
		}
		l.running.Go(func() { l.circuits(ctx, keys) })
	}
	l.running.Go(func() { l.ask(ctx) })
	l.running.Go(func() { l.look(ctx) })
	return nil
}

// wait waits for the end of all, and returns what could not be closed.
func (l *load) wait() error {
	l.running.Wait()
	return errors.Join(l.errs...)
}

func (l *load) closing(c io.Closer) {
	if err := c.Close(); err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.errs = append(l.errs, err)
	}
}

// every calls do again and again until ctx ends.
func every(ctx context.Context, d time.Duration, do func(i int)) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			do(i)
		}
	}
}

// register registers, unregisters and looks up by turns.
func (l *load) register(ctx context.Context, h host.Host) {
	defer l.closing(h)
	every(ctx, registerEvery, func(i int) {
		asking, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if err := h.Connect(asking, l.s.Info); err != nil {
			l.note(ctx, "connect", err)
			return
		}
		ns := fmt.Sprintf("soak-%d", i%namespaces)
		switch i % 5 {
		case 3:
			l.note(ctx, "unregister", rendezvous.Unregister(asking, h, l.s.Info, ns))
		case 4:
			_, err := rendezvous.DiscoverAll(asking, h, l.s.Info, rendezvous.DiscoverRequest{Namespace: ns, Format: rendezvous.FormatStandard})
			l.note(ctx, "discover", err)
		default:
			_, err := rendezvous.Register(asking, h, l.s.Info, rendezvous.RegisterRequest{
				Namespace: ns, TTL: 2 * time.Hour, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.1/tcp/4001")}, Format: rendezvous.FormatStandard,
			})
			l.note(ctx, "register", err)
		}
	})
}

// circuits has two peers come, talk through the relay, and go.
func (l *load) circuits(ctx context.Context, keys []crypto.PrivKey) {
	every(ctx, askEvery, func(i int) {
		asking, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		at := 2 * (i % keysEach)
		l.note(ctx, "circuit", l.circuit(asking, keys[at], keys[at+1]))
	})
}

func (l *load) circuit(ctx context.Context, to, from crypto.PrivKey) error {
	newPeer := func(key crypto.PrivKey) (host.Host, error) {
		return libp2p.New(libp2p.Identity(key), libp2p.NoListenAddrs, libp2p.EnableRelay(), libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}))
	}
	b, err := newPeer(to)
	if err != nil {
		return err
	}
	defer l.closing(b)
	a, err := newPeer(from)
	if err != nil {
		return err
	}
	defer l.closing(a)
	b.SetStreamHandler(echo, func(st network.Stream) {
		_, _ = io.Copy(st, st) // the other end sees what is missing
		_ = st.Close()
	})
	if _, err := client.Reserve(ctx, b, l.s.Info); err != nil {
		return err
	}
	var through []ma.Multiaddr
	for _, addr := range l.s.Info.Addrs {
		through = append(through, addr.Encapsulate(ma.StringCast("/p2p/"+l.s.Info.ID.String()+"/p2p-circuit")))
	}
	ctx = network.WithAllowLimitedConn(ctx, "soak")
	if err := a.Connect(ctx, peer.AddrInfo{ID: b.ID(), Addrs: through}); err != nil {
		return err
	}
	st, err := a.NewStream(ctx, b.ID(), echo)
	if err != nil {
		return err
	}
	sent := bytes.Repeat([]byte{7}, payload)
	if _, err := st.Write(sent); err != nil {
		return err
	}
	if err := st.CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(st)
	if err == nil && !bytes.Equal(got, sent) {
		err = fmt.Errorf("%d bytes came back of %d", len(got), len(sent))
	}
	return err
}

// get asks over HTTP, with patience.
func get(ctx context.Context, s *node.Node, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return s.Get(ctx, path)
}

// ask asks ctl and reads the metrics.
func (l *load) ask(ctx context.Context) {
	every(ctx, askEvery, func(i int) {
		what := []string{"status", "peers", "reservations", "circuits", "registrations", "limits"}[i%6]
		var answer any
		l.note(ctx, "ctl", control.Client{Socket: l.s.Admin}.Do(ctx, "GET", "/"+what, nil, &answer))
		_, err := get(ctx, l.s, "/metrics")
		l.note(ctx, "metrics", err)
	})
}

// look opens the dashboard, is told what happens for a while, and opens it again.
func (l *load) look(ctx context.Context) {
	for ctx.Err() == nil {
		watching, cancel := context.WithTimeout(ctx, lookFor)
		err := func() error {
			if _, err := get(ctx, l.s, "/"); err != nil {
				return err
			}
			events, err := l.s.Open(watching, "/events")
			if err != nil {
				return err
			}
			n, _ := io.Copy(io.Discard, events) // watching ends it
			if n == 0 {
				err = errors.New("it was told nothing")
			}
			return errors.Join(err, events.Close())
		}()
		cancel()
		l.note(ctx, "dashboard", err)
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
}
