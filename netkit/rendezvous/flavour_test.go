package rendezvous

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"dibber/netkit/wire"
)

// TestFlavours registers one peer of each kind and asks as each kind.
func TestFlavours(t *testing.T) {
	point := newHost(t)
	newServer(t, point, ServerConfig{})
	goPeer, rustPeer, both := newHost(t), newHost(t), newHost(t)
	for _, ns := range []string{"garden", "aquadoggo"} {
		ask(t, goPeer, point, registerOf(ns, sealFor(t, goPeer, 1, Standard), nil))
		ask(t, rustPeer, point, registerOf(ns, sealFor(t, rustPeer, 1, Legacy), nil))
		ask(t, both, point, registerOf(ns, sealFor(t, both, 1, Standard), sealFor(t, both, 1, Legacy)))
	}
	rustAgent := newHost(t, libp2p.UserAgent("rust-libp2p/0.44.1"))
	stranger := newHost(t)
	tests := []struct {
		name   string
		from   host.Host
		ns     string
		flag   bool
		want   int
		second int
		types  []Flavour
	}{
		{"stranger", stranger, "garden", false, 2, 0, []Flavour{Standard, Standard}},
		{"stranger in aquadoggo", stranger, "aquadoggo", false, 2, 0, []Flavour{Legacy, Legacy}},
		{"rust agent", rustAgent, "garden", false, 2, 0, []Flavour{Legacy, Legacy}},
		{"registered with legacy", rustPeer, "garden", false, 2, 0, []Flavour{Legacy, Legacy}},
		{"registered with standard", goPeer, "garden", false, 2, 0, []Flavour{Standard, Standard}},
		{"all namespaces", stranger, "", false, 4, 0, []Flavour{Standard, Standard, Standard, Standard}},
		{"extension", stranger, "garden", true, 3, 1, []Flavour{Standard, Legacy, Standard}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			reply := ask(t, test.from, point, discoverOf(test.ns, test.flag)).discoverResponse
			if len(reply.registrations) != test.want {
				t.Fatalf("%d registrations, want %d", len(reply.registrations), test.want)
			}
			second := 0
			for i, entry := range reply.registrations {
				rec, err := OpenRecord(entry.record)
				if err != nil || rec.Flavour != test.types[i] {
					t.Errorf("entry %d: %+v, %v", i, rec, err)
				}
				if entry.other != nil {
					second++
				}
			}
			if second != test.second {
				t.Errorf("%d second records, want %d", second, test.second)
			}
		})
	}
}

// TestFlavourWaitsForIdentify asks on a connection whose identify is not done:
// a rust peer must not be given what it cannot read.
func TestFlavourWaitsForIdentify(t *testing.T) {
	point, goPeer := newHost(t), newHost(t)
	s := newServer(t, point, ServerConfig{})
	ask(t, goPeer, point, registerOf("ns", sealFor(t, goPeer, 1, Standard), nil))
	identified, err := point.EventBus().Emitter(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		t.Fatal(err)
	}
	defer identified.Close()

	const rust = peer.ID("rust")
	replies := make(chan []byte)
	go func() {
		reply, _ := s.handle(testContext(t), wire.Request{Peer: rust, Conn: youngConn{}, Body: discoverOf("ns", false).encode()})
		replies <- reply
	}()
	if err := point.Peerstore().Put(rust, "AgentVersion", "rust-libp2p/0.44.1"); err != nil {
		t.Fatal(err)
	}
	if err := identified.Emit(event.EvtPeerIdentificationCompleted{Peer: rust}); err != nil {
		t.Fatal(err)
	}
	m, err := decodeMessage(<-replies)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(m.discoverResponse.registrations); n != 0 {
		t.Errorf("a rust peer was given %d standard records", n)
	}
}

// youngConn is a connection so young that identify is waited for as long as
// the test takes.
type youngConn struct{ network.Conn }

func (youngConn) Stat() network.ConnStats {
	return network.ConnStats{Stats: network.Stats{Opened: time.Now().Add(time.Hour)}}
}

func (youngConn) RemoteMultiaddr() ma.Multiaddr { return nil }
