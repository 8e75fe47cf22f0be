package chain_test

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"dibber/netkit/chain"
	"dibber/netkit/gossip"
	"dibber/netkit/host"
	"dibber/netkit/pchain"
	"dibber/netkit/route"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// A message that would end a peer of 0.5 is passed on by nobody, and its author is blamed by nobody.
func TestWhatCrashesPeersStopsHere(t *testing.T) {
	inAWorld(t, []string{pchain.V04, pchain.V05}, func(w *world) {
		one := w.full()
		two := w.full(one)
		attacker := w.attacker(one)
		w.pass(10 * time.Second)
		good := w.encode(pchain.Payload{Dropped: &pchain.Dropped{Executor: &pchain.DroppedFromExecutor{Status: pchain.StatusInvalid}}})
		bad := binary.LittleEndian.AppendUint16(slices.Clone(good[:len(good)-2]), 515)
		attacker(one.Profile().Dropped, bad)
		attacker(one.Profile().Mempool, []byte("no transaction"))
		attacker(one.Profile().Dropped, good)
		w.pass(5 * time.Second)
		refused := one.told(chain.Refused)
		if len(refused) != 2 || !errors.Is(refused[0].Err, pchain.ErrStatus) || !errors.Is(refused[1].Err, pchain.ErrMalformed) {
			w.Errorf("refused %+v", refused)
		}
		if got := two.got(); len(got) != 1 || got[0].Payload.Kind != pchain.KindExecDropped {
			w.Errorf("got %+v", got)
		}
		if got := len(two.told(chain.Refused)); got != 0 {
			w.Errorf("%d bad messages were passed on", got)
		}
		if _, err := two.Broadcast(w.Context(), one.Profile().Dropped, bad); !errors.Is(err, pchain.ErrStatus) {
			w.Errorf("broadcast of it: %v", err)
		}
	})
}

// attacker is a peer that says what it likes.
func (w *world) attacker(to *node) func(topic string, data []byte) {
	w.Helper()
	w.made++
	n := w.lab.Internet().Machine(fmt.Sprintf("m%d", w.made), machine()).Host(host.Config{})
	p := to.Profile()
	g, err := gossip.New(n, gossip.Config{MessageID: func(topic string, from peer.ID, seqno, _ []byte) string {
		return p.MessageID(topic, from, binary.BigEndian.Uint64(seqno))
	}})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		_ = g.Close()
		time.Sleep(time.Second)
	})
	if _, err := n.Dial(w.Context(), to.host.ID(), to.host.Addrs()); err != nil {
		w.Fatal(err)
	}
	return func(topic string, data []byte) {
		t, err := g.Join(topic, gossip.TopicConfig{})
		if err == nil {
			err = t.AwaitPeers(w.Context(), 1)
		}
		if err == nil {
			_, err = t.Publish(w.Context(), data)
		}
		if err != nil {
			w.Fatal(err)
		}
	}
}

// Two that cannot connect write to each other through a hub where the version lets an application know who wrote; elsewhere the
// sender is told.
func TestHubsPassMailOn(t *testing.T) {
	inAWorld(t, nil, func(w *world) {
		hub := w.node(host.Config{}, chain.Config{Hub: 8})
		one := w.full(hub)
		two := w.node(host.Config{Access: host.Access{DenyPeers: []peer.ID{one.host.ID()}}}, chain.Config{}, hub)
		w.pass(20 * time.Second)
		if slices.Contains(one.Neighbours(), two.Address()) {
			w.Fatal("they are connected")
		}
		sent, err := one.SendTo(w.Context(), two.Address(), w.consensus(7))
		w.pass(3 * time.Second) // a message may be announced first, and fetched
		if !one.Profile().Hub {
			if !errors.Is(err, chain.ErrNotReached) {
				w.Errorf("sent %+v, %v", sent, err)
			}
			w.wants(two, one)
			return
		}
		if err != nil || sent.Direct || !slices.Equal(sent.Peers, []peer.ID{hub.host.ID()}) {
			w.Errorf("sent %+v, %v", sent, err)
		}
		w.wants(two, one, 7)
		w.wants(hub, one)
		if got := two.got(); len(got) == 1 && (got[0].Neighbour || got[0].Via != hub.host.ID()) {
			w.Errorf("neighbour %v, by %s", got[0].Neighbour, got[0].Via)
		}
	})
}

