package vantage_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/vantage"

	"github.com/libp2p/go-libp2p/core/network"
)

// scene is a vantage point with two addresses and a node that asks it.
type scene struct {
	t      *testing.T
	lab    *natlab.Lab
	server *vantage.Server
	at     netip.AddrPort // where the node reaches it
	node   *natlab.Machine
	answer vantage.Answer
}

func start(t *testing.T, cfg vantage.Config, f func(s *scene)) {
	t.Helper()
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		n := lab.Internet().Machine("vantage", natlab.MachineConfig{Addresses: 2}).Host(host.Config{})
		server, err := vantage.New(n, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		})
		s := &scene{t: t, lab: lab, server: server, node: lab.Internet().Machine("node", natlab.MachineConfig{})}
		to := n.ListenAddrs()[0]
		s.at, _ = addr.UDP(to)
		client := s.node.Host(host.Config{})
		conn, err := client.DialAddr(t.Context(), n.ID(), to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		st, err := client.OpenOn(t.Context(), conn, vantage.Protocol)
		if err != nil {
			t.Fatal(err)
		}
		if s.answer, err = vantage.Ask(t.Context(), st); err != nil {
			t.Fatal(err)
		}
		f(s)
	})
}

// socket opens a socket of the node's machine, or of another.
func (s *scene) socket(m *natlab.Machine) net.PacketConn {
	s.t.Helper()
	c, err := m.ListenUDP("udp4", &net.UDPAddr{IP: m.Addrs()[0].AsSlice()})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// hear counts the datagrams and bytes that come to a socket within a second.
func (s *scene) hear(c net.PacketConn) (datagrams, size int) {
	s.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		s.t.Fatal(err)
	}
	buf := make([]byte, 2048)
	for {
		n, _, err := c.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return datagrams, size
		}
		if err != nil {
			s.t.Fatal(err)
		}
		datagrams, size = datagrams+1, size+n
	}
}

func (s *scene) send(c net.PacketConn, data []byte) {
	s.t.Helper()
	if _, err := c.WriteTo(data, net.UDPAddrFromAddrPort(s.at)); err != nil {
		s.t.Fatal(err)
	}
}

// ask is an ask for a probe as doc.go describes it.
func ask(site byte, token []byte) []byte {
	out := append(binary.BigEndian.AppendUint64([]byte{0x0d, 'd', 'v', 3}, 99), site, byte(len(token)))
	out = append(out, token...)
	return append(out, make([]byte, 128-len(out))...)
}

func reflect() []byte {
	return append(binary.BigEndian.AppendUint64([]byte{0x0d, 'd', 'v', 1}, 99), make([]byte, 52)...)
}

// TestNothingIsAmplified sends all kinds of datagrams, some of them from where a token
// is good, and counts what comes back.
func TestNothingIsAmplified(t *testing.T) {
	start(t, vantage.Config{}, func(s *scene) {
		own, err := s.node.ListenUDP("udp4", &net.UDPAddr{IP: s.node.Addrs()[0].AsSlice(), Port: 5001})
		if err != nil {
			t.Fatal(err)
		}
		defer own.Close()
		for name, data := range map[string][]byte{
			"reflect": reflect(), "reflect, long": append(reflect(), make([]byte, 1000)...),
			"reflect, short": reflect()[:63], "ask": ask(0, s.answer.Token), "ask, no such site": ask(200, s.answer.Token),
			"reflected": {0x0d, 'd', 'v', 2, 0, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3, 4, 5, 6}, "noise": bytes.Repeat([]byte{0x0d}, 500), "empty": {},
		} {
			s.send(own, data)
			if _, size := s.hear(own); size > len(data) {
				t.Errorf("%s: %d bytes came back for %d", name, size, len(data))
			}
		}
	})
}

// TestNobodyElseIsSentAnything: a token works only from the endpoint that it was given
// to, and what is asked from there comes there.
func TestNobodyElseIsSentAnything(t *testing.T) {
	start(t, vantage.Config{}, func(s *scene) {
		victim := s.lab.Internet().Machine("victim", natlab.MachineConfig{})
		target := s.socket(victim)
		// The victim's own machine stands in for a forged source address.
		s.send(target, ask(0, s.answer.Token))
		s.send(target, ask(1, s.answer.Token))
		if n, _ := s.hear(target); n != 0 {
			t.Errorf("%d datagrams came where no token was given out", n)
		}
		other := s.socket(s.node)
		s.send(other, ask(1, s.answer.Token))
		if n, _ := s.hear(other); n != 0 {
			t.Errorf("%d datagrams came to another port than the token is for", n)
		}
		s.send(other, ask(1, nil))
		if n, _ := s.hear(other); n != 0 {
			t.Errorf("%d datagrams came without a token", n)
		}
	})
}

