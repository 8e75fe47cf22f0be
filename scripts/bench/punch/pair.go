//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"dibber/netkit/natlab"
	"dibber/netkit/netns"
)

// The links, one way: 80 ms there and back between the peers, 120 ms by way of
// the relay.
const (
	relayLatency  = 10 * time.Millisecond
	dialerLatency = 15 * time.Millisecond
	targetLatency = 25 * time.Millisecond
	// relayedAndDirect is a relayed and a direct round trip in direct ones.
	relayedAndDirect = float64(2*relayLatency+2*dialerLatency+2*targetLatency) / float64(dialerLatency+targetLatency)
)

// pair is what runs in the namespaces.
type pair struct {
	who, transport string
	nft            bool   // behind NATs of the kernel
	self, dibber   string // programs
}

// fresh is how long a peer has to look at its NAT before it is called.
const fresh = 3 * time.Second

// timing is one run of a pair, in milliseconds.
type timing struct {
	total float64 // from the relay alone to direct; 0 when it stayed relayed
	rtt   float64 // over the direct connection; 0 where nothing was pinged
}

// punch runs one pair once.
func (p pair) punch(ctx context.Context, o options, c cell, seed uint64) (took timing, err error) {
	err = inLab(ctx, func(t testing.TB) {
		lab := netns.New(t, natlab.Config{Seed: seed})
		behind := func(name string, kind natlab.NAT, latency time.Duration) *netns.Host {
			if p.nft {
				random := kind.Mapping != natlab.EndpointIndependent
				return lab.Router(lab.Internet(), name+"-router", netns.RouterConfig{RandomPorts: random}).Inside(name)
			}
			return lab.Behind(name, natlab.RouterConfig{NAT: kind, Link: natlab.LinkConfig{Latency: latency, Loss: o.loss}})
		}
		relay := lab.Host(lab.Internet(), "relay", natlab.MachineConfig{Link: natlab.LinkConfig{Latency: relayLatency}, Addresses: 2})
		target := behind("target", c.target, targetLatency)
		dialer := behind("dialer", c.dialer, dialerLatency)
		if p.who == "stock" {
			took = p.stock(o, relay, target, dialer)
		} else {
			took = p.ours(t, o, relay, target, dialer)
		}
	})
	return took, err
}

// stock has three processes of this program.
func (p pair) stock(o options, relay, target, dialer *netns.Host) timing {
	common := []string{"-transport", p.transport, "-patience", o.patience.String()}
	via := relay.Start(p.self, append(common, "-role", "relay")...).Event("ready")["addr"].(string)
	common = append(common, "-relay", via)
	circuit := target.Start(p.self, append(common, "-role", "target")...).Event("ready")["addr"].(string)
	done := dialer.Start(p.self, append(common, "-role", "dialer", "-target", circuit)...).Event("summary")
	return timingOf(done)
}

// timingOf reads the last event of who dialled.
func timingOf(done map[string]any) timing {
	direct, _ := done["direct_ms"].(float64)   // null when it stayed relayed
	relayed, _ := done["relayed_ms"].(float64) // null when there was no relayed connection
	rtt, _ := done["rtt_direct_ms"].(float64)
	if direct == 0 {
		return timing{}
	}
	return timing{relayed + direct, rtt}
}

// ours has three processes of dibber.
func (p pair) ours(t testing.TB, o options, relay, target, dialer *netns.Host) timing {
	common := []string{"--ndjson", "--transport", p.transport, "--state-dir", t.TempDir()}
	ready := relay.Start(p.dibber, "serve", "--relay", "--vantage", "--ndjson", "--state-dir", t.TempDir()).Event("ready")
	via := publicAddr(ready, relay, p.transport)
	waiting := target.Start(p.dibber, append([]string{"holepunch", "listen", "--relay", via}, common...)...)
	id := waiting.Event("ready")["peer"]
	waiting.Event("reservation.reserved")
	time.Sleep(fresh)
	done := dialer.Start(p.dibber, append([]string{
		"holepunch", "--timeout", o.patience.String(), fmt.Sprintf("%s/p2p-circuit/p2p/%s", via, id),
	}, common...)...).Event("summary")
	return timingOf(done)
}

// publicAddr is the first address in a ready event that is the host's in the lab, of a
// transport.
func publicAddr(ready map[string]any, h *netns.Host, transport string) string {
	addrs, _ := ready["addrs"].([]any)
	for _, a := range addrs {
		if s, _ := a.(string); strings.Contains(s, "/"+h.Addr().String()+"/") && strings.Contains(s, "/"+transport) {
			return s
		}
	}
	return ""
}

// stand stands in for a test, for the beds that are made for tests.
type stand struct {
	testing.TB
	ctx      context.Context
	dir      string
	cleanups []func()
	failure  error
}

// inLab calls f with what it needs for a lab, and then ends and removes whatever
// the lab holds.
func inLab(ctx context.Context, f func(t testing.TB)) error {
	dir, err := os.MkdirTemp("", "punch")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s := &stand{ctx: ctx, dir: dir}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for _, f := range slices.Backward(s.cleanups) {
				f()
			}
		}()
		f(s)
	}()
	<-done
	return errors.Join(s.failure, ctx.Err())
}

func (s *stand) Helper()                  {}
func (s *stand) Context() context.Context { return s.ctx }
func (s *stand) Cleanup(f func())         { s.cleanups = append(s.cleanups, f) }
func (s *stand) Failed() bool             { return s.failure != nil }

func (s *stand) Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func (s *stand) Fatalf(format string, args ...any) {
	s.failure = fmt.Errorf(format, args...)
	runtime.Goexit()
}

func (s *stand) TempDir() string {
	dir, err := os.MkdirTemp(s.dir, "")
	if err != nil {
		s.Fatalf("temporary directory in %s: %w", filepath.Base(s.dir), err)
	}
	return dir
}
