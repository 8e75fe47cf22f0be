package host

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	ma "github.com/multiformats/go-multiaddr"
)

func loopback(t *testing.T, cfg Config) *Node {
	t.Helper()
	if cfg.Listen == nil {
		cfg.Listen = []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1"), ma.StringCast("/ip4/127.0.0.1/tcp/0")}
	}
	n, err := New(cfg)
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

func TestDialIsTraced(t *testing.T) {
	a, b := loopback(t, Config{}), loopback(t, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, m := range b.ListenAddrs() {
		tr := a.TraceDial(b.ID(), nil)
		c, err := a.DialAddr(ctx, b.ID(), m)
		if err != nil {
			t.Fatal(m, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		tr.Close()
		got := tr.Attempts()
		if len(got) != 1 || !got[0].Addr.Equal(m) || got[0].Err != nil {
			t.Fatalf("%s: attempts %+v", m, got)
		}
		at := got[0]
		if at.Started.IsZero() || at.Done.Before(at.Started) {
			t.Errorf("%s: times %+v", m, at)
		}
		_, isTCP := m.ValueForProtocol(ma.P_TCP)
		if isTCP == nil && (at.Connected.Before(at.Started) || at.Secured.Before(at.Connected) || at.Done.Before(at.Secured)) {
			t.Errorf("%s: phases out of order %+v", m, at)
		}
	}
}

func TestWrongPeerIsNamed(t *testing.T) {
	a, b, other := loopback(t, Config{}), loopback(t, Config{}), loopback(t, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, m := range b.ListenAddrs() {
		_, err := a.Dial(ctx, other.ID(), []ma.Multiaddr{m})
		var mismatch sec.ErrPeerIDMismatch
		if !errors.As(err, &mismatch) || mismatch.Actual != b.ID() {
			t.Errorf("%s: error %v does not say that %s answered", m, err, b.ID())
		}
		a.Peerstore().ClearAddrs(other.ID())
	}
}

func TestBusyPortIsAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	busy := ma.StringCast("/ip4/127.0.0.1/tcp/" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	free := ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")
	_, err = New(Config{Listen: []ma.Multiaddr{free, busy}})
	var le *ListenError
	if !errors.As(err, &le) || !le.Addr.Equal(busy) {
		t.Fatalf("error %v, want a ListenError for %s", err, busy)
	}
}

func TestTwoHostsNeverShareATCPPort(t *testing.T) {
	a := loopback(t, Config{Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}})
	_, err := New(Config{Listen: a.ListenAddrs()})
	if _, ok := errors.AsType[*ListenError](err); !ok {
		t.Fatalf("second host on %v: error %v, want a ListenError", a.ListenAddrs(), err)
	}
}

func TestKnownOnlyLearnsNothing(t *testing.T) {
	stranger, friend := loopback(t, Config{}), loopback(t, Config{})
	closed := loopback(t, Config{KnownOnly: true, Known: []peer.AddrInfo{{ID: friend.ID(), Addrs: friend.ListenAddrs()[:1]}}})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := closed.Dial(ctx, friend.ID(), nil); err != nil {
		t.Fatal("dial of a known peer:", err)
	}
	if err := friend.Connect(ctx, peer.AddrInfo{ID: closed.ID(), Addrs: closed.ListenAddrs()}); err != nil {
		t.Fatal("known peer is let in:", err)
	}
	if got := closed.Peerstore().Addrs(friend.ID()); len(got) != 1 {
		t.Errorf("addresses of the known peer are %v, want only the given one", got)
	}
	if got := closed.Addrs(); len(got) != 0 {
		t.Errorf("announces %v, want nothing", got)
	}
	// The handshake ends on the dialler's side before the other side turns it away,
	// so the proof is that no stream works.
	if c, err := stranger.Dial(ctx, closed.ID(), closed.ListenAddrs()[:1]); err == nil {
		s, err := stranger.OpenStream(ctx, c, "/ipfs/ping/1.0.0")
		if err == nil {
			_, err = s.Read(make([]byte, 1))
		}
		if err == nil {
			t.Error("a stranger was let in")
		}
	}
}

func TestDenyListsCloseConnections(t *testing.T) {
	a, b := loopback(t, Config{}), loopback(t, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := a.Dial(ctx, b.ID(), b.ListenAddrs())
	if err != nil {
		t.Fatal(err)
	}
	a.SetAccess(Access{DenyPeers: []peer.ID{b.ID()}})
	if !c.IsClosed() {
		t.Error("connection to a denied peer is still open")
	}
	if _, err := a.Dial(ctx, b.ID(), b.ListenAddrs()); err == nil {
		t.Error("a denied peer could be dialled")
	}
	a.SetAccess(Access{})
	if _, err := a.Dial(ctx, b.ID(), b.ListenAddrs()); err != nil {
		t.Error("dial after the list was emptied:", err)
	}
}

// TestBans: a ban holds in both directions, goes before the lists that let in, and is over at its time.
func TestBans(t *testing.T) {
	a, b := loopback(t, Config{}), loopback(t, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	network := Ban{Network: netip.MustParsePrefix("127.0.0.0/8")}
	for name, ban := range map[string]Ban{"peer": {Peer: b.ID()}, "network": network} {
		if _, err := a.Dial(ctx, b.ID(), b.ListenAddrs()); err != nil {
			t.Fatal(name, err)
		}
		a.SetAccess(Access{AllowPeers: []peer.ID{b.ID()}})
		if closed := a.SetBans([]Ban{ban}); closed == 0 {
			t.Errorf("%s: no connection was closed", name)
		}
		if _, err := a.Dial(ctx, b.ID(), b.ListenAddrs()); err == nil {
			t.Errorf("%s: a banned peer could be dialled", name)
		}
		if c, err := b.Dial(ctx, a.ID(), a.ListenAddrs()); err == nil {
			if ok, err := b.Supports(ctx, c, "/ipfs/ping/1.0.0"); err == nil && ok {
				t.Errorf("%s: a banned peer was served", name)
			}
		}
		a.SetAccess(Access{})
		ban.Until = time.Now().Add(-time.Second)
		a.SetBans([]Ban{ban})
	}
}

func TestTableCanChange(t *testing.T) {
	friend, next := loopback(t, Config{}), loopback(t, Config{})
	closed := loopback(t, Config{KnownOnly: true, Known: []peer.AddrInfo{{ID: friend.ID()}}})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := friend.Dial(ctx, closed.ID(), closed.ListenAddrs())
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := friend.Supports(ctx, c, "/ipfs/ping/1.0.0"); err != nil || !ok {
		t.Fatal("a known peer is served:", ok, err)
	}
	closed.SetKnown([]peer.AddrInfo{{ID: next.ID()}})
	if _, err := friend.Supports(ctx, c, "/ipfs/ping/1.0.0"); err == nil {
		t.Error("a peer taken off the table is still served")
	}
	c, err = next.Dial(ctx, closed.ID(), closed.ListenAddrs())
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := next.Supports(ctx, c, "/ipfs/ping/1.0.0"); err != nil || !ok {
		t.Error("a peer put on the table is served:", ok, err)
	}
}

func TestFirstByteNeedsNoNegotiation(t *testing.T) {
	a, b := loopback(t, Config{}), loopback(t, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := a.Dial(ctx, b.ID(), b.ListenAddrs())
	if err != nil {
		t.Fatal(err)
	}
	s, err := a.OpenStream(ctx, c, "/ipfs/ping/1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 32)
	if _, err := s.Write(want); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
