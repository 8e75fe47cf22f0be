package reach_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"dibber/netkit/dialback"
	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/reach"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// watch keeps what a Service tells.
type watch struct {
	s *reach.Service

	mu  sync.Mutex // guards all
	all []reach.Event
}

func start(t *testing.T, n *host.Node) *watch {
	t.Helper()
	w := new(watch)
	s, err := reach.New(n, reach.Config{On: func(e reach.Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.all = append(w.all, e)
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.s = s
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// await waits until the node's state is want, and returns how long that took in
// virtual time.
func (w *watch) await(t *testing.T, want reach.State, most time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	for w.s.State() != want {
		if time.Since(began) > most {
			t.Fatalf("still %s after %s, not %s: %s", w.s.State(), most, want, w)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return time.Since(began)
}

// states are the states that were told, in order.
func (w *watch) states() (out []reach.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.all {
		if e.State != nil {
			out = append(out, e.State.Is)
		}
	}
	return out
}

// last is the last that was told of an address.
func (w *watch) last(at ma.Multiaddr) *reach.AddressEvent {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range slices.Backward(w.all) {
		if e.Address != nil && e.Address.Addr.Equal(at) {
			return e.Address
		}
	}
	return nil
}

func (w *watch) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var s string
	for _, e := range w.all {
		if e.Address != nil {
			s += fmt.Sprintf("\n%+v", *e.Address)
		} else {
			s += fmt.Sprintf("\n%+v", *e.State)
		}
	}
	return s
}

// servers puts dial-back servers on the internet.
func servers(t *testing.T, lab *natlab.Lab, count int) (out []*host.Node) {
	t.Helper()
	var running []*dialback.Server
	for i := range count {
		n := lab.Internet().Machine(fmt.Sprintf("server%d", i), natlab.MachineConfig{}).Host(host.Config{})
		s, err := dialback.New(n, dialback.Config{})
		if err != nil {
			t.Fatal(err)
		}
		out, running = append(out, n), append(running, s)
	}
	t.Cleanup(func() {
		for _, n := range out {
			for _, p := range n.Network().Peers() {
				_ = n.Network().ClosePeer(p)
			}
		}
		time.Sleep(time.Minute) // v1 sits out its last dial-back; see the tests of dialback
		for _, s := range running {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return out
}

func connect(t *testing.T, n *host.Node, to ...*host.Node) {
	t.Helper()
	for _, s := range to {
		if _, err := n.Dial(t.Context(), s.ID(), s.ListenAddrs()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPublicHost(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		n := lab.Internet().Machine("host", natlab.MachineConfig{}).Host(host.Config{})
		two := servers(t, lab, 2)
		w := start(t, n)
		connect(t, n, two...)
		w.await(t, reach.Public, 5*time.Second)
		e := w.last(n.ListenAddrs()[0])
		if e == nil || e.Is != reach.Reachable || len(e.By) != 2 || e.Asked != 2 {
			t.Errorf("events %s", w)
		}
	})
}

func TestOneServerIsEnoughAtFirst(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		n := lab.Internet().Machine("host", natlab.MachineConfig{}).Host(host.Config{})
		all := servers(t, lab, 2)
		w := start(t, n)
		connect(t, n, all[0])
		w.await(t, reach.Public, 5*time.Second)
		if e := w.last(n.ListenAddrs()[0]); !slices.Equal(e.By, []peer.ID{all[0].ID()}) || e.Asked != 1 {
			t.Errorf("events %s", w)
		}
	})
}

// Every kind of NAT, and what AutoNAT can see of it from outside: one that filters
// by address lets the servers in, since the host is connected to them.
func TestBehindNAT(t *testing.T) {
	for _, nat := range natlab.Kinds(natlab.Random) {
		want := reach.Private
		if nat.Filtering == natlab.EndpointIndependent || nat == (natlab.NAT{Filtering: natlab.AddressDependent, Ports: natlab.Random}) {
			want = reach.Public
		}
		t.Run(nat.String(), func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				home := lab.Internet().Router("home", natlab.RouterConfig{NAT: nat})
				n := home.LAN().Machine("host", natlab.MachineConfig{}).Host(host.Config{})
				w := start(t, n)
				connect(t, n, servers(t, lab, 3)...)
				t.Logf("%s after %s", want, w.await(t, want, 2*time.Minute))
				if states := w.states(); len(states) != 1 {
					t.Errorf("states %v", states)
				}
			})
		})
	}
}

func TestFirewallComesAndGoes(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		home := lab.Internet().Router("home", natlab.RouterConfig{})
		n := home.LAN().Machine("host", natlab.MachineConfig{}).Host(host.Config{})
		w := start(t, n)
		connect(t, n, servers(t, lab, 2)...)
		w.await(t, reach.Public, 10*time.Second)
		home.SetNAT(natlab.NAT{Filtering: natlab.AddressAndPortDependent})
		t.Logf("private after %s", w.await(t, reach.Private, 10*time.Minute))
		home.SetNAT(natlab.NAT{})
		t.Logf("public after %s", w.await(t, reach.Public, 10*time.Minute))
	})
}

func TestAddressChanges(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		home := lab.Internet().Router("home", natlab.RouterConfig{})
		n := home.LAN().Machine("host", natlab.MachineConfig{}).Host(host.Config{})
		two := servers(t, lab, 2)
		w := start(t, n)
		connect(t, n, two...)
		w.await(t, reach.Public, 10*time.Second)
		before := n.Observations()[0].Addr
		home.Reconnect()
		for _, s := range two {
			_ = n.Network().ClosePeer(s.ID())
		}
		connect(t, n, two...)
		time.Sleep(10 * time.Second)
		after := n.Observations()[0].Addr
		if old, now := w.last(before), w.last(after); before.Equal(after) || old == nil || old.Is != reach.Unknown || old.Cause != reach.CauseGone ||
			now == nil || now.Is != reach.Reachable {
			t.Errorf("%s, then %s: %s", before, after, w)
		}
		if w.s.State() != reach.Public {
			t.Errorf("events %s", w)
		}
	})
}

// What the operator announces is not believed unasked.
func TestAnnouncedInVain(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		nobody := ma.StringCast("/ip4/17.0.99.1/udp/4001/quic-v1")
		n := lab.Internet().Machine("host", natlab.MachineConfig{}).Host(host.Config{Announce: []ma.Multiaddr{nobody}})
		w := start(t, n)
		connect(t, n, servers(t, lab, 2)...)
		time.Sleep(time.Minute)
		if e := w.last(nobody); e == nil || e.Is != reach.Unreachable || w.s.State() != reach.Public {
			t.Errorf("events %s", w)
		}
	})
}

func TestNothingToAskAbout(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		home := lab.Internet().Router("home", natlab.RouterConfig{})
		a := home.LAN().Machine("a", natlab.MachineConfig{}).Host(host.Config{})
		b := home.LAN().Machine("b", natlab.MachineConfig{}).Host(host.Config{})
		s, err := dialback.New(b, dialback.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		w := start(t, a)
		connect(t, a, b)
		time.Sleep(5 * time.Minute)
		if w.s.State() != reach.Undecided || len(w.all) != 0 {
			t.Errorf("a host that only its LAN knows is %s: %s", w.s.State(), w)
		}
	})
}