// A node that is no hub forwards nobody's mail but, from 0.6 on, that of who is close.
func TestCloseNodesPassMailOn(t *testing.T) {
	inAWorld(t, []string{pchain.V05, pchain.V06}, func(w *world) {
		middle := w.full()
		one := w.full(middle)
		for _, close := range []bool{true, false} {
			two := w.node(host.Config{
				Access: host.Access{DenyPeers: []peer.ID{one.host.ID()}}, Identity: keyThat(w, func(id peer.ID) bool { return pchain.Close(id, middle.host.ID()) == close }),
			}, chain.Config{Await: 3 * time.Second}, middle)
			w.pass(20 * time.Second)
			_, err := one.SendTo(w.Context(), two.Address(), w.consensus(7))
			w.pass(3 * time.Second) // a message may be announced first, and fetched
			if passes := close && one.Profile().RelaysClose; passes {
				if err != nil {
					w.Errorf("to one close: %v", err)
				}
				w.wants(two, one, 7)
			} else if !errors.Is(err, chain.ErrNotReached) {
				w.Errorf("close %v: %v", close, err)
			}
		}
	})
}

// Whoever is lost is dialled again, and meanwhile told as lost.
func TestLostPeersAreDialledAgain(t *testing.T) {
	inAWorld(t, []string{pchain.V04}, func(w *world) {
		one := w.full()
		two := w.full(one)
		three := w.full(two)
		w.pass(25 * time.Second)
		for _, n := range []*node{one, two} {
			for _, other := range []*node{two, three} {
				_ = n.host.Network().ClosePeer(other.host.ID())
			}
		}
		w.pass(20 * time.Second)
		if len(two.told(chain.Lost)) == 0 || len(three.told(chain.Lost)) == 0 {
			w.Error("nobody was lost")
		}
		for _, n := range []*node{one, two, three} {
			if got := n.Neighbours(); len(got) != 2 {
				w.Errorf("%s has %v", n.Address(), got)
			}
			for _, p := range n.host.Network().Peers() {
				if conns := n.host.Network().ConnsToPeer(p); len(conns) != 1 {
					w.Errorf("%s has %d connections with %s", n.Address(), len(conns), p)
				}
			}
		}
		w.send(three, two, w.consensus(7))
		w.pass(time.Second)
		w.wants(two, three, 7)
	})
}

// A boot node that is away is told of once, and joined when it is back.
func TestBootNodesAreTriedAgain(t *testing.T) {
	inAWorld(t, []string{pchain.V04}, func(w *world) {
		boot := w.lab.Internet().Machine("boot", machine())
		key := keyThat(w, func(peer.ID) bool { return true })
		first := boot.Host(host.Config{Identity: key, Port: 25519})
		at := peer.AddrInfo{ID: first.ID(), Addrs: first.Addrs()}
		if err := first.Close(); err != nil {
			w.Fatal(err)
		}
		one := w.node(host.Config{}, chain.Config{Boot: []peer.AddrInfo{at}})
		w.pass(time.Minute)
		if failed := one.told(chain.Failed); len(failed) != 1 || failed[0].Peer != at.ID || failed[0].Err == nil {
			w.Errorf("failed %+v", failed)
		}
		back := boot.Host(host.Config{Identity: key, Port: 25519})
		s, err := chain.New(back, chain.Config{})
		if err != nil {
			w.Fatal(err)
		}
		defer s.Close()
		w.pass(time.Minute)
		if got := s.Neighbours(); !slices.Equal(got, []pchain.Address{one.Address()}) {
			w.Errorf("neighbours %v", got)
		}
	})
}

