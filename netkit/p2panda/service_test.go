package p2panda

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/relay"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"
)

// eventually waits for what is to come true within a time.
func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", within, what)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// heard collects events.
type heard struct {
	mu     sync.Mutex
	events []Event
}

func (h *heard) on(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
}

func (h *heard) count(is func(Event) bool) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		if is(e) {
			n++
		}
	}
	return n
}

func begin(t *testing.T, n *host.Node, store Store, cfg Config) (*Service, *heard) {
	t.Helper()
	h := new(heard)
	cfg.Store, cfg.On = store, h.on
	s, err := New(n, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, h
}

// reach returns how a node of ours gets a connection with a kennel: directly, or through a relay of ours at which the kennel has a
// reservation.
func reach(t *testing.T, lab *natlab.Lab, k *kennel, relayed bool) []ma.Multiaddr {
	t.Helper()
	if !relayed {
		return k.Addrs()
	}
	server := lab.Internet().Machine("relay", natlab.MachineConfig{}).Host(host.Config{})
	r, err := relay.New(server, relay.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	held := server.HoldStreams() // as dibber serve does
	t.Cleanup(held)
	at := peer.AddrInfo{ID: server.ID(), Addrs: server.ListenAddrs()}
	if err := k.Connect(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Reserve(t.Context(), k, at); err != nil {
		t.Fatal(err)
	}
	return []ma.Multiaddr{at.Addrs[0].Encapsulate(ma.StringCast("/p2p/" + at.ID.String() + "/p2p-circuit"))}
}

// Both directions, first sync and later entries, direct and through our relay, whoever asks.
func TestWithANode(t *testing.T) {
	for name, relayed := range map[string]bool{"direct": false, "through our relay": true} {
		t.Run(name, func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				k := newKennel(t, lab.Internet().Machine("node", natlab.MachineConfig{}))
				ours := lab.Internet().Machine("ours", natlab.MachineConfig{}).Host(host.Config{})
				a, b := newAuthor(t, 1), newAuthor(t, 2)
				noteID, defs := a.schema("note")
				note := a.create(noteID, map[string]any{"text": "ours"})
				store := newMemory(t, append(defs, note)...)
				taskID, tasks := b.schema("task")
				var task Record
				k.with(func(d *dog) {
					d.publish(tasks...)
					task = b.create(taskID, map[string]any{"text": "theirs"})
					d.publish(task)
				})
				s, h := begin(t, ours, store, Config{})
				at := reach(t, lab, k, relayed)
				c, err := ours.Dial(t.Context(), k.ID(), at)
				if err != nil {
					t.Fatal(err)
				}
				if addr.IsRelayed(c.RemoteMultiaddr()) != relayed {
					t.Fatalf("connected at %s", c.RemoteMultiaddr())
				}

				res, err := s.Sync(t.Context(), k.ID())
				if err != nil {
					t.Fatal(err)
				}
				if res.Sent != 3 || res.Received != 3 || res.Relayed != relayed || len(res.Unannounced) > 0 {
					t.Errorf("%+v", res)
				}
				if _, err := store.Put([]Record{a.update(note, note.ID)}); err != nil {
					t.Fatal(err)
				}
				k.with(func(d *dog) { d.publish(b.update(task, task.ID)) })
				eventually(t, 10*time.Second, "later entries", func() (ok bool) {
					k.with(func(d *dog) { ok = d.count() == 8 })
					return ok && store.count() == 8
				})
				time.Sleep(time.Minute)
				k.with(func(d *dog) {
					if len(d.failed) > 0 {
						t.Errorf("sessions of the node failed: %v", d.failed)
					}
				})
				if k.drops > 0 || h.count(func(e Event) bool { return e.Closed != nil && e.Peer == k.ID() }) > 0 {
					t.Errorf("a connection was given up: %+v", h.events)
				}
				if n := h.count(func(e Event) bool { return e.Session != nil && e.Session.Err != nil }); n > 0 {
					t.Errorf("%d sessions failed", n)
				}
			})
		})
	}
}

// Two of ours, both ways; then there is nothing to do, and little is said.
func TestTwoOfOurs(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		a := newAuthor(t, 1)
		noteID, defs := a.schema("note")
		var services []*Service
		var stores []*memoryStore
		var nodes []*host.Node
		var heards []*heard
		for i, records := range [][]Record{append(defs, a.create(noteID, map[string]any{"text": "a"})), nil} {
			n := lab.Internet().Machine([]string{"a", "b"}[i], natlab.MachineConfig{}).Host(host.Config{})
			stores, nodes = append(stores, newMemory(t, records...)), append(nodes, n)
			s, h := begin(t, n, stores[i], Config{})
			services, heards = append(services, s), append(heards, h)
		}
		if _, err := nodes[0].Dial(t.Context(), nodes[1].ID(), nodes[1].ListenAddrs()); err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Second, "the connection is there", func() bool { return len(nodes[1].Conns(nodes[0].ID())) > 0 })
		res, err := services[1].Sync(t.Context(), nodes[0].ID())
		if err != nil || res.Received != 3 || stores[1].count() != 3 {
			t.Fatalf("%+v, %v", res, err)
		}
		if _, err := stores[1].Put([]Record{newAuthor(t, 2).create(noteID, map[string]any{"text": "b"})}); err != nil {
			t.Fatal(err)
		}
		eventually(t, 3*time.Second, "what is stored goes out at once", func() bool { return stores[0].count() == 4 })
		time.Sleep(10 * time.Second)
		sessions := func() int { return heards[0].count(func(e Event) bool { return e.Session != nil }) }
		before := sessions()
		time.Sleep(5 * time.Minute)
		if n := sessions() - before; n < 9 || n > 21 {
			t.Errorf("%d sessions in 5 minutes in which nothing changed", n)
		}
	})
}

