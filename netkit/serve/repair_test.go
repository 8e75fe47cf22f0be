package serve_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"dibber/netkit/dial"
	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/peering"
	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// mostRepair is how long a repair may take from the end of what caused the loss.
const mostRepair = 10 * time.Second

// serverName is the name by which nodes know their server.
const serverName = "server.example"

// site is a server that can be killed and started again, and a node that depends on
// it.
type site struct {
	t   *testing.T
	lab *natlab.Lab
	dns natlab.DNS

	key     crypto.PrivKey
	machine *natlab.Machine
	server  *host.Node
	relay   *relay.Server
	point   *rendezvous.Server
	relayBy relay.Config            // of the next start
	pointBy rendezvous.ServerConfig // of the next start

	router  *natlab.Router
	at      *natlab.Machine // of the node
	node    *host.Node
	events  *events
	kept    map[string]bool // roles that the node takes
	named   bool            // the server is given by name
	peering *peering.Config // of the node
	// relaying makes the node a relay for others, too.
	relaying bool
}

// The roles of a node that depends on a server.
const (
	reserves  = "use-relay"
	registers = "register"
	keeps     = "peer"
)

func newKey(t *testing.T) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newSite(t *testing.T, lab *natlab.Lab) *site {
	t.Helper()
	s := &site{t: t, lab: lab, key: newKey(t), kept: map[string]bool{}}
	s.machine = lab.Internet().Machine("server", natlab.MachineConfig{})
	s.start()
	s.router = lab.Internet().Router("router", natlab.RouterConfig{NAT: natlab.NAT{Filtering: natlab.AddressAndPortDependent}})
	s.at = s.router.LAN().Machine("node", natlab.MachineConfig{})
	return s
}

// start starts the server's process.
func (s *site) start() {
	s.t.Helper()
	s.dns.Set(serverName, s.machine.Addrs()...)
	s.server = s.machine.Host(host.Config{Identity: s.key})
	s.serve()
}

// serve starts the server's roles.
func (s *site) serve() {
	s.t.Helper()
	var err error
	if s.relay, err = relay.New(s.server, s.relayBy); err != nil {
		s.t.Fatal(err)
	}
	if s.point, err = rendezvous.NewServer(s.server, s.pointBy); err != nil {
		s.t.Fatal(err)
	}
	relay, point := s.relay, s.point
	s.t.Cleanup(func() {
		if err := relay.Close(); err != nil {
			s.t.Error(err)
		}
		if err := point.Close(); err != nil {
			s.t.Error(err)
		}
	})
}

// kill ends the server's process without a word to anybody. Registrations are lost.
func (s *site) kill() {
	s.t.Helper()
	s.machine.Link().Cut()
	for _, end := range []func() error{s.relay.Close, s.point.Close, s.server.Close} {
		if err := end(); err != nil {
			s.t.Error(err)
		}
	}
	s.machine.Link().Restore()
}

// info is how the node knows the server.
func (s *site) info() peer.AddrInfo {
	at := s.server.ListenAddrs()
	if s.named {
		at = []ma.Multiaddr{ma.StringCast("/dns4/" + serverName + "/udp/4001/quic-v1")}
	}
	return peer.AddrInfo{ID: s.server.ID(), Addrs: at}
}

// join starts the node in the given roles, and returns when all is well.
func (s *site) join(roles ...string) {
	s.t.Helper()
	resolver, err := s.dns.Resolver()
	if err != nil {
		s.t.Fatal(err)
	}
	// A wildcard, as serve has by default, so that the machine may change its address.
	s.node = s.at.Host(host.Config{Resolver: resolver, Listen: []ma.Multiaddr{ma.StringCast("/ip4/0.0.0.0/udp/4001/quic-v1")}})
	cfg := serve.Config{Peering: s.peering}
	if s.relaying {
		cfg.Relay = &relay.Config{}
	}
	for _, role := range roles {
		s.kept[role] = true
		switch role {
		case reserves:
			cfg.Relays = []peer.AddrInfo{s.info()}
		case registers:
			cfg.Registrations = []serve.Registration{{Server: s.info(), Namespace: "chat"}}
		case keeps:
			cfg.Peers = []peer.AddrInfo{s.info()}
		}
	}
	s.events = start(s.t, s.node, cfg)
	if took := s.untilWell(); took > mostRepair {
		s.t.Fatalf("it took %s to begin with", took)
	}
	time.Sleep(30 * time.Second) // later registrations, with all addresses, are done
}

