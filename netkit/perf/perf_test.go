package perf_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/perf"
	"dibber/netkit/relay"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

func node(t *testing.T, listen string) *host.Node {
	t.Helper()
	h, err := host.New(host.Config{Listen: []ma.Multiaddr{ma.StringCast(listen)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// pair is a server that answers perf and a client connected with it.
func pair(t *testing.T, listen string, cfg perf.ServerConfig) (server, client *host.Node) {
	t.Helper()
	server, client = node(t, listen), node(t, listen)
	s := perf.New(server, cfg)
	t.Cleanup(func() { _ = s.Close() })
	if _, err := client.Dial(t.Context(), server.ID(), server.ListenAddrs()); err != nil {
		t.Fatal(err)
	}
	return server, client
}

const (
	quic = "/ip4/127.0.0.1/udp/0/quic-v1"
	tcp  = "/ip4/127.0.0.1/tcp/0"
)

func TestCountedBothWaysAndBesideTCP(t *testing.T) {
	for _, listen := range []string{quic, tcp} {
		server, client := pair(t, listen, perf.ServerConfig{})
		var seen uint64
		r, err := perf.Do(t.Context(), client, server.ID(), perf.Config{Bytes: 3_000_001, Trips: 3, Raw: true, On: func(p perf.Progress) {
			if !p.Raw {
				seen += p.Bytes
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if r.Upload.Bytes != 3_000_001 || r.Download.Bytes != 3_000_001 || seen != 6_000_002 {
			t.Errorf("up %d, down %d, seen %d", r.Upload.Bytes, r.Download.Bytes, seen)
		}
		if r.Trips.Count != 3 || r.Trips.Min <= 0 || r.Trips.Max < r.Trips.P50 {
			t.Errorf("round trips %+v", r.Trips)
		}
		if r.Raw.Upload.Bytes != 3_000_001 || r.Raw.Download.Bytes != 3_000_001 || *r.Raw.UploadRatio <= 0 || *r.Raw.DownloadRatio != r.Download.Rate/r.Raw.Download.Rate {
			t.Errorf("raw %+v", r.Raw)
		}
		if r.Upload.Path != "direct" || r.Upload.Limited != nil {
			t.Errorf("upload %+v", r.Upload)
		}
	}
}

func TestEndsByTime(t *testing.T) {
	server, client := pair(t, quic, perf.ServerConfig{})
	r, err := perf.Do(t.Context(), client, server.ID(), perf.Config{Duration: 50 * time.Millisecond, Trips: -1})
	if err != nil {
		t.Fatal(err)
	}
	if r.Trips != nil || r.Upload.MS < 50 || r.Download.MS < 50 || r.Upload.Bytes == 0 || r.Download.Bytes == 0 {
		t.Errorf("%+v %+v", r.Upload, r.Download)
	}
}

// TestSpeaksTheSpec is the exchange of the specification, written out by hand.
func TestSpeaksTheSpec(t *testing.T) {
	server, client := pair(t, tcp, perf.ServerConfig{})
	st, err := client.NewStream(t.Context(), server.ID(), "/perf/1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Write(append(binary.BigEndian.AppendUint64(nil, 70_000), "upload"...)); err != nil {
		t.Fatal(err)
	}
	if err := st.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(st); err != nil || len(got) != 70_000 {
		t.Errorf("%d bytes came, want 70000: %v", len(got), err)
	}
}

func TestPeerCannotMeasure(t *testing.T) {
	a, b := node(t, tcp), node(t, tcp)
	if _, err := a.Dial(t.Context(), b.ID(), b.ListenAddrs()); err != nil {
		t.Fatal(err)
	}
	for _, trips := range []int{0, -1} {
		if _, err := perf.Do(t.Context(), a, b.ID(), perf.Config{Bytes: 1, Trips: trips}); !errors.Is(err, perf.ErrUnsupported) {
			t.Errorf("%d trips: %v", trips, err)
		}
	}
	if _, err := perf.Do(t.Context(), a, peer.ID("nobody"), perf.Config{}); !errors.Is(err, perf.ErrNotConnected) {
		t.Error(err)
	}
}

// TestPeerSendsTooMuch: a server that does not count is found out.
func TestPeerSendsTooMuch(t *testing.T) {
	for _, n := range []int{9, 11} {
		a, b := node(t, tcp), node(t, tcp)
		b.SetStreamHandler(perf.Protocol, func(st network.Stream) {
			_, _ = io.ReadAll(st)
			_, _ = st.Write(make([]byte, n))
			_ = st.Close()
		})
		if _, err := a.Dial(t.Context(), b.ID(), b.ListenAddrs()); err != nil {
			t.Fatal(err)
		}
		_, err := perf.Do(t.Context(), a, b.ID(), perf.Config{Bytes: 10, Trips: -1, Directions: []perf.Direction{perf.Download}})
		if !errors.Is(err, perf.ErrWrongCount) {
			t.Errorf("%d for 10: %v", n, err)
		}
	}
}

// TestOneOfTooMany: beyond what one peer may have the next is refused, and room comes back.
func TestOneOfTooMany(t *testing.T) {
	server, client := pair(t, tcp, perf.ServerConfig{PerPeer: 1})
	held, err := client.NewStream(t.Context(), server.ID(), perf.Protocol)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := held.Write(binary.BigEndian.AppendUint64(nil, 1<<40)); err != nil {
		t.Fatal(err)
	}
	if err := held.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(held, make([]byte, 1)); err != nil { // it is being answered
		t.Fatal(err)
	}
	refused := func() bool {
		_, err := perf.Do(t.Context(), client, server.ID(), perf.Config{Bytes: 1, Trips: -1})
		var reset *network.StreamError
		return errors.As(err, &reset) && reset.ErrorCode == network.StreamResourceLimitExceeded
	}
	if !refused() {
		t.Error("a second one was let in")
	}
	_ = held.Reset()
	eventually(t, func() bool { return !refused() })
}

func eventually(t *testing.T, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for !is() {
		select {
		case <-ctx.Done():
			t.Fatal("it never was")
		case <-time.After(100 * time.Millisecond): // the rate limit has its say too
		}
	}
}

// TestRawPortTakesNobodyElse: without the token nothing is answered.
func TestRawPortTakesNobodyElse(t *testing.T) {
	server, client := pair(t, tcp, perf.ServerConfig{})
	st, err := client.NewStream(t.Context(), server.ID(), perf.RawProtocol)
	if err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, 34)
	if _, err := io.ReadFull(st, reply); err != nil {
		t.Fatal(err)
	}
	at := net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(binary.BigEndian.Uint16(reply))}
	connect := func(token []byte) (int, error) {
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			return 0, err
		}
		defer c.Close()
		if _, err := c.Write(append(append([]byte(nil), token...), binary.BigEndian.AppendUint64(nil, 5)...)); err != nil {
			return 0, err
		}
		_ = c.(*net.TCPConn).CloseWrite()
		got, _ := io.ReadAll(c)
		return len(got), nil
	}
	if n, err := connect(make([]byte, 32)); n != 0 || err != nil {
		t.Errorf("%d bytes for a wrong token: %v", n, err)
	}
	if n, err := connect(reply[2:]); n != 5 || err != nil {
		t.Errorf("%d bytes for the token: %v", n, err)
	}
	_ = st.Close()
	eventually(t, func() bool { _, err := connect(reply[2:]); return err != nil })
}

// TestWithinWhatTheRelayAllows: a limited circuit is measured and still carries a stream afterwards.
func TestWithinWhatTheRelayAllows(t *testing.T) {
	relaying, server, client := node(t, tcp), node(t, tcp), node(t, tcp)
	r, err := relay.New(relaying, relay.Config{Limits: relay.Limits{Bytes: 100_000}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	s := perf.New(server, perf.ServerConfig{})
	t.Cleanup(func() { _ = s.Close() })
	at := peer.AddrInfo{ID: relaying.ID(), Addrs: relaying.ListenAddrs()}
	reserved := make(chan struct{}, 1)
	c := relay.NewClient(server, relay.ClientConfig{Relay: at, On: func(e relay.ClientEvent) {
		if e.Kind == "reserved" {
			reserved <- struct{}{}
		}
	}})
	t.Cleanup(func() { _ = c.Close() })
	<-reserved
	circuit := at.Addrs[0].Encapsulate(ma.StringCast("/p2p/" + at.ID.String() + "/p2p-circuit"))
	if _, err := client.Dial(t.Context(), server.ID(), []ma.Multiaddr{circuit}); err != nil {
		t.Fatal(err)
	}
	res, err := perf.Do(t.Context(), client, server.ID(), perf.Config{Raw: true})
	if !errors.Is(err, perf.ErrNoRaw) {
		t.Errorf("a relayed connection beside a plain one: %v", err)
	}
	for _, got := range []*perf.Transfer{res.Upload, res.Download} {
		if got == nil || got.Path != "relayed" || got.Limited == nil || *got.Limited != "bytes" || got.Bytes < 60_000 || got.Bytes > 90_000 {
			t.Fatalf("%+v", got)
		}
	}
	if _, err := perf.Do(t.Context(), client, server.ID(), perf.Config{Trips: 1, Bytes: 100}); err != nil {
		t.Errorf("the circuit afterwards: %v", err)
	}
	if _, err := perf.Do(t.Context(), client, server.ID(), perf.Config{Trips: -1}); !errors.Is(err, perf.ErrRelayLimit) {
		t.Logf("what is left still measures: %v", err)
	}
}
