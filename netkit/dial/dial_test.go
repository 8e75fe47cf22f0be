package dial_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"dibber/netkit/dial"
	"dibber/netkit/host"
	"dibber/netkit/ping"
	"dibber/netkit/relay"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	quicAddr = "/ip4/127.0.0.1/udp/0/quic-v1"
	tcpAddr  = "/ip4/127.0.0.1/tcp/0"
)

func node(t *testing.T, cfg host.Config, listen ...string) *host.Node {
	t.Helper()
	for _, l := range listen {
		cfg.Listen = append(cfg.Listen, ma.StringCast(l))
	}
	n, err := host.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// outcome finds the attempt at an address.
func outcome(t *testing.T, r dial.Result, at ma.Multiaddr) dial.Attempt {
	t.Helper()
	for _, a := range r.Attempts {
		if a.Addr == at.String() {
			return a
		}
	}
	t.Fatalf("no attempt at %s in %+v", at, r.Attempts)
	return dial.Attempt{}
}

// closedPort is a TCP port on which nothing listens.
func closedPort(t *testing.T) ma.Multiaddr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return ma.StringCast("/ip4/127.0.0.1/tcp/" + strconv.Itoa(port))
}

func TestDirectDialTellsEverything(t *testing.T) {
	a, b := node(t, host.Config{}, quicAddr, tcpAddr), node(t, host.Config{Agent: "b/1"}, quicAddr, tcpAddr)
	r, err := dial.Do(t.Context(), a, b.ID(), b.ListenAddrs(), dial.Config{Ping: ping.Config{Count: 2, Interval: time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	if *r.Path != dial.Direct || *r.Limited || r.Limits != nil || *r.Transport != "quic" || r.Upgrade != nil {
		t.Errorf("path %+v", r)
	}
	if r.Identify == nil || r.Identify.Agent != "b/1" || *r.Identify.KeyType != "ed25519" || !r.Identify.SignedRecord || r.Identify.ObservedAddr == nil {
		t.Errorf("identify %+v", r.Identify)
	}
	if r.Ping.Received != 2 || len(r.Pongs) != 2 || r.Pongs[0].Path != dial.Direct {
		t.Errorf("ping %+v %+v", r.Ping, r.Pongs)
	}
	for _, at := range b.ListenAddrs() {
		got := outcome(t, r, at)
		if _, err := at.ValueForProtocol(ma.P_TCP); err == nil {
			// It lost the race or never ran it.
			if got.Outcome != dial.NotTried && got.Outcome != dial.Cancelled || *got.Reason != dial.OtherWon || got.DelayMS != 30 {
				t.Errorf("tcp %+v", got)
			}
		} else if got.Outcome != dial.Won || got.StartMS == nil || got.TransportMS == nil || got.Reason != nil {
			t.Errorf("quic %+v", got)
		}
	}
}

func TestTCPPhasesAreTimed(t *testing.T) {
	a, b := node(t, host.Config{}, tcpAddr), node(t, host.Config{}, tcpAddr)
	r, err := dial.Do(t.Context(), a, b.ID(), b.ListenAddrs(), dial.Config{})
	if err != nil {
		t.Fatal(err)
	}
	at := r.Attempts[0]
	if at.TransportMS == nil || at.SecurityMS == nil || at.MuxMS == nil || at.TotalMS == nil {
		t.Fatalf("phases %+v", at)
	}
	if sum := *at.TransportMS + *at.SecurityMS + *at.MuxMS; sum > *at.TotalMS+0.01 || sum < *at.TotalMS-0.01 {
		t.Errorf("phases add up to %v of %v", sum, *at.TotalMS)
	}
	if *r.Security == "" || *r.Muxer != "/yamux/1.0.0" || !*r.EarlyMuxer {
		t.Errorf("stack %v %v %v", *r.Security, *r.Muxer, *r.EarlyMuxer)
	}
}

// freeUDP is a UDP port that nothing uses.
func freeUDP(t *testing.T) int {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}

func TestReasons(t *testing.T) {
	own := "/ip4/127.0.0.1/udp/" + strconv.Itoa(freeUDP(t)) + "/quic-v1"
	b, other := node(t, host.Config{}, tcpAddr), node(t, host.Config{}, quicAddr)
	closed := closedPort(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, then hangs up without a word
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	go func() {
		for {
			c, err := silent.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	hangsUp := ma.StringCast("/ip4/127.0.0.1/tcp/" + strconv.Itoa(silent.Addr().(*net.TCPAddr).Port))
	notRelay := b.ListenAddrs()[0].Encapsulate(ma.StringCast("/p2p/" + b.ID().String() + "/p2p-circuit"))
	for name, c := range map[string]struct {
		peer peer.ID
		at   ma.Multiaddr
		want dial.Reason
	}{
		"closed port":      {b.ID(), closed, dial.ConnectionRefused},
		"somebody else":    {other.ID(), b.ListenAddrs()[0], dial.IDMismatch},
		"not libp2p":       {b.ID(), hangsUp, dial.HandshakeFailed},
		"no such name":     {b.ID(), ma.StringCast("/dns4/nowhere.invalid/tcp/1"), dial.NameUnresolved},
		"unknown protocol": {b.ID(), ma.StringCast("/ip4/127.0.0.1/tcp/1/ws"), dial.NoTransport},
		"unspecified":      {b.ID(), ma.StringCast("/ip4/0.0.0.0/tcp/1"), dial.Unspecified},
		"own address":      {b.ID(), ma.StringCast(own), dial.Self},
		"no relay there":   {other.ID(), notRelay, dial.NotARelay},
	} {
		t.Run(name, func(t *testing.T) {
			a := node(t, host.Config{}, own, tcpAddr)
			r, err := dial.Do(t.Context(), a, c.peer, []ma.Multiaddr{c.at}, dial.Config{})
			var ue *dial.UnreachableError
			if !errors.As(err, &ue) || ue.Cause != c.want {
				t.Fatalf("error %v, want cause %s", err, c.want)
			}
			if got := outcome(t, r, c.at); got.Reason == nil || *got.Reason != c.want {
				t.Errorf("attempt %+v, want reason %s", got, c.want)
			}
		})
	}
}

func TestMostTellingReasonWins(t *testing.T) {
	a, b, other := node(t, host.Config{}, tcpAddr), node(t, host.Config{}, tcpAddr), node(t, host.Config{}, quicAddr)
	_, err := dial.Do(t.Context(), a, other.ID(), []ma.Multiaddr{closedPort(t), b.ListenAddrs()[0]}, dial.Config{})
	var ue *dial.UnreachableError
	if !errors.As(err, &ue) || ue.Cause != dial.IDMismatch {
		t.Errorf("cause of %v", err)
	}
}

func TestRefusalByTheOtherSideIsNamed(t *testing.T) {
	for _, at := range []string{quicAddr, tcpAddr} {
		a := node(t, host.Config{}, at)
		b := node(t, host.Config{Access: host.Access{DenyPeers: []peer.ID{a.ID()}}}, at)
		_, err := dial.Do(t.Context(), a, b.ID(), b.ListenAddrs(), dial.Config{})
		var ue *dial.UnreachableError
		if !errors.As(err, &ue) || ue.Cause != dial.PeerRefused {
			t.Errorf("%s: error %v, want cause %s", at, err, dial.PeerRefused)
		}
	}
}

func TestRequiredProtocol(t *testing.T) {
	a, b := node(t, host.Config{}, quicAddr), node(t, host.Config{}, quicAddr)
	if _, err := dial.Do(t.Context(), a, b.ID(), b.ListenAddrs(), dial.Config{Require: []protocol.ID{"/ipfs/ping/1.0.0"}}); err != nil {
		t.Error(err)
	}
	_, err := dial.Do(t.Context(), a, b.ID(), b.ListenAddrs(), dial.Config{Require: []protocol.ID{"/nope"}})
	var pe *dial.ProtocolError
	if !errors.As(err, &pe) || pe.Protocol != "/nope" {
		t.Errorf("error %v", err)
	}
}

// relayed starts a relay and a peer that is reachable through it only.
func relayed(t *testing.T, l relay.Limits) (at *host.Node, target peer.AddrInfo) {
	t.Helper()
	rn, b := node(t, host.Config{}, quicAddr), node(t, host.Config{}, tcpAddr)
	s, err := relay.New(rn, relay.Config{Limits: l})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	r, err := relay.Reserve(t.Context(), b, peer.AddrInfo{ID: rn.ID(), Addrs: rn.ListenAddrs()})
	if err != nil {
		t.Fatal(err)
	}
	return rn, peer.AddrInfo{ID: b.ID(), Addrs: r.Circuits}
}

func TestRelayedPathShowsItsLimits(t *testing.T) {
	_, target := relayed(t, relay.Limits{Bytes: 1 << 20})
	a := node(t, host.Config{}, quicAddr)
	r, err := dial.Do(t.Context(), a, target.ID, target.Addrs, dial.Config{Ping: ping.Config{Count: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if *r.Path != dial.Relayed || !*r.Limited || r.Limits.Bytes != 1<<20 || r.Limits.DurationS != 120 || r.Upgrade == nil || r.Upgrade.OK {
		t.Errorf("result %+v, limits %+v", r, r.Limits)
	}
	if r.Security == nil || r.Muxer == nil {
		t.Errorf("stack of the relayed connection: %v, %v", r.Security, r.Muxer)
	}
	if left := r.Limits.BytesLeft; left == nil || *left >= 1<<20 || *left < 1<<19 {
		t.Errorf("bytes left %v", left)
	}
	if r.Pongs[0].Path != dial.Relayed {
		t.Errorf("pong %+v", r.Pongs[0])
	}
}

func TestDirectAddressesComeBeforeRelayedOnes(t *testing.T) {
	_, target := relayed(t, relay.Limits{})
	a, b := node(t, host.Config{}, quicAddr), node(t, host.Config{}, quicAddr)
	r, err := dial.Do(t.Context(), a, b.ID(), append(target.Addrs, b.ListenAddrs()...), dial.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range target.Addrs {
		if got := outcome(t, r, c); got.Outcome != dial.NotTried || got.DelayMS != 500 {
			t.Errorf("relayed address %+v", got)
		}
	}
}

func TestUntilDirectEndsWithTheContext(t *testing.T) {
	_, target := relayed(t, relay.Limits{})
	a := node(t, host.Config{}, quicAddr)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := dial.Do(ctx, a, target.ID, target.Addrs, dial.Config{UntilDirect: true})
	if _, ok := errors.AsType[*dial.RelayedError](err); !ok {
		t.Errorf("error %v", err)
	}
}

func TestNoRelayAndRelayOnly(t *testing.T) {
	_, target := relayed(t, relay.Limits{})
	a, b := node(t, host.Config{}, quicAddr), node(t, host.Config{}, quicAddr)
	var ue *dial.UnreachableError
	if _, err := dial.Do(t.Context(), a, target.ID, target.Addrs, dial.Config{NoRelay: true}); !errors.As(err, &ue) || ue.Cause != dial.WantDirect {
		t.Errorf("relay left out: %v", err)
	}
	if _, err := dial.Do(t.Context(), a, b.ID(), b.ListenAddrs(), dial.Config{RelayOnly: true}); !errors.As(err, &ue) || ue.Cause != dial.WantRelay {
		t.Errorf("relay only: %v", err)
	}
}

func TestEachAddressInIsolation(t *testing.T) {
	a, b := node(t, host.Config{}, quicAddr, tcpAddr), node(t, host.Config{}, quicAddr, tcpAddr)
	r, err := dial.Each(t.Context(), a, b.ID(), b.ListenAddrs(), dial.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range b.ListenAddrs() {
		if got := outcome(t, r, at); got.Outcome != dial.Won || got.TotalMS == nil {
			t.Errorf("%+v", got)
		}
	}
	closed := closedPort(t)
	r, err = dial.Each(t.Context(), a, b.ID(), append(b.ListenAddrs(), closed), dial.Config{})
	var pe *dial.PartialError
	if !errors.As(err, &pe) || pe.Worked != 2 || pe.Tried != 3 {
		t.Errorf("error %v", err)
	}
	if got := outcome(t, r, closed); got.Outcome != dial.Failed || *got.Reason != dial.ConnectionRefused {
		t.Errorf("%+v", got)
	}
	if len(a.Network().ConnsToPeer(b.ID())) != 0 {
		t.Error("isolated connections stay in the host's network")
	}
}

// A peer has more addresses than it serves pings of one peer at once.
func TestEachOfManyAddresses(t *testing.T) {
	a, b := node(t, host.Config{}, tcpAddr), node(t, host.Config{}, slices.Repeat([]string{tcpAddr}, 12)...)
	for range 5 {
		if r, err := dial.Each(t.Context(), a, b.ID(), b.ListenAddrs(), dial.Config{}); err != nil {
			t.Fatalf("%v of %+v", err, r.Attempts)
		}
	}
}

func TestEachRelayedAddressInIsolation(t *testing.T) {
	rn, b := node(t, host.Config{}, quicAddr, tcpAddr), node(t, host.Config{}, tcpAddr)
	s, err := relay.New(rn, relay.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	res, err := relay.Reserve(t.Context(), b, peer.AddrInfo{ID: rn.ID(), Addrs: rn.ListenAddrs()})
	if err != nil {
		t.Fatal(err)
	}
	dead := closedPort(t).Encapsulate(ma.StringCast("/p2p/" + rn.ID().String() + "/p2p-circuit"))
	a := node(t, host.Config{}, quicAddr)
	r, err := dial.Each(t.Context(), a, b.ID(), append(res.Circuits, dead), dial.Config{})
	var pe *dial.PartialError
	if !errors.As(err, &pe) || pe.Worked != 2 || pe.Tried != 3 {
		t.Errorf("error %v of %+v", err, r.Attempts)
	}
	if got := outcome(t, r, dead); got.Reason == nil || *got.Reason != dial.RelayUnreachable {
		t.Errorf("dead relay address: %+v", got)
	}
}

// A peer of aquadoggo's manners: it opens its protocol's stream at once and hangs
// up when that is refused.
func TestPeerThatDemandsItsStreamStays(t *testing.T) {
	a, b := node(t, host.Config{}, quicAddr), node(t, host.Config{}, quicAddr)
	b.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
		go func() {
			s, err := b.NewStream(context.Background(), c.RemotePeer(), "/p2p/p2panda/1.0.0")
			if err == nil {
				_, err = s.Write([]byte("announce"))
			}
			if err == nil {
				_, err = s.Read(make([]byte, 1)) // ends when a refuses, closes, or is done
			}
			_ = err
			_ = c.Close()
		}()
	}})
	r, err := dial.Do(t.Context(), a, b.ID(), b.ListenAddrs(), dial.Config{Ping: ping.Config{Count: 5, Interval: 20 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Ping.Received != 5 {
		t.Errorf("%d of 5 pings came back", r.Ping.Received)
	}
}

func TestDialsAtOnceHoldTheirStreamsTogether(t *testing.T) {
	n := node(t, host.Config{}, quicAddr)
	first, second := n.HoldStreams(), n.HoldStreams()
	spoken := func() bool { return slices.Contains(n.Mux().Protocols(), "/p2p/p2panda/1.0.0") }
	first()
	first()
	if !spoken() {
		t.Error("the first to end took the handler of the second")
	}
	second()
	if spoken() {
		t.Error("the handler outlives its users")
	}
}

func TestHoldTellsOfALostConnection(t *testing.T) {
	a, b := node(t, host.Config{}, quicAddr), node(t, host.Config{}, quicAddr)
	_, err := dial.Do(t.Context(), a, b.ID(), b.ListenAddrs(), dial.Config{Hold: time.Minute, On: func(e dial.Event) {
		if e.Identify != nil {
			go func() { _ = b.Network().ClosePeer(a.ID()) }()
		}
	}})
	if _, ok := errors.AsType[*dial.LostError](err); !ok {
		t.Errorf("error %v", err)
	}
}
