package host

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

// anOnion is the address of no onion service that is known of.
const anOnion = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd"

// socksServer is a SOCKS5 server that needs no authentication. It notes what it is asked for, and connects to one place whatever
// that is.
type socksServer struct {
	at string
	to string // empty: refuse

	mu    sync.Mutex // guards following
	asked []string
}

func newSOCKSServer(t *testing.T, to string) *socksServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &socksServer{at: l.Addr().String(), to: to}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); served.Wait() })
	return s
}

// serve answers one client as RFC 1928 has it.
func (s *socksServer) serve(c net.Conn) {
	defer c.Close()
	head := make([]byte, 2)
	if _, err := io.ReadFull(c, head); err != nil {
		return
	}
	if _, err := io.CopyN(io.Discard, c, int64(head[1])); err != nil {
		return
	}
	_, _ = c.Write([]byte{5, 0})
	request := make([]byte, 4)
	if _, err := io.ReadFull(c, request); err != nil {
		return
	}
	size := map[byte]int{1: 4, 4: 16}[request[3]]
	if request[3] == 3 {
		if _, err := io.ReadFull(c, head[:1]); err != nil {
			return
		}
		size = int(head[0])
	}
	where := make([]byte, size+2)
	if _, err := io.ReadFull(c, where); err != nil {
		return
	}
	name := net.IP(where[:size]).String()
	if request[3] == 3 {
		name = string(where[:size])
	}
	s.mu.Lock()
	s.asked = append(s.asked, name)
	s.mu.Unlock()
	if s.to == "" {
		_, _ = c.Write([]byte{5, 4, 0, 1, 0, 0, 0, 0, 0, 0}) // host unreachable
		return
	}
	out, err := net.Dial("tcp", s.to)
	if err != nil {
		return
	}
	defer out.Close()
	_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	var back sync.WaitGroup
	back.Go(func() { _, _ = io.Copy(c, out); _ = c.Close() })
	_, _ = io.Copy(out, c)
	_ = out.Close()
	back.Wait()
}

func (s *socksServer) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

