package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"dibber/netkit/rendezvous"
	"dibber/netkit/wire"
)

const (
	honestPeers  = 10
	honestEvery  = 50 * time.Millisecond // between the requests of each
	honestWait   = 5 * time.Second       // after which a request counts as unanswered
	hostileEvery = 5 * time.Second       // between the attacks of each hostile peer
	slowDials    = 200                   // handshakes that are begun and left
)

// floodPart compares honest requests in calm and under attack.
type floodPart struct {
	HostilePeers  int     `json:"hostile_peers"`
	CalmRequests  int     `json:"calm_requests"`
	CalmP99MS     float64 `json:"calm_p99_ms"`
	Requests      int     `json:"requests"`
	AnsweredShare float64 `json:"answered_share"`
	P99MS         float64 `json:"p99_ms"`
	P99Ratio      float64 `json:"p99_ratio"`
	GrowthMiB     float64 `json:"resident_growth_mib"`
	// Refused is what the server refused, by reason.
	Refused map[string]uint64 `json:"refused"`
}

func measureFlood(ctx context.Context, o options, r *result) (err error) {
	dir, err := os.MkdirTemp("", "dibber-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p, err := startServer(ctx, dir, true)
	if err != nil {
		return err
	}
	defer p.kill()
	honest := make([]*client, honestPeers)
	for i := range honest {
		if honest[i], err = newClient(ctx, p.info); err != nil {
			return err
		}
		defer honest[i].Close()
	}
	f := &floodPart{HostilePeers: o.floodPeers}
	calm, _ := honestLoad(ctx, honest, floodCalm)
	f.CalmRequests, f.CalmP99MS = len(calm), quantile(calm, 0.99)
	before, err := p.memory("VmHWM")
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	hostile := exec.CommandContext(ctx, "nice", self, childSubcommand, "flood", p.tcpAddr(), strconv.Itoa(o.floodPeers))
	hostile.Stderr = os.Stderr
	if err := hostile.Start(); err != nil {
		return err
	}
	took, failed := honestLoad(ctx, honest, floodMeasured)
	_ = hostile.Process.Kill()
	_ = hostile.Wait()
	after, err := p.memory("VmHWM")
	if err != nil {
		return err
	}
	stats, err := p.tell("0")
	if err != nil {
		return err
	}
	f.Requests, f.P99MS = len(took)+failed, quantile(took, 0.99)
	f.AnsweredShare, f.P99Ratio = float64(len(took))/float64(f.Requests), f.P99MS/f.CalmP99MS
	f.GrowthMiB, f.Refused = after-before, stats.Refusals
	r.Flood = f
	r.hold(f.GrowthMiB <= maxFloodMiB, "flood: resident memory grows by", fmt.Sprintf("%.0f MiB", f.GrowthMiB), fmt.Sprintf("at most %d MiB", maxFloodMiB))
	r.hold(f.AnsweredShare >= minHonestShare, "flood: honest requests answered",
		fmt.Sprintf("%.2f %% of %d", 100*f.AnsweredShare, f.Requests), fmt.Sprintf("at least %.0f %%", 100*minHonestShare))
	r.hold(f.P99Ratio <= maxHonestP99, "flood: honest p99 to that of calm",
		fmt.Sprintf("%.1f/%.1f ms, × %.1f", f.P99MS, f.CalmP99MS, f.P99Ratio), fmt.Sprintf("at most × %d", maxHonestP99))
	return nil
}

// honestLoad has each client register and discover in turn, at a fixed pace, and returns what the answered requests took.
func honestLoad(ctx context.Context, clients []*client, d time.Duration) (took []float64, failed int) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var mu sync.Mutex
	var workers sync.WaitGroup
	for _, c := range clients {
		workers.Go(func() {
			tick := time.NewTicker(honestEvery)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				request := encodeDiscover("honest", 100, nil)
				if i%10 == 0 {
					request, _ = registerRequest(c.key, "honest", "192.0.2.1", uint64(time.Now().UnixNano()))
				}
				begun := time.Now()
				err := honestOne(c, request)
				mu.Lock()
				if err != nil {
					failed++
				} else {
					took = append(took, ms(time.Since(begun)))
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return took, failed
}

func honestOne(c *client, request []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), honestWait)
	defer cancel()
	reply, err := c.ask(ctx, rendezvous.ProtocolID, request)
	if err != nil {
		return err
	}
	return checkStatus(reply)
}

// flood attacks a server with n peers, spread over the networks of 127.0.0.0/8, until it is killed.
func flood(addr, count string) error {
	target, err := peer.AddrInfoFromString(addr)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	go holdHandshakes(target.Addrs[0])
	for i := range n {
		go attack(*target, i)
		time.Sleep(10 * time.Millisecond)
	}
	select {}
}

// holdHandshakes opens connections and says nothing, over and over.
func holdHandshakes(addr ma.Multiaddr) {
	_, hostport, err := manet.DialArgs(addr)
	if err != nil {
		return
	}
	for {
		var held []net.Conn
		for range slowDials {
			if c, err := new(net.Dialer).DialContext(context.Background(), "tcp", hostport); err == nil {
				held = append(held, c)
			}
		}
		time.Sleep(10 * time.Second)
		for _, c := range held {
			_ = c.Close()
		}
	}
}

// attack connects again whenever it is thrown out, and does the worst it can.
func attack(target peer.AddrInfo, i int) {
	for round := int64(0); ; {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		c, err := hostileClient(ctx, target, i)
		cancel()
		if err == nil {
			for c.Network().Connectedness(target.ID) == network.Connected {
				c.misbehave(int64(i) + round)
				round++
				time.Sleep(hostileEvery)
			}
			_ = c.Close()
		}
		time.Sleep(time.Second)
	}
}

// hostileClient is a client with an address of its own network.
func hostileClient(ctx context.Context, target peer.AddrInfo, i int) (*client, error) {
	source := &net.TCPAddr{IP: net.IPv4(127, byte(1+i%200), byte(i/200), 1)}
	dialer := func(ma.Multiaddr) (tcp.ContextDialer, error) { return &net.Dialer{LocalAddr: source}, nil }
	h, err := libp2p.New(
		libp2p.NoListenAddrs, libp2p.DisableMetrics(), libp2p.DisableRelay(), libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.Transport(tcp.NewTCPTransport, tcp.WithDialerForAddr(dialer)), libp2p.UserAgent("flood"),
	)
	if err != nil {
		return nil, err
	}
	c := &client{Host: h, key: h.Peerstore().PrivKey(h.ID()), server: target.ID}
	if err := h.Connect(ctx, target); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return c, nil
}

// misbehave does one of the attacks: registrations, cookies, a length of 64 MiB, streams left open.
func (c *client) misbehave(at int64) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()

	switch at % 4 {
	case 0:
		for j := range 5 {
			request, err := registerRequest(c.key, fmt.Sprintf("flood-%d-%d", at, j), "192.0.2.1", uint64(time.Now().UnixNano()))
			if err == nil {
				_, _ = c.ask(ctx, rendezvous.ProtocolID, request)
			}
		}
	case 1:
		for j := range 5 {
			cookie := binary.BigEndian.AppendUint64(nil, uint64(at)<<8|uint64(j))
			_, _ = c.ask(ctx, rendezvous.ProtocolID, encodeDiscover("honest", 1000, append(cookie, "AAAAAAAAAAAAAAAA"...)))
		}
	case 2:
		if st, err := c.NewStream(ctx, c.server, rendezvous.ProtocolID); err == nil {
			_, _ = st.Write(append(binary.AppendUvarint(nil, 64<<20), make([]byte, 16<<10)...))
		}
	default:
		for range 20 {
			if st, err := c.NewStream(ctx, c.server, rendezvous.ProtocolID); err == nil {
				_, _ = st.Write(wire.AppendFrame(nil, []byte{0})[:1])
			}
		}
	}
}
