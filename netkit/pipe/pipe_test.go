package pipe_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/pipe"
	"dibber/netkit/punch"
	"dibber/netkit/relay"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// paths collects the paths that a session took.
type paths struct {
	mu  sync.Mutex // guards all
	all []string
}

func (p *paths) on(c pipe.PathChange) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, c.Path)
}

func (p *paths) taken() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all
}

func info(n *host.Node) peer.AddrInfo { return peer.AddrInfo{ID: n.ID(), Addrs: n.ListenAddrs()} }

// echo sends back what it reads, then ends.
func echo(_ peer.ID, s *pipe.Session) {
	_, _ = io.Copy(s, s)
	_ = s.CloseWrite()
	_ = s.Wait()
}

// roundTrip sends bytes in pieces with a pause after each and returns what comes back.
func roundTrip(t *testing.T, s *pipe.Session, size int, pause time.Duration) (sent, got []byte) {
	t.Helper()
	sent = bytes.Repeat([]byte("0123456789abcdef"), size/16)
	var done sync.WaitGroup
	done.Go(func() {
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), 10_000)
			if _, err := s.Write(rest[:n]); err != nil {
				t.Error(err)
				return
			}
			rest = rest[n:]
			time.Sleep(pause)
		}
		_ = s.CloseWrite()
	})
	got, err := io.ReadAll(s)
	done.Wait()
	if err != nil {
		t.Fatalf("after %d bytes: %v", len(got), err)
	}
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	return sent, got
}

// TestRelayedThenDirect begins a pipe through a relay between two hosts behind NATs
// and punches while it runs. A sender that never pauses leaves what the relay allows of a
// circuit to the punch, and does not go through circuit after circuit.
func TestRelayedThenDirect(t *testing.T) {
	t.Run("steady", func(t *testing.T) {
		relayedThenDirect(t, relay.Limits{Bytes: relay.NoLimit}, 1<<20, 20*time.Millisecond)
	})
	t.Run("fast", func(t *testing.T) { relayedThenDirect(t, relay.Limits{}, 4<<20, 0) })
}

func relayedThenDirect(t *testing.T, limits relay.Limits, size int, pause time.Duration) {
	t.Helper()
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		at := lab.Internet().Machine("relay", natlab.MachineConfig{}).Host(host.Config{})
		r, err := relay.New(at, relay.Config{Limits: limits})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		behind := func(name string) *host.Node {
			nat := natlab.NAT{Filtering: natlab.AddressAndPortDependent}
			n := lab.Internet().Router(name+"-router", natlab.RouterConfig{NAT: nat, Link: natlab.LinkConfig{Latency: 20 * time.Millisecond}}).LAN().Machine(name, natlab.MachineConfig{}).Host(host.Config{})
			return n
		}
		far, near := behind("far"), behind("near")
		for _, n := range []*host.Node{far, near} {
			p := punch.New(n, punch.Config{})
			defer p.Close()
		}
		if _, err := relay.Reserve(t.Context(), far, info(at)); err != nil {
			t.Fatal(err)
		}
		defer pipe.Listen(far, pipe.ListenConfig{}, echo).Close()
		circuit := info(at).Addrs[0].Encapsulate(ma.StringCast("/p2p/" + at.ID().String() + "/p2p-circuit"))
		var took paths
		s, err := pipe.Dial(t.Context(), near, peer.AddrInfo{ID: far.ID(), Addrs: []ma.Multiaddr{circuit}}, pipe.Config{On: took.on})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		sent, got := roundTrip(t, s, size, pause)
		if !bytes.Equal(sent, got) {
			t.Errorf("%d bytes came back of %d, or others", len(got), len(sent))
		}
		if p := took.taken(); len(p) != 2 || p[0] != "relayed" || p[1] != "direct" {
			t.Errorf("paths %v", p)
		}
	})
}

