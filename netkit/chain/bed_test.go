package chain_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dibber/netkit/chain"
	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/pchain"

	"github.com/libp2p/go-libp2p/core/peer"
)

// world is an internet of nodes of one network.
type world struct {
	*testing.T
	lab     *natlab.Lab
	profile string
	made    int
}

// inAWorld calls f in virtual time, for each of the profiles named; none means all.
func inAWorld(t *testing.T, profiles []string, f func(w *world)) {
	t.Helper()
	for _, p := range pchain.Profiles() {
		if len(profiles) > 0 && !slices.Contains(profiles, p.Name) {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) { f(&world{T: t, lab: lab, profile: p.Name}) })
		})
	}
}

// node is one with all that came to it.
type node struct {
	*chain.Service
	host *host.Node

	mu     sync.Mutex // guards following
	inbox  []chain.Delivery
	events []chain.Event
}

// node starts one; hosts and boot nodes are as in their configurations.
func (w *world) node(h host.Config, cfg chain.Config, boot ...*node) *node {
	w.Helper()
	w.made++
	n := &node{host: w.lab.Internet().Machine(fmt.Sprintf("m%d", w.made), machine()).Host(h)}
	for _, b := range boot {
		cfg.Boot = append(cfg.Boot, peer.AddrInfo{ID: b.host.ID(), Addrs: b.host.Addrs()})
	}
	cfg.Profile, _ = pchain.ProfileOf(w.profile)
	cfg.Gates = append(cfg.Gates, chain.Gate{Take: func(d chain.Delivery) bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.inbox = append(n.inbox, d)
		return true
	}})
	cfg.On = func(e chain.Event) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.events = append(n.events, e)
	}
	s, err := chain.New(n.host, cfg)
	if err != nil {
		w.Fatal(err)
	}
	n.Service = s
	w.Cleanup(func() {
		if err := s.Close(); err != nil {
			w.Error(err)
		}
		time.Sleep(time.Second) // until the last goroutines of the library for gossip have ended
	})
	return n
}

func machine() natlab.MachineConfig {
	return natlab.MachineConfig{Link: natlab.LinkConfig{Latency: 10 * time.Millisecond}}
}

// full is a node as ParallelChain's own: one host, no special wishes.
func (w *world) full(boot ...*node) *node {
	w.Helper()
	return w.node(host.Config{Single: true}, chain.Config{}, boot...)
}

func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (n *node) got() []chain.Delivery {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.inbox)
}

func (n *node) told(kind chain.EventKind) (out []chain.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.events {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}

// consensus is a message for the consensus topic and for mailboxes.
func (w *world) consensus(height uint64) []byte {
	return w.encode(pchain.Payload{Message: &pchain.Message{Sync: &pchain.Sync{Request: &pchain.SyncRequest{StartHeight: height, Limit: 1}}}})
}

func (w *world) encode(m pchain.Payload) []byte {
	w.Helper()
	p, _ := pchain.ProfileOf(w.profile)
	data, err := p.Encode(m)
	if err != nil {
		w.Fatal(err)
	}
	return data
}

// wants checks what came to a node: from whom, and with which heights.
func (w *world) wants(n *node, from *node, heights ...uint64) {
	w.Helper()
	var got []uint64
	for _, d := range n.got() {
		if d.Origin != from.Address() {
			w.Errorf("a message from %s, want from %s", d.Origin, from.Address())
		}
		if d.Payload.Kind != pchain.KindSyncRequest {
			w.Errorf("a message of kind %s", d.Payload.Kind)
			continue
		}
		got = append(got, d.Payload.Message.Sync.Request.StartHeight)
	}
	slices.Sort(got)
	if !slices.Equal(got, heights) {
		w.Errorf("heights %v, want %v", got, heights)
	}
}

func (w *world) broadcast(n *node, topic string, data []byte) {
	w.Helper()
	if _, err := n.Broadcast(w.Context(), topic, data); err != nil {
		w.Error(err)
	}
}

func (w *world) send(n, to *node, data []byte) chain.Sent {
	w.Helper()
	sent, err := n.SendTo(w.Context(), to.Address(), data)
	if err != nil {
		w.Errorf("send: %v", err)
	}
	return sent
}