// A node that holds a session for unfinished begins none for its schemas until it loses the connection.
func TestStuckSessionIsRepaired(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		k := newKennel(t, lab.Internet().Machine("node", natlab.MachineConfig{}))
		ours := lab.Internet().Machine("ours", natlab.MachineConfig{}).Host(host.Config{})
		a := newAuthor(t, 1)
		_, defs := a.schema("note")
		k.with(func(d *dog) { d.publish(defs...) })
		store := newMemory(t)
		s, h := begin(t, ours, store, Config{})
		// The node forgets the session at our Have, and says nothing.
		k.SetStreamHandler(ProtocolID, func(in network.Stream) {
			for r := NewReader(in); ; {
				if _, err := r.Next(); err != nil {
					return
				}
			}
		})
		if _, err := ours.Dial(t.Context(), k.ID(), k.Addrs()); err != nil {
			t.Fatal(err)
		}
		if res, err := s.Sync(t.Context(), k.ID()); !errors.Is(err, ErrStuck) {
			t.Errorf("%+v, %v", res, err)
		}
		if h.count(func(e Event) bool { return errors.Is(e.Closed, ErrStuck) }) != 1 {
			t.Errorf("%+v", h.events)
		}
		eventually(t, time.Second, "the connection is closed", func() bool { return len(ours.Conns(k.ID())) == 0 })
		k.SetStreamHandler(ProtocolID, k.read)
		if _, err := ours.Dial(t.Context(), k.ID(), k.Addrs()); err != nil {
			t.Fatal(err)
		}
		if res, err := s.Sync(t.Context(), k.ID()); err != nil || res.Received != 2 {
			t.Errorf("%+v, %v", res, err)
		}
	})
}

// A server that only holds the stream, and a host that does not know it.
func TestPeersThatDoNotSpeak(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		ours := lab.Internet().Machine("ours", natlab.MachineConfig{}).Host(host.Config{})
		s, _ := begin(t, ours, newMemory(t), Config{})
		defer ours.HoldStreams()() // as dial does; the service goes on
		for name, c := range map[string]struct {
			hold bool
			want error
		}{"holds": {true, ErrSilent}, "refuses": {false, ErrUnsupported}} {
			other := lab.Internet().Machine(name, natlab.MachineConfig{}).Host(host.Config{})
			if c.hold {
				defer other.HoldStreams()()
			}
			if _, err := ours.Dial(t.Context(), other.ID(), other.ListenAddrs()); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Sync(t.Context(), other.ID()); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
			if len(ours.Conns(other.ID())) == 0 {
				t.Errorf("%s: the connection is closed", name)
			}
		}
		if !slices.Contains(ours.Mux().Protocols(), ProtocolID) {
			t.Error("the service has lost its handler")
		}
	})
}

func TestHeldStreamsAreNotTaken(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		ours := lab.Internet().Machine("ours", natlab.MachineConfig{}).Host(host.Config{})
		defer ours.HoldStreams()()
		if _, err := New(ours, Config{Store: newMemory(t)}); !errors.Is(err, ErrTaken) {
			t.Errorf("%v", err)
		}
	})
}

// What a peer can do to our side: talk without end, send what is no message, stop in the middle of one.
func TestAbuse(t *testing.T) {
	announce, err := Encode(Announce{Version: 1, Timestamp: 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		say  []byte
		n    int
		want error
	}{
		"talks without end":   {announce, 10 * burst, ErrAbused},
		"no messages":         {[]byte{0xff}, maxMalformed, ErrAbused},
		"stops in the middle": {announce[:3], maxMalformed, ErrAbused},
	} {
		t.Run(name, func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				ours := lab.Internet().Machine("ours", natlab.MachineConfig{}).Host(host.Config{})
				_, h := begin(t, ours, newMemory(t), Config{})
				other := lab.Internet().Machine("other", natlab.MachineConfig{}).Host(host.Config{})
				defer other.HoldStreams()()
				if _, err := other.Dial(t.Context(), ours.ID(), ours.ListenAddrs()); err != nil {
					t.Fatal(err)
				}
				var s network.Stream
				for i := range c.n {
					if i == 0 || c.n == maxMalformed {
						if s, err = other.NewStream(t.Context(), ours.ID(), ProtocolID); err != nil {
							break
						}
					}
					if _, err := s.Write(c.say); err != nil {
						break
					}
					if c.n == maxMalformed {
						_, _ = s.Read(make([]byte, 1)) // until it is reset
					}
				}
				eventually(t, 10*time.Minute, "the connection is closed", func() bool {
					return h.count(func(e Event) bool { return errors.Is(e.Closed, c.want) }) == 1
				})
				if len(ours.Conns(other.ID())) > 0 {
					t.Error("the connection is open")
				}
			})
		})
	}
}