// TestATokenHoldsAtItsEndpoint: from the QUIC port itself, the probe comes from a port
// that was not written to, at the address that was asked for.
func TestATokenHoldsAtItsEndpoint(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		n := lab.Internet().Machine("vantage", natlab.MachineConfig{Addresses: 2}).Host(host.Config{})
		server, err := vantage.New(n, vantage.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		client := lab.Internet().Machine("node", natlab.MachineConfig{}).Host(host.Config{})
		conn, err := client.DialAddr(t.Context(), n.ID(), n.ListenAddrs()[0])
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		st, err := client.OpenOn(t.Context(), conn, vantage.Protocol)
		if err != nil {
			t.Fatal(err)
		}
		a, err := vantage.Ask(t.Context(), st)
		if err != nil {
			t.Fatal(err)
		}
		shared, err := client.SharedUDP()
		if err != nil || len(shared) != 1 {
			t.Fatalf("%d shared sockets, %v", len(shared), err)
		}
		c := vantage.NewClient(shared[0])
		defer c.Close()
		at, _ := addr.UDP(n.ListenAddrs()[0])
		for i, site := range a.Sites {
			if err := c.AskProbe(uint64(i+1), at, byte(i), a.Token); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				r := <-c.Replies()
				switch {
				case r.ID != uint64(i+1):
					t.Errorf("reply to %d, want %d", r.ID, i+1)
				case r.Probe() && r.From != netip.AddrPortFrom(site.IP, site.Probe):
					t.Errorf("probe from %s, want %s port %d", r.From, site.IP, site.Probe)
				case !r.Probe() && (r.From != at || r.Observed != a.Observed):
					t.Errorf("seen at %s by %s, want %s by %s", r.Observed, r.From, a.Observed, at)
				}
			}
		}
		if len(a.Sites) != 2 || a.Sites[0].Here == a.Sites[1].Here {
			t.Errorf("sites %+v", a.Sites)
		}
	})
}

// TestOneNetworkIsLimited: a flood from one /24 is answered up to the limit, and a node
// elsewhere is answered all the same.
func TestOneNetworkIsLimited(t *testing.T) {
	const limit = 50
	start(t, vantage.Config{PerPrefix: limit}, func(s *scene) {
		flood := s.socket(s.lab.Internet().Machine("flood", natlab.MachineConfig{}))
		for range 30 * limit {
			s.send(flood, reflect())
			time.Sleep(100 * time.Microsecond) // virtual, so that no queue is the limit
		}
		honest := s.socket(s.lab.Internet().Machine("honest", natlab.MachineConfig{}))
		s.send(honest, reflect())
		if n, _ := s.hear(honest); n != 1 {
			t.Errorf("%d answers elsewhere, want 1", n)
		}
		// A burst, and what the rate adds in the 0.15 s of the flood and after.
		if n, _ := s.hear(flood); n < limit || n > 2*limit {
			t.Errorf("%d answers to a flood, want about %d", n, limit)
		}
	})
}

// TestPeersAreLimited: requests over the limit have their stream reset.
func TestPeersAreLimited(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		n := lab.Internet().Machine("vantage", natlab.MachineConfig{}).Host(host.Config{})
		server, err := vantage.New(n, vantage.Config{PerPeer: 3})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		client := lab.Internet().Machine("node", natlab.MachineConfig{}).Host(host.Config{})
		conn, err := client.DialAddr(t.Context(), n.ID(), n.ListenAddrs()[0])
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		asked := func() error {
			st, err := client.OpenOn(t.Context(), conn, vantage.Protocol)
			if err != nil {
				t.Fatal(err)
			}
			_, err = vantage.Ask(t.Context(), st)
			return err
		}
		for i := range 3 {
			if err := asked(); err != nil {
				t.Errorf("request %d: %v", i, err)
			}
		}
		var reset *network.StreamError
		if err := asked(); !errors.As(err, &reset) {
			t.Errorf("a request over the limit: %v, want a reset", err)
		}
		time.Sleep(20 * time.Second) // virtual: a third of a minute's three
		if err := asked(); err != nil {
			t.Errorf("after a while: %v", err)
		}
	})
}

// TestASlowStreamIsEnded: a stream that says nothing, or sends what is no request, is
// reset, and others are served meanwhile.
func TestASlowStreamIsEnded(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		n := lab.Internet().Machine("vantage", natlab.MachineConfig{}).Host(host.Config{})
		server, err := vantage.New(n, vantage.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		client := lab.Internet().Machine("node", natlab.MachineConfig{}).Host(host.Config{})
		conn, err := client.DialAddr(t.Context(), n.ID(), n.ListenAddrs()[0])
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for name, sends := range map[string][]byte{
			"half a frame": {20, 1}, "too long": {0xff, 0xff, 0xff, 0x7f}, "no request": {2, 0x08, 0x80},
		} {
			st, err := client.OpenOn(t.Context(), conn, vantage.Protocol)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := st.Write(sends); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
			began := time.Now()
			_, err = st.Read(make([]byte, 1))
			var reset *network.StreamError
			if !errors.As(err, &reset) || !reset.Remote {
				t.Errorf("%s: %v after %s, want a reset", name, err, time.Since(began))
			}
			stop()
			cancel()
		}
	})
}

// TestNeedsAnAddress: on a wildcard's socket nothing can be reflected, and without QUIC
// there is nothing to reflect with.
func TestNeedsAnAddress(t *testing.T) {
	n, err := host.New(host.Config{Transports: []host.Transport{host.TCP}, Family: host.IPv4Only})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if s, err := vantage.New(n, vantage.Config{}); !errors.Is(err, vantage.ErrNoSite) {
		t.Errorf("%v, %v without QUIC", s, err)
	}
	wild, err := host.New(host.Config{Transports: []host.Transport{host.QUIC}, Family: host.IPv4Only})
	if err != nil {
		t.Fatal(err)
	}
	defer wild.Close()
	if s, err := vantage.New(wild, vantage.Config{}); !errors.Is(err, vantage.ErrNoSite) {
		t.Errorf("%v, %v on a wildcard", s, err)
	}
	each, err := host.New(host.Config{Transports: []host.Transport{host.QUIC}, EachAddress: true})
	if err != nil {
		t.Fatal(err)
	}
	defer each.Close()
	s, err := vantage.New(each, vantage.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, site := range s.Sites() {
		if site.IP.IsUnspecified() || len(site.Ports) != 2 || site.Probe == 0 {
			t.Errorf("site %+v", site)
		}
	}
}
