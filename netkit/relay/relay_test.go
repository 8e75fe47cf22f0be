package relay_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/relay"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

func node(t *testing.T) *host.Node {
	t.Helper()
	n, err := host.New(host.Config{Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")}})
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

func serve(t *testing.T, n *host.Node, l relay.Limits) peer.AddrInfo {
	t.Helper()
	s, err := relay.New(n, relay.Config{Limits: l})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return peer.AddrInfo{ID: n.ID(), Addrs: n.ListenAddrs()}
}

// keep reserves on a relay and waits until the circuit is announced.
func keep(t *testing.T, n *host.Node, at peer.AddrInfo) chan relay.ClientEvent {
	t.Helper()
	events := make(chan relay.ClientEvent, 64)
	c := relay.NewClient(n, relay.ClientConfig{Relay: at, Backoff: 10 * time.Millisecond, On: func(e relay.ClientEvent) { events <- e }})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return events
}

func await(t *testing.T, events chan relay.ClientEvent, kind string) relay.ClientEvent {
	t.Helper()
	for {
		select {
		case e := <-events:
			if e.Kind == kind {
				return e
			}
		case <-t.Context().Done():
			t.Fatal("no event", kind)
		}
	}
}

// A relay that ends while its host goes on keeps the connections; those who reserved
// learn of it all the same, and come back when it does.
func TestRelayEndsBeforeItsHost(t *testing.T) {
	at := node(t)
	s, err := relay.New(at, relay.Config{})
	if err != nil {
		t.Fatal(err)
	}
	listener := node(t)
	events := keep(t, listener, peer.AddrInfo{ID: at.ID(), Addrs: at.ListenAddrs()})
	await(t, events, "reserved")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if e := await(t, events, "lost"); !errors.Is(e.Err, relay.ErrWithdrawn) {
		t.Errorf("lost: %v", e.Err)
	}
	if c := listener.Circuits(); len(c) != 0 {
		t.Errorf("still announces %v", c)
	}
	if len(listener.Conns(at.ID())) == 0 {
		t.Error("the connection is gone; the test shows nothing")
	}
	serve(t, at, relay.Limits{})
	await(t, events, "reserved")
}

func TestReservedPeerIsReachableOnLoopback(t *testing.T) {
	at := serve(t, node(t), relay.Limits{})
	listener, dialer := node(t), node(t)
	e := await(t, keep(t, listener, at), "reserved")
	if e.Reservation.Duration != 2*time.Minute || e.Reservation.Bytes != 128<<10 {
		t.Errorf("limits told: %v, %d bytes", e.Reservation.Duration, e.Reservation.Bytes)
	}
	c, err := dialer.Dial(t.Context(), listener.ID(), e.Reservation.Circuits)
	if err != nil {
		t.Fatal(err)
	}
	if !addr.IsRelayed(c.RemoteMultiaddr()) || !c.Stat().Limited {
		t.Errorf("connected over %s, limited %v", c.RemoteMultiaddr(), c.Stat().Limited)
	}
	if got := listener.Circuits(); len(got) == 0 {
		t.Error("no circuit address announced")
	}
}

func TestConnectStatusIsParsed(t *testing.T) {
	at := serve(t, node(t), relay.Limits{})
	nobody, dialer := node(t), node(t)
	circuit := at.Addrs[0].Encapsulate(ma.StringCast("/p2p/" + at.ID.String() + "/p2p-circuit"))
	_, err := dialer.Dial(t.Context(), nobody.ID(), []ma.Multiaddr{circuit})
	if s, ok := relay.ConnectStatus(err); !ok || s != relay.NoReservation {
		t.Errorf("status %v %v of error %v", s, ok, err)
	}
	if _, ok := relay.ConnectStatus(errors.New("anything else")); ok {
		t.Error("a status was read from an unrelated error")
	}
}

func TestReserveErrorsNameTheCause(t *testing.T) {
	full := serve(t, node(t), relay.Limits{Reservations: 1})
	first, second, plain := node(t), node(t), node(t)
	if _, err := relay.Reserve(t.Context(), first, full); err != nil {
		t.Fatal(err)
	}
	_, err := relay.Reserve(t.Context(), second, full)
	var re *relay.ReserveError
	if !errors.As(err, &re) || !relay.Refused(re.Status) {
		t.Errorf("full relay: %v", err)
	}
	_, err = relay.Reserve(t.Context(), second, peer.AddrInfo{ID: plain.ID(), Addrs: plain.ListenAddrs()})
	if !errors.Is(err, relay.ErrUnsupported) {
		t.Errorf("peer without relay: %v", err)
	}
}

func TestReservationComesBackAfterTheRelayDropsTheClient(t *testing.T) {
	rn := node(t)
	at := serve(t, rn, relay.Limits{})
	listener := node(t)
	events := keep(t, listener, at)
	await(t, events, "reserved")
	for _, c := range rn.Network().ConnsToPeer(listener.ID()) {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if e := await(t, events, "lost"); !errors.Is(e.Err, relay.ErrRelayLost) {
		t.Errorf("lost with %v", e.Err)
	}
	await(t, events, "reserved")
	if rn.Network().Connectedness(listener.ID()) != network.Connected {
		t.Error("reserved again without a connection")
	}
}

// Another part of the host, such as a registrar, dials the relay again before the
// client has looked: the reservation is gone all the same.
func TestReservationComesBackAfterAQuickReconnect(t *testing.T) {
	at := serve(t, node(t), relay.Limits{})
	listener, dialer := node(t), node(t)
	events := keep(t, listener, at)
	e := await(t, events, "reserved")
	for range 5 {
		if err := listener.Network().ClosePeer(at.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := listener.Dial(t.Context(), at.ID, at.Addrs); err != nil {
			t.Fatal(err)
		}
		for {
			if got := <-events; got.Kind == "reserved" || got.Kind == "renewed" {
				break
			}
		}
		if _, err := dialer.Dial(t.Context(), listener.ID(), e.Reservation.Circuits); err != nil {
			t.Fatal(err)
		}
		if err := dialer.Network().ClosePeer(listener.ID()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestManyClientsBehindOneAddress(t *testing.T) {
	at := serve(t, node(t), relay.Limits{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for i := range 24 {
		if _, err := relay.Reserve(ctx, node(t), at); err != nil {
			t.Fatalf("client %d: %v", i+1, err)
		}
	}
}
