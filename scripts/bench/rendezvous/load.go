package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"dibber/netkit/rendezvous"
	"dibber/netkit/wire"
)

// client is a peer with one connection to a server.
type client struct {
	host.Host
	key    crypto.PrivKey
	server peer.ID
}

func newClient(ctx context.Context, server peer.AddrInfo) (*client, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, err
	}
	h, err := libp2p.New(
		libp2p.Identity(key), libp2p.NoListenAddrs, libp2p.DisableMetrics(), libp2p.ResourceManager(nil),
		libp2p.UserAgent("bench"), libp2p.DisableRelay(),
	)
	if err != nil {
		return nil, err
	}
	c := &client{Host: h, key: key, server: server.ID}
	if err := h.Connect(ctx, server); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return c, nil
}

// ask sends one request on a stream of its own and returns the reply. It half-closes the stream with the request, as the clients of
// rust-libp2p do, so that neither server waits for the end of a stream that it has answered.
func (c *client) ask(ctx context.Context, id protocol.ID, request []byte) (reply []byte, err error) {
	st, err := c.NewStream(ctx, c.server, id)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer func() {
		stop()
		if err != nil {
			_ = st.Reset()
		}
	}()
	if err := wire.WriteFrame(st, request, maxFrame); err != nil {
		return nil, err
	}
	if err := st.CloseWrite(); err != nil {
		return nil, err
	}
	if reply, err = wire.NewReader(st, maxFrame).Next(); err != nil {
		return nil, err
	}
	return reply, st.Close()
}

// load is a kind of request: prepare is called before the clock runs.
type load struct {
	name    string
	id      protocol.ID
	prepare func(c *client, worker, i int) ([]byte, error)
}

func echoLoad(request, reply int) load {
	body := make([]byte, max(request, 4))
	binary.BigEndian.PutUint32(body, uint32(reply))
	return load{fmt.Sprintf("echo %d/%d B", request, reply), echoProtocol, func(*client, int, int) ([]byte, error) { return body, nil }}
}

// streams is how many requests each client has under way. A REGISTER waits for the disk, with all that came meanwhile.
const streams = 8

// speed is how many requests a second were answered, and how many a second of processor time, of client and server together.
type speed struct{ perS, perCPU float64 }

// run has each client make requests of p.
func (l load) run(ctx context.Context, p *process, clients []*client, each int) (speed, error) {
	requests := make([][][]byte, len(clients))
	for w, c := range clients {
		for i := range each {
			request, err := l.prepare(c, w, i)
			if err != nil {
				return speed{}, err
			}
			requests[w] = append(requests[w], request)
		}
	}
	var failed atomic.Pointer[error]
	var workers sync.WaitGroup
	cpu, err := p.cpu()
	if err != nil {
		return speed{}, err
	}
	begun := time.Now()
	for w, c := range clients {
		var next atomic.Int64
		for range streams {
			workers.Go(func() {
				for i := next.Add(1) - 1; i < int64(each); i = next.Add(1) - 1 {
					if err := l.one(ctx, c, requests[w][i]); err != nil {
						failed.Store(&err)
						return
					}
				}
			})
		}
	}
	workers.Wait()
	took := time.Since(begun).Seconds()
	if err := failed.Load(); err != nil {
		return speed{}, fmt.Errorf("%s: %w", l.name, *err)
	}
	used, err := p.cpu()
	n := float64(len(clients) * each)
	return speed{perS: n / took, perCPU: n / (used - cpu)}, err
}

func (l load) one(ctx context.Context, c *client, request []byte) error {
	reply, err := c.ask(ctx, l.id, request)
	if err != nil || l.id != rendezvous.ProtocolID {
		return err
	}
	return checkStatus(reply)
}

// latencies are the milliseconds of n requests, one after the other.
func (l load) latencies(ctx context.Context, c *client, n int) ([]float64, error) {
	var out []float64
	for i := range n {
		request, err := l.prepare(c, 0, i)
		if err != nil {
			return nil, err
		}
		begun := time.Now()
		if err := l.one(ctx, c, request); err != nil {
			return nil, fmt.Errorf("%s: %w", l.name, err)
		}
		out = append(out, ms(time.Since(begun)))
	}
	return out, nil
}