// A receiver that is there and takes no mail is told from one that cannot be reached.
func TestNoMailbox(t *testing.T) {
	inAWorld(t, []string{pchain.V04, pchain.V06}, func(w *world) {
		one := w.full()
		w.attacker(one)
		w.pass(5 * time.Second)
		other := one.host.Network().Peers()[0]
		a, err := pchain.AddressOf(other)
		if err != nil {
			w.Fatal(err)
		}
		if _, err := one.SendTo(w.Context(), a, w.consensus(7)); !errors.Is(err, chain.ErrNoMailbox) {
			w.Errorf("sent: %v", err)
		}
		nobody := keyThat(w, func(peer.ID) bool { return true })
		id, err := peer.IDFromPrivateKey(nobody)
		if err != nil {
			w.Fatal(err)
		}
		if a, err = pchain.AddressOf(id); err != nil {
			w.Fatal(err)
		}
		if _, err := one.SendTo(w.Context(), a, w.consensus(7)); !errors.Is(err, chain.ErrNotReached) {
			w.Errorf("sent to nobody: %v", err)
		}
	})
}

// Gates take messages in order, and one may end it.
func TestGates(t *testing.T) {
	inAWorld(t, []string{pchain.V04}, func(w *world) {
		var took []string
		gate := func(name, topic string, last bool) chain.Gate {
			return chain.Gate{
				Wants: func(t string) bool { return topic == "" || t == topic },
				Take: func(chain.Delivery) bool {
					took = append(took, name)
					return last
				},
			}
		}
		one := w.node(host.Config{}, chain.Config{Topics: []string{"a", "b"}, Gates: []chain.Gate{gate("first", "a", false), gate("second", "a", true), gate("third", "", false)}})
		two := w.full(one)
		w.pass(5 * time.Second)
		w.broadcast(two, "a", nil)
		w.pass(time.Second)
		w.broadcast(two, "b", nil)
		w.pass(time.Second)
		if want := []string{"first", "second", "third"}; !slices.Equal(took, want) {
			w.Errorf("took %q, want %q", took, want)
		}
		if got := len(one.got()); got != 1 { // the gate of the bed comes last
			w.Errorf("the last gate got %d", got)
		}
	})
}

func TestWhatIsNoNodeOfTheNetwork(t *testing.T) {
	inAWorld(t, []string{pchain.V05}, func(w *world) {
		key, _, err := crypto.GenerateSecp256k1Key(rand.Reader)
		if err != nil {
			w.Fatal(err)
		}
		n := w.lab.Internet().Machine("other", machine()).Host(host.Config{Identity: key})
		if _, err := chain.New(n, chain.Config{}); !errors.Is(err, chain.ErrNotEd25519) {
			w.Errorf("another kind of key: %v", err)
		}
		p, _ := pchain.ProfileOf(w.profile)
		n = w.lab.Internet().Machine("node", machine()).Host(host.Config{})
		if _, err := chain.New(n, chain.Config{Profile: p, Topics: []string{"mine"}}); !errors.Is(err, gossip.ErrBadTopic) {
			w.Errorf("a topic without meaning: %v", err)
		}
		time.Sleep(time.Second)
	})
}

// keyThat makes a key whose id is as wanted.
func keyThat(w *world, is func(peer.ID) bool) crypto.PrivKey {
	w.Helper()
	for range 100 {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			w.Fatal(err)
		}
		if id, err := peer.IDFromPrivateKey(key); err == nil && is(id) {
			return key
		}
	}
	w.Fatal("no such key")
	return nil
}

// The hash table finds peers; what else it is asked to keep, it does not.
func TestRecordsAreRefused(t *testing.T) {
	inAWorld(t, []string{pchain.V05}, func(w *world) {
		one := w.full()
		n := w.lab.Internet().Machine("other", machine()).Host(host.Config{})
		r, err := route.New(n, route.Config{Protocol: pchain.Kademlia, Boot: []peer.AddrInfo{{ID: one.host.ID(), Addrs: one.host.Addrs()}}})
		if err != nil {
			w.Fatal(err)
		}
		defer r.Close()
		if err := r.Join(w.Context()); err != nil {
			w.Fatal(err)
		}
		key, value, err := route.Record{Name: "motd", Seq: 1, Value: []byte("hello")}.Seal(n.Peerstore().PrivKey(n.ID()))
		if err != nil {
			w.Fatal(err)
		}
		if kept, _, err := r.Put(w.Context(), key, value, nil); err == nil {
			w.Errorf("kept: %+v", kept)
		}
		if info, _, err := r.FindPeer(w.Context(), one.host.ID(), nil); err != nil || len(info.Addrs) == 0 {
			w.Errorf("found %v, %v", info, err)
		}
	})
}
