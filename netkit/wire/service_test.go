package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
)

const testProtocol = "/dibber/wire-test/1.0.0"

func newHost(t *testing.T, opts ...libp2p.Option) host.Host {
	t.Helper()
	h, err := libp2p.New(append([]libp2p.Option{
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1"),
		libp2p.DisableRelay(),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// pair is a client connected to a host that serves handler.
func pair(t *testing.T, cfg ServiceConfig, handler Handler, opts ...libp2p.Option) (client, server host.Host, s *Service) {
	t.Helper()
	client, server = newHost(t), newHost(t, opts...)
	cfg.Name = "wire-test"
	s = NewService(cfg, handler)
	server.SetStreamHandler(testProtocol, s.Handle)
	t.Cleanup(func() { _ = s.Close() })
	if err := client.Connect(testContext(t), peer.AddrInfo{ID: server.ID(), Addrs: server.Addrs()}); err != nil {
		t.Fatal(err)
	}
	return client, server, s
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func openStream(t *testing.T, from, to host.Host) network.Stream {
	t.Helper()
	st, err := from.NewStream(testContext(t), to.ID(), testProtocol)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Reset() })
	return st
}

func echo(_ context.Context, req Request) ([]byte, error) { return req.Body, nil }

func exchange(t *testing.T, from, to host.Host, request string) (string, error) {
	t.Helper()
	reply, err := Exchange(testContext(t), openStream(t, from, to), []byte(request), 1<<20)
	return string(reply), err
}

func TestExchange(t *testing.T) {
	client, server, _ := pair(t, ServiceConfig{}, echo)
	for _, request := range []string{"hello", ""} {
		if got, err := exchange(t, client, server, request); err != nil || got != request {
			t.Errorf("got %q, %v; want %q", got, err, request)
		}
	}
}

// TestSeveralRequests sends three frames at once and half-closes.
func TestSeveralRequests(t *testing.T) {
	client, server, _ := pair(t, ServiceConfig{}, echo)
	st := openStream(t, client, server)
	want := AppendFrame(AppendFrame(AppendFrame(nil, []byte("one")), []byte("two")), []byte("three"))
	if _, err := st.Write(want); err != nil {
		t.Fatal(err)
	}
	if err := st.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(st); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestRequestTooLargeIsReset(t *testing.T) {
	client, server, _ := pair(t, ServiceConfig{MaxRequest: 10}, echo)
	if got, err := exchange(t, client, server, "eleven char"); !errors.Is(err, network.ErrReset) {
		t.Errorf("got %q, %v; want a reset", got, err)
	}
	if got, err := exchange(t, client, server, "ten chars."); err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestReplyTooLarge(t *testing.T) {
	client, server, _ := pair(t, ServiceConfig{}, echo)
	_, err := Exchange(testContext(t), openStream(t, client, server), []byte("eleven char"), 10)
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	client, server, _ = pair(t, ServiceConfig{MaxReply: 10}, echo)
	if got, err := exchange(t, client, server, "eleven char"); !errors.Is(err, network.ErrReset) {
		t.Errorf("got %q, %v; want a reset", got, err)
	}
}

func TestHandlerErrorIsReset(t *testing.T) {
	client, server, _ := pair(t, ServiceConfig{}, func(context.Context, Request) ([]byte, error) {
		return nil, errors.New("no")
	})
	_, err := exchange(t, client, server, "x")
	var reset *network.StreamError
	if !errors.As(err, &reset) || reset.ErrorCode != network.StreamProtocolViolation {
		t.Errorf("got %v", err)
	}
}

// TestSilentPeerIsReset leaves a stream without a request: its time is up.
func TestSilentPeerIsReset(t *testing.T) {
	client, server, _ := pair(t, ServiceConfig{Timeout: 50 * time.Millisecond}, echo)
	st := openStream(t, client, server)
	if _, err := st.Write([]byte{200}); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Read(make([]byte, 1)); !errors.Is(err, network.ErrReset) {
		t.Errorf("got %v, want a reset", err)
	}
}

func TestRateLimit(t *testing.T) {
	var handled atomic.Int32
	count := func(ctx context.Context, req Request) ([]byte, error) {
		handled.Add(1)
		return echo(ctx, req)
	}
	cfg := ServiceConfig{Rate: 1e-9, Burst: 1}
	client, server, _ := pair(t, cfg, count)
	_, first := exchange(t, client, server, "x")
	_, second := exchange(t, client, server, "x")
	var reset *network.StreamError
	if first != nil || !errors.As(second, &reset) || reset.ErrorCode != network.StreamRateLimited || handled.Load() != 1 {
		t.Errorf("first %v, second %v, %d handled", first, second, handled.Load())
	}

	cfg.Limited = func(req Request) []byte { return append([]byte("too many: "), req.Body...) }
	client, server, _ = pair(t, cfg, echo)
	st := openStream(t, client, server)
	if _, err := st.Write(AppendFrame(AppendFrame(nil, []byte("x")), []byte("y"))); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(st)
	if want := AppendFrame(AppendFrame(nil, []byte("x")), []byte("too many: y")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %q, %v; want an answer to both and the end", got, err)
	}
}

// TestMemoryIsReserved gives the service no memory.
func TestMemoryIsReserved(t *testing.T) {
	limits := rcmgr.PartialLimitConfig{Service: map[string]rcmgr.ResourceLimits{"wire-test": {
		Memory: 4096, Streams: rcmgr.Unlimited, StreamsInbound: rcmgr.Unlimited,
	}}}
	manager, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.Build(rcmgr.DefaultLimits.AutoScale())))
	if err != nil {
		t.Fatal(err)
	}
	client, server, _ := pair(t, ServiceConfig{MaxRequest: 4096}, func(_ context.Context, req Request) ([]byte, error) {
		if string(req.Body) == "much" { // more than what its request gives back
			return make([]byte, 4096+100), nil
		}
		return nil, nil
	}, libp2p.ResourceManager(manager))
	// await waits until streams hold so much memory: a stream gives it back
	// after the client has seen the end.
	await := func(want int64) {
		for ctx := testContext(t); ctx.Err() == nil; {
			held := int64(-1)
			_ = manager.ViewService("wire-test", func(scope network.ServiceScope) error {
				held = scope.Stat().Memory
				return nil
			})
			if held == want {
				return
			}
		}
		t.Fatalf("the service never held %d bytes", want)
	}
	_, err = exchange(t, client, server, "much")
	var reset *network.StreamError
	if !errors.As(err, &reset) || reset.ErrorCode != network.StreamResourceLimitExceeded {
		t.Errorf("a reply above the limit: %v", err)
	}
	await(0)
	hold := openStream(t, client, server)
	if _, err := hold.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	await(4096)
	if err := Send(testContext(t), openStream(t, client, server), []byte("little")); !errors.As(err, &reset) || reset.ErrorCode != network.StreamResourceLimitExceeded {
		t.Errorf("a second stream above the limit: %v", err)
	}
	if err := hold.Close(); err != nil {
		t.Fatal(err)
	}
	await(0)
	if err := Send(testContext(t), openStream(t, client, server), []byte("little")); err != nil {
		t.Errorf("a stream after the first: %v", err)
	}
}

// TestServersOfOneRequest: a server may refuse the rest of a stream before it
// answers, and one may reset a stream whose input ends, reply and all.
func TestServersOfOneRequest(t *testing.T) {
	for name, after := range map[string]func(network.Stream){
		"stops reading": func(st network.Stream) { _ = st.CloseRead() },
		"resets at EOF": func(st network.Stream) {
			go func() {
				_, _ = io.Copy(io.Discard, st)
				_ = st.Reset()
			}()
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := newHost(t), newHost(t)
			server.SetStreamHandler(testProtocol, func(st network.Stream) {
				frame, err := NewReader(st, 10).Next()
				if err != nil {
					return
				}
				after(st)
				_ = WriteFrame(st, frame, 10)
			})
			if err := client.Connect(testContext(t), peer.AddrInfo{ID: server.ID(), Addrs: server.Addrs()}); err != nil {
				t.Fatal(err)
			}
			for range 50 {
				if got, err := exchange(t, client, server, "x"); err != nil || got != "x" {
					t.Fatalf("got %q, %v", got, err)
				}
			}
		})
	}
}

// TestSendBearsABareReset: implementations that never answer a message drop
// its stream, which is not an error, while a refusal is one.
func TestSendBearsABareReset(t *testing.T) {
	client, server := newHost(t), newHost(t)
	codes := make(chan network.StreamErrorCode, 1)
	server.SetStreamHandler(testProtocol, func(st network.Stream) {
		_, _ = io.ReadAll(st)
		_ = st.ResetWithError(<-codes)
	})
	if err := client.Connect(testContext(t), peer.AddrInfo{ID: server.ID(), Addrs: server.Addrs()}); err != nil {
		t.Fatal(err)
	}
	codes <- network.StreamNoError
	if err := Send(testContext(t), openStream(t, client, server), []byte("x")); err != nil {
		t.Errorf("bare reset: %v", err)
	}
	codes <- network.StreamRateLimited
	if err := Send(testContext(t), openStream(t, client, server), []byte("x")); !errors.Is(err, network.ErrReset) {
		t.Errorf("refusal: %v", err)
	}
}

func TestExchangeEndsWithContext(t *testing.T) {
	started := make(chan struct{})
	client, server, _ := pair(t, ServiceConfig{}, func(ctx context.Context, _ Request) ([]byte, error) {
		close(started)
		<-ctx.Done()
		return nil, nil
	})
	ctx, cancel := context.WithCancel(testContext(t))
	go func() {
		<-started
		cancel()
	}()
	if _, err := Exchange(ctx, openStream(t, client, server), []byte("x"), 10); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestCloseLetsHandlersFinish closes while one request is being answered and
// another stream is idle.
func TestCloseLetsHandlersFinish(t *testing.T) {
	started, finish := make(chan struct{}), make(chan struct{})
	client, server, s := pair(t, ServiceConfig{}, func(_ context.Context, req Request) ([]byte, error) {
		close(started)
		<-finish
		return req.Body, nil
	})
	idle := openStream(t, client, server)
	if _, err := idle.Write([]byte{5}); err != nil {
		t.Fatal(err)
	}
	busy := openStream(t, client, server)
	if err := WriteFrame(busy, []byte("x"), 10); err != nil {
		t.Fatal(err)
	}
	<-started
	closed := make(chan struct{})
	go func() {
		_ = s.Close()
		close(closed)
	}()
	<-s.ctx.Done()
	select {
	case <-closed:
		t.Error("closed while a handler runs")
	default:
	}
	close(finish)
	<-closed
	if got, err := NewReader(busy, 10).Next(); err != nil || string(got) != "x" {
		t.Errorf("the request under way got %q, %v", got, err)
	}
	var reset *network.StreamError
	if _, err := idle.Read(make([]byte, 1)); !errors.As(err, &reset) || reset.ErrorCode != network.StreamShutdown {
		t.Errorf("the idle stream got %v", err)
	}
	late := openStream(t, client, server)
	if _, err := Exchange(testContext(t), late, []byte("x"), 10); !errors.As(err, &reset) || reset.ErrorCode != network.StreamShutdown {
		t.Errorf("a late request got %v", err)
	}
}

// TestWaitingStreamsMakeRoom holds as many streams open as there may be: the
// one that has waited longest goes for each that comes, and requests are
// answered.
func TestWaitingStreamsMakeRoom(t *testing.T) {
	client, server, s := pair(t, ServiceConfig{MaxStreams: 3}, echo)
	var held []network.Stream
	for range 3 {
		st := openStream(t, client, server)
		if _, err := st.Write([]byte{5}); err != nil {
			t.Fatal(err)
		}
		for ctx := testContext(t); ctx.Err() == nil; {
			s.mu.Lock()
			waiting := s.waiting.Len()
			s.mu.Unlock()
			if waiting == len(held)+1 {
				break
			}
		}
		held = append(held, st)
	}
	if got, err := exchange(t, client, server, "x"); err != nil || got != "x" {
		t.Fatalf("got %q, %v", got, err)
	}
	var reset *network.StreamError
	if _, err := held[0].Read(make([]byte, 1)); !errors.As(err, &reset) || reset.ErrorCode != network.StreamResourceLimitExceeded {
		t.Errorf("the longest waiting got %v", err)
	}
	for _, st := range held[1:] {
		if _, err := st.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if got, err := NewReader(st, 10).Next(); err != nil || string(got) != "hello" {
			t.Errorf("a later one got %q, %v", got, err)
		}
	}
}