// well reports whether the server has all that the node is to have there.
func (s *site) well() bool {
	id := s.node.ID()
	open := slices.DeleteFunc(slices.Clone(s.server.Conns(id)), func(c network.Conn) bool { return c.IsClosed() })
	if len(open) == 0 || len(s.node.Conns(s.server.ID())) == 0 {
		return false
	}
	if s.kept[reserves] {
		held := slices.ContainsFunc(s.relay.Reservations(), func(r relay.Slot) bool { return r.Peer == id })
		if !held || len(s.node.Circuits()) == 0 {
			return false
		}
	}
	return !s.kept[registers] || s.point.Stats().Registrations == 1 && s.events.announced(s.router.External())
}

// announced reports whether the last registration has an address with that IP.
func (ev *events) announced(ip netip.Addr) bool {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	for _, e := range slices.Backward(ev.all) {
		if e.Registration != nil && len(e.Registration.Addrs) > 0 {
			return slices.ContainsFunc(e.Registration.Addrs, func(a ma.Multiaddr) bool {
				at, err := manet.ToIP(a)
				return err == nil && at.String() == ip.String()
			})
		}
	}
	return false
}

// untilWell returns how long it takes until all is well.
func (s *site) untilWell() time.Duration {
	s.t.Helper()
	began := time.Now()
	for !s.well() {
		if time.Since(began) > 5*time.Minute {
			s.t.Fatalf("not repaired within 5 minutes; last %s", s.events.last())
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(began)
}

// repaired fails unless all is well soon, and stays so.
func (s *site) repaired() {
	s.t.Helper()
	took := s.untilWell()
	s.t.Logf("repaired %s after the end of the cause", took)
	if took > mostRepair {
		s.t.Errorf("repaired %s after the end of the cause", took)
	}
	if s.kept[registers] {
		s.findable(mostRepair - took)
	}
	time.Sleep(time.Minute)
	if !s.well() {
		s.t.Error("it did not last")
	}
}

// findable fails unless a stranger finds and reaches the node by what the server says of it within
// that time.
func (s *site) findable(within time.Duration) {
	s.t.Helper()
	time.Sleep(within)
	stranger := s.lab.Internet().Machine(fmt.Sprintf("stranger %s", s.lab.Elapsed()), natlab.MachineConfig{}).Host(host.Config{})
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	server := peer.AddrInfo{ID: s.server.ID(), Addrs: s.server.ListenAddrs()}
	page, err := rendezvous.DiscoverAll(ctx, stranger, server, rendezvous.DiscoverRequest{Namespace: "chat"})
	if err != nil || len(page.Entries) != 1 {
		s.t.Errorf("a stranger finds %+v, %v", page.Entries, err)
		return
	}
	if !s.kept[reserves] {
		return // nothing leads in
	}
	if _, err := dial.Do(ctx, stranger, s.node.ID(), page.Entries[0].Addrs, dial.Config{}); err != nil {
		s.t.Errorf("a stranger does not reach the node at %v: %v", page.Entries[0].Addrs, err)
	}
	_ = stranger.Close() // or the lab does
}

// last is the text of the last few events.
func (ev *events) last() string {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	var out []string
	for _, e := range ev.all[max(0, len(ev.all)-3):] {
		switch {
		case e.Relay != nil:
			out = append(out, fmt.Sprintf("reservation %s: %v", e.Relay.Kind, e.Relay.Err))
		case e.Registration != nil:
			out = append(out, fmt.Sprintf("registration %s: %v", e.Registration.Kind, e.Registration.Err))
		case e.Peer != nil:
			out = append(out, fmt.Sprintf("peer %s: %v", e.Peer.Kind, e.Peer.Err))
		}
	}
	return strings.Join(out, "; ")
}