// TestOutage cuts the connection for longer than it lives and for less than the
// session's patience.
func TestOutage(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		m := lab.Internet().Machine("far", natlab.MachineConfig{})
		far, near := m.Host(host.Config{}), lab.Internet().Machine("near", natlab.MachineConfig{}).Host(host.Config{})
		defer pipe.Listen(far, pipe.ListenConfig{}, echo).Close()
		var took paths
		s, err := pipe.Dial(t.Context(), near, info(far), pipe.Config{On: took.on})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var cut sync.WaitGroup
		cut.Go(func() {
			time.Sleep(time.Second)
			m.Link().Cut()
			time.Sleep(20 * time.Second)
			m.Link().Restore()
		})
		sent, got := roundTrip(t, s, 1<<20, 50*time.Millisecond)
		cut.Wait()
		if !bytes.Equal(sent, got) {
			t.Errorf("%d bytes came back of %d, or others", len(got), len(sent))
		}
		if p := took.taken(); len(p) != 3 || p[1] != "none" || p[2] != "direct" {
			t.Errorf("paths %v", p)
		}
	})
}

// TestLostForGood ends both sides with ErrLost once patience is over.
func TestLostForGood(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		m := lab.Internet().Machine("far", natlab.MachineConfig{})
		far, near := m.Host(host.Config{}), lab.Internet().Machine("near", natlab.MachineConfig{}).Host(host.Config{})
		there := make(chan error, 1)
		defer pipe.Listen(far, pipe.ListenConfig{}, func(_ peer.ID, s *pipe.Session) {
			_, err := io.Copy(io.Discard, s)
			there <- err
		}).Close()
		s, err := pipe.Dial(t.Context(), near, info(far), pipe.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		m.Link().Cut()
		if _, err := io.Copy(io.Discard, s); !errors.Is(err, pipe.ErrLost) {
			t.Errorf("here: %v", err)
		}
		if err := <-there; !errors.Is(err, pipe.ErrLost) {
			t.Errorf("there: %v", err)
		}
	})
}

// TestSlowReader holds that a reader who does not read stops the writer at the window.
func TestSlowReader(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		far := lab.Internet().Machine("far", natlab.MachineConfig{}).Host(host.Config{})
		near := lab.Internet().Machine("near", natlab.MachineConfig{}).Host(host.Config{})
		release := make(chan struct{})
		defer pipe.Listen(far, pipe.ListenConfig{}, func(_ peer.ID, s *pipe.Session) {
			<-release
			echo("", s)
		}).Close()
		const window = 64 << 10
		s, err := pipe.Dial(t.Context(), near, info(far), pipe.Config{Window: window})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		wrote := make(chan int, 1)
		go func() {
			n, _ := s.Write(make([]byte, 10*window))
			wrote <- n
		}()
		time.Sleep(time.Minute)
		select {
		case n := <-wrote:
			t.Errorf("%d bytes were taken while nobody read", n)
		default:
		}
		close(release)
		go func() { _, _ = io.Copy(io.Discard, s) }()
		if n := <-wrote; n != 10*window {
			t.Errorf("%d bytes were taken", n)
		}
		_ = s.CloseWrite()
		if err := s.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// TestGivingUp ends a session at both sides at once, not after their patience.
func TestGivingUp(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		far := lab.Internet().Machine("far", natlab.MachineConfig{}).Host(host.Config{})
		near := lab.Internet().Machine("near", natlab.MachineConfig{}).Host(host.Config{})
		there := make(chan error, 1)
		defer pipe.Listen(far, pipe.ListenConfig{}, func(_ peer.ID, s *pipe.Session) {
			_, err := io.Copy(io.Discard, s)
			there <- err
		}).Close()
		s, err := pipe.Dial(t.Context(), near, info(far), pipe.Config{})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_ = s.Close()
		if err := <-there; !errors.Is(err, pipe.ErrAborted) || time.Since(began) > time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

// TestWithoutPipes tells a peer that takes none from one that fails.
func TestWithoutPipes(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		far := lab.Internet().Machine("far", natlab.MachineConfig{}).Host(host.Config{})
		near := lab.Internet().Machine("near", natlab.MachineConfig{}).Host(host.Config{})
		if _, err := pipe.Dial(t.Context(), near, info(far), pipe.Config{}); !errors.Is(err, pipe.ErrUnsupported) {
			t.Errorf("%v", err)
		}
	})
}

// TestEndOfContext ends the session and both its ends.
func TestEndOfContext(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		far := lab.Internet().Machine("far", natlab.MachineConfig{}).Host(host.Config{})
		near := lab.Internet().Machine("near", natlab.MachineConfig{}).Host(host.Config{})
		defer pipe.Listen(far, pipe.ListenConfig{}, echo).Close()
		ctx, cancel := context.WithCancel(t.Context())
		s, err := pipe.Dial(ctx, near, info(far), pipe.Config{})
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := s.Wait(); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}
