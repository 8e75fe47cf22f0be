package etcd_test

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"dibber/netkit/etcd"
	"dibber/netkit/rendezvous"
)

func infoOf(h host.Host) peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

// server starts a server of which a test wants to know more than where it is.
func server(t *testing.T, cfg rendezvous.ServerConfig) (s *rendezvous.Server, at peer.AddrInfo, kinds func() []rendezvous.EventKind) {
	t.Helper()
	var mu sync.Mutex
	var told []rendezvous.EventKind
	cfg.On = func(e rendezvous.Event) {
		if e.Kind == rendezvous.EventAway || e.Kind == rendezvous.EventBack {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, e.Kind)
		}
	}
	h := newHost(t)
	s, err := rendezvous.NewServer(h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, infoOf(h), func() []rendezvous.EventKind {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(told)
	}
}

// until waits for something that takes its time.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	end := time.After(time.Minute)
	for !is() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-end:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// claimsNothing fails the test unless a server says of whatever it is asked that it cannot know, and not
// where its members are.
func claimsNothing(t *testing.T, h host.Host, at peer.AddrInfo, member string) {
	t.Helper()
	var running sync.WaitGroup
	for what, ask := range map[string]func() error{
		"register": func() error { return register(t.Context(), h, at, "ns") },
		"discover": func() error {
			return failure(rendezvous.Discover(t.Context(), h, at, rendezvous.DiscoverRequest{Namespace: "ns"}))
		},
	} {
		running.Go(func() {
			if err := ask(); status(err) != rendezvous.StatusUnavailable || strings.Contains(err.Error(), member) {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	running.Wait()
}

// TestStartsWhileEtcdIsAway starts servers before their registry, without and with a login.
func TestStartsWhileEtcdIsAway(t *testing.T) {
	for name, start := range map[string]func(*testing.T) (*member, etcd.Config){
		"plain": func(t *testing.T) (*member, etcd.Config) { return newMember(t), etcd.Config{} },
		"login": func(t *testing.T) (*member, etcd.Config) { return newGuarded(t), login("secret") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, cfg := start(t)
			m.kill()
			s, at, told := server(t, rendezvous.ServerConfig{Space: m.space(t, cfg)})
			if sharing := s.Sharing(); sharing.Away == nil || !strings.Contains(sharing.Away.Error(), "connection refused") {
				t.Errorf("it does not know that etcd is away, and why: %v", sharing.Away)
			}
			h := newHost(t)
			claimsNothing(t, h, at, m.at)
			m.start(t)
			until(t, "it is ready", func() bool { return s.Sharing().Away == nil })
			if err := register(t.Context(), h, at, "ns"); err != nil {
				t.Fatal(err)
			}
			discover(t, newHost(t), at, nil, 1)
			if got := told(); !slices.Equal(got, []rendezvous.EventKind{rendezvous.EventAway, rendezvous.EventBack}) {
				t.Errorf("told %v", got)
			}
		})
	}
}

// TestClocks: a server whose clock is behind another's by more than a second refuses, and knows why;
// one that is ahead does not, since the other one does.
func TestClocks(t *testing.T) {
	t.Parallel()
	for _, apart := range []time.Duration{time.Minute, -time.Minute} {
		m := newMember(t)
		s, at, _ := server(t, rendezvous.ServerConfig{Space: m.space(t, etcd.Config{})})
		h := newHost(t)
		if err := register(t.Context(), h, at, "ns"); err != nil {
			t.Fatal(err)
		}
		beat(t, m.space(t, etcd.Config{}), apart)
		_, found := rendezvous.Discover(t.Context(), h, at, rendezvous.DiscoverRequest{Namespace: "ns"})
		err := register(t.Context(), h, at, "ns") // which need not have heard of it, but for the discover
		if apart < 0 {
			if err != nil || found != nil {
				t.Errorf("ahead: register %v, discover %v", err, found)
			}
			continue
		}
		for what, err := range map[string]error{"register": err, "discover": found} {
			if status(err) != rendezvous.StatusUnavailable || !strings.Contains(err.Error(), "clock is") {
				t.Errorf("behind: %s: %v", what, err)
			}
		}
		until(t, "it knows why it refuses", func() bool {
			away := s.Sharing().Away
			return away != nil && strings.Contains(away.Error(), "behind that of another server")
		})
	}
}

// beat is another server, whose clock is off, until the test ends.
func beat(t *testing.T, space *etcd.Space, off time.Duration) {
	t.Helper()
	tell := func() error {
		now := time.Now()
		_, _, err := space.Commit(t.Context(), rendezvous.SpaceWrite{Puts: []rendezvous.SpacePut{
			{Key: "server/other", Value: strconv.AppendInt(nil, now.Add(off).UnixMilli(), 10), Expires: now.Add(time.Minute)},
			{Key: "head"}, // what a server answers from now on is as of this
		}})
		return err
	}
	if err := tell(); err != nil {
		t.Fatal(err)
	}
	end := make(chan struct{})
	var running sync.WaitGroup
	t.Cleanup(func() { close(end); running.Wait() })
	running.Go(func() {
		for {
			select {
			case <-end:
				return
			case <-time.After(time.Second):
				_ = tell() // the next follows
			}
		}
	})
}

// TestWithoutMajority stops two members of three: nothing is claimed, be it that it was written or
// that it is there, until one is back.
func TestWithoutMajority(t *testing.T) {
	t.Parallel()
	members := newMembers(t, 3, etcd.Config{})
	var cfg etcd.Config
	for _, m := range members {
		cfg.Endpoints = append(cfg.Endpoints, m.at)
	}
	s, at, _ := server(t, rendezvous.ServerConfig{Space: members[0].space(t, cfg)})
	h := newHost(t)
	until(t, "the members agree", func() bool { return register(t.Context(), h, at, "ns") == nil })
	for _, m := range members[1:] {
		m.kill()
	}
	// Clients wait ten seconds for an answer; no answer is not the one expected.
	claimsNothing(t, h, at, members[1].at)
	until(t, "it knows", func() bool { return s.Sharing().Away != nil })
	members[2].start(t)
	until(t, "it is back", func() bool { return register(t.Context(), h, at, "ns") == nil })
	discover(t, newHost(t), at, nil, 1)
}