func tcpPort(t *testing.T, n *Node) string {
	t.Helper()
	port, err := n.ListenAddrs()[0].ValueForProtocol(ma.P_TCP)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// socksHost is a host with a SOCKS server.
func socksHost(t *testing.T, server string, more ...func(*Config)) *Node {
	t.Helper()
	s, err := ParseSOCKS(server)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{SOCKS: s}
	for _, m := range more {
		m(&cfg)
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// TestSOCKSOnion: an onion address is dialled by its name, which the server resolves, and what comes of it is a connection with that
// address, not with the server.
func TestSOCKSOnion(t *testing.T) {
	b := loopback(t, Config{Transports: []Transport{TCP}, Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}})
	server := newSOCKSServer(t, "127.0.0.1:"+tcpPort(t, b))
	own := ma.StringCast("/onion3/" + anOnion + ":4001")
	a := socksHost(t, server.at, func(c *Config) { c.Announce = []ma.Multiaddr{own} })
	at := ma.StringCast("/onion3/" + anOnion + ":80")
	c, err := a.Dial(t.Context(), b.ID(), []ma.Multiaddr{at})
	if err != nil {
		t.Fatal(err)
	}
	if !c.RemoteMultiaddr().Equal(at) {
		t.Errorf("connected with %s, want %s", c.RemoteMultiaddr(), at)
	}
	if diff := cmp.Diff([]string{anOnion + ".onion"}, server.requests()); diff != "" {
		t.Errorf("the server was asked for (-want +got):\n%s", diff)
	}
	// Nothing that the other learns is of this machine.
	if ok, err := a.Supports(t.Context(), c, "/ipfs/ping/1.0.0"); err != nil || !ok {
		t.Errorf("ping over it: %v, %v", ok, err)
	}
	<-b.Identified(b.Conns(a.ID())[0])
	if got := b.Peerstore().Addrs(a.ID()); len(got) != 1 || !got[0].Equal(own) {
		t.Errorf("the other knows this host by %v, want %s alone", got, own)
	}
	if got := a.AddrsFor(b.ID()); len(got) != 1 || !got[0].Equal(own) {
		t.Errorf("addresses for the other: %v, want %s alone", got, own)
	}
	for _, l := range a.Network().ListenAddresses() {
		if _, err := l.ValueForProtocol(ma.P_CIRCUIT); err != nil && !strings.HasPrefix(l.String(), "/ip4/127.0.0.1/tcp/") {
			t.Errorf("it listens on %s", l)
		}
	}
	if _, err := a.ListenUDP(anyPort()); !errors.Is(err, ErrHidden) {
		t.Errorf("a UDP socket beside it: %v", err)
	}
	if err := a.Control("tcp", "", nil); !errors.Is(err, ErrHidden) {
		t.Errorf("a socket beside it: %v", err)
	}
}

// TestSOCKSRefuses: names, transports without a way through the server, and places to listen at that others reach.
func TestSOCKSRefuses(t *testing.T) {
	server := newSOCKSServer(t, "")
	b := loopback(t, Config{Transports: []Transport{TCP}, Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}})
	a := socksHost(t, server.at)
	if _, err := a.Dial(t.Context(), b.ID(), []ma.Multiaddr{ma.StringCast("/dns4/localhost/tcp/" + tcpPort(t, b))}); err == nil {
		t.Error("a name was dialled")
	}
	if r := a.Resolve(t.Context(), b.ID(), ma.StringCast("/dnsaddr/example.com")); !errors.Is(r.Err, ErrNames) {
		t.Errorf("a name was resolved: %v", r.Err)
	}
	if got := server.requests(); len(got) > 0 {
		t.Errorf("the server was asked for %v", got)
	}
	_, err := a.Dial(t.Context(), b.ID(), b.ListenAddrs())
	if !strings.Contains(err.Error(), "host unreachable") { // libp2p does not wrap the causes
		t.Errorf("a server that refuses: %v", err)
	}
	for name, cfg := range map[string]Config{
		"wildcard":  {Listen: []ma.Multiaddr{ma.StringCast("/ip4/0.0.0.0/tcp/0")}},
		"public":    {Listen: []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.1/tcp/0")}},
		"interface": {Interface: "lo"},
	} {
		cfg.SOCKS = &SOCKS{At: server.at}
		if n, err := New(cfg); !errors.Is(err, ErrSOCKS) {
			t.Errorf("%s: %v, %v", name, n, err)
		}
	}
	if _, err := New(Config{SOCKS: &SOCKS{At: server.at}, Transports: []Transport{QUIC}}); !errors.Is(err, ErrNoTransport) {
		t.Errorf("QUIC alone: %v", err)
	}
	for _, text := range []string{"", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:70000", "http://127.0.0.1:1", ":9050", "a:1/b"} {
		if s, err := ParseSOCKS(text); !errors.Is(err, ErrSOCKS) {
			t.Errorf("%q is read as %+v, %v", text, s, err)
		}
	}
	if s, err := ParseSOCKS("socks5://ann:secret@[::1]:9050"); err != nil || *s != (SOCKS{"[::1]:9050", "ann", "secret"}) {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestSOCKSServer is against a server that others wrote, which asks for a password.
func TestSOCKSServer(t *testing.T) {
	path, err := exec.LookPath("microsocks")
	if err != nil {
		t.Skip("needs a SOCKS server: microsocks is not in the path (apt-get install microsocks)")
	}
	at := startSOCKS(t, path, "-u", "ann", "-P", "secret")
	b := loopback(t, Config{Transports: []Transport{TCP}, Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0"), ma.StringCast("/ip6/::1/tcp/0")}})
	for _, to := range b.ListenAddrs() {
		a := socksHost(t, "ann:secret@"+at)
		c, err := a.Dial(t.Context(), b.ID(), []ma.Multiaddr{to})
		if err != nil {
			t.Errorf("%s: %v", to, err)
			continue
		}
		if got := c.RemoteMultiaddr(); !got.Equal(to) || c.Stat().Direction != network.DirOutbound {
			t.Errorf("connected with %s, want %s", got, to)
		}
		if ok, err := a.Supports(t.Context(), c, "/ipfs/ping/1.0.0"); err != nil || !ok {
			t.Errorf("ping over it: %v, %v", ok, err)
		}
		if from, here := b.Conns(a.ID())[0].RemoteMultiaddr(), c.LocalMultiaddr(); from.Equal(here) {
			t.Errorf("%s connected by itself", here)
		}
	}
	wrong := socksHost(t, "ann:guess@"+at)
	if _, err := wrong.Dial(t.Context(), b.ID(), b.ListenAddrs()); err == nil {
		t.Error("a wrong password was taken")
	}
	// An onion service needs Tor: this server says that there is no such name.
	a := socksHost(t, "ann:secret@"+at)
	if _, err := a.Dial(t.Context(), b.ID(), []ma.Multiaddr{ma.StringCast("/onion3/" + anOnion + ":80")}); err == nil {
		t.Error("an onion service was reached without Tor")
	}
}

// startSOCKS starts a SOCKS server, on a port that was free a moment ago, until the test ends.
func startSOCKS(t *testing.T, path string, args ...string) (at string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	for range 10 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at = l.Addr().String()
		_, port, _ := net.SplitHostPort(at)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		server := exec.CommandContext(ctx, path, append([]string{"-i", "127.0.0.1", "-p", port}, args...)...)
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { defer close(ended); _ = server.Wait() }()
		t.Cleanup(func() { cancel(); <-ended })
		if answers(at, ended) {
			return at
		}
	}
	t.Fatal("the SOCKS server did not start")
	return ""
}

// answers waits until somebody listens there, or the program has ended.
func answers(at string, ended <-chan struct{}) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial("tcp", at); err == nil {
			return c.Close() == nil
		}
		select {
		case <-ended:
			return false
		case <-tick.C:
		}
	}
}

func anyPort() netip.AddrPort { return netip.AddrPortFrom(netip.IPv4Unspecified(), 0) }
