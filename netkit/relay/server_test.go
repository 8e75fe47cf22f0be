package relay_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/relay"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
)

// TestStockClients lets hosts as go-libp2p makes them reserve and meet.
func TestStockClients(t *testing.T) {
	for _, listen := range []string{quicAddr, tcpAddr} {
		for _, c := range []struct {
			name    string
			limits  relay.Limits
			limited bool
		}{{"limited", relay.Limits{}, true}, {"unlimited", unlimited(), false}} {
			t.Run(addr.Transport(ma.StringCast(listen))+" "+c.name, func(t *testing.T) {
				h := stock(t, listen)
				s, story, at := start(t, h, relay.Config{Limits: c.limits})
				a, b := stock(t, listen), stock(t, listen)
				r := reserve(t, a, at)
				checkReservation(t, r, at, a.ID(), s.Limits())
				b.SetStreamHandler("/nothing", func(network.Stream) {})
				a.SetStreamHandler("/echo", func(st network.Stream) {
					_, _ = io.Copy(st, st)
					_ = st.Close()
				})
				if err := b.Connect(t.Context(), peer.AddrInfo{ID: a.ID(), Addrs: []ma.Multiaddr{circuitAddr(at)}}); err != nil {
					t.Fatal(err)
				}
				conn := b.Network().ConnsToPeer(a.ID())[0]
				if got := conn.Stat().Limited; got != c.limited {
					t.Errorf("limited %v", got)
				}
				if c.limited {
					extra := conn.Stat().Extra
					if extra[client.StatLimitDuration] != 2*time.Minute || extra[client.StatLimitData] != uint64(128<<10) {
						t.Errorf("the dialer was told %v", extra)
					}
				}
				opened := story.await(t, relay.EventCircuitOpened)
				if opened.Peer != b.ID() || opened.Destination != a.ID() {
					t.Errorf("opened: %+v", opened)
				}
				st, err := b.NewStream(network.WithAllowLimitedConn(t.Context(), "test"), a.ID(), "/echo")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := st.Write([]byte("there and back")); err != nil {
					t.Fatal(err)
				}
				if err := st.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(st); err != nil || string(got) != "there and back" {
					t.Errorf("%q came back: %v", got, err)
				}
				if err := conn.Close(); err != nil {
					t.Fatal(err)
				}
				if e := story.await(t, relay.EventCircuitClosed); e.Circuit != opened.Circuit || e.Sent == 0 || e.Received == 0 {
					t.Errorf("closed: %+v", e)
				}
			})
		}
	}
}

func checkReservation(t *testing.T, r *client.Reservation, at peer.AddrInfo, p peer.ID, l relay.Limits) {
	t.Helper()
	if left := time.Until(r.Expiration); left < 59*time.Minute || left > time.Hour {
		t.Errorf("the reservation lasts %s", left)
	}
	if v := r.Voucher; v == nil || v.Relay != at.ID || v.Peer != p || !v.Expiration.Equal(r.Expiration) {
		t.Errorf("voucher %+v", v)
	}
	var want []ma.Multiaddr
	for _, a := range at.Addrs {
		want = append(want, addr.WithPeer(a, at.ID))
	}
	if diff := cmp.Diff(want, r.Addrs); diff != "" {
		t.Error("addresses:", diff)
	}
	if wantDuration := max(l.Duration, 0); r.LimitDuration != wantDuration || r.LimitData != uint64(max(l.Bytes, 0)) {
		t.Errorf("the client was told %s and %d bytes", r.LimitDuration, r.LimitData)
	}
}

// TestVoucherIsSignedByTheRelay looks at the bytes, as other implementations do.
func TestVoucherIsSignedByTheRelay(t *testing.T) {
	_, _, at := start(t, stock(t, quicAddr), relay.Config{})
	a := stock(t, quicAddr)
	msg := status(t, send(t, a, at, &pb.HopMessage{Type: pb.HopMessage_RESERVE.Enum()}))
	envelope, rec, err := record.ConsumeEnvelope(msg.GetReservation().GetVoucher(), proto.RecordDomain)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := peer.IDFromPublicKey(envelope.PublicKey)
	if err != nil || signer != at.ID {
		t.Errorf("signed by %s: %v", signer, err)
	}
	if v, ok := rec.(*proto.ReservationVoucher); !ok || v.Peer != a.ID() || v.Expiration.Unix() != int64(msg.GetReservation().GetExpire()) {
		t.Errorf("voucher %+v", rec)
	}
}

// TestAnswerFitsWhatClientsRead: a relay may have more addresses than the 4 KiB
// that clients read have room for.
func TestAnswerFitsWhatClientsRead(t *testing.T) {
	var many []ma.Multiaddr
	for range 200 {
		many = append(many, ma.StringCast("/dns4/a.host.with.a.rather.long.name.example/tcp/4001"))
	}
	h := stock(t, quicAddr, libp2p.AddrsFactory(func([]ma.Multiaddr) []ma.Multiaddr { return many }))
	_, _, at := start(t, h, relay.Config{})
	at.Addrs = h.Network().ListenAddresses()
	if r := reserve(t, stock(t, quicAddr), at); len(r.Addrs) == 0 || len(r.Addrs) == len(many) {
		t.Errorf("%d of %d addresses were told", len(r.Addrs), len(many))
	}
}

func TestAddrFilter(t *testing.T) {
	h := stock(t, quicAddr)
	_, _, at := start(t, h, relay.Config{AddrFilter: func(ma.Multiaddr) bool { return false }})
	if r := reserve(t, stock(t, quicAddr), at); len(r.Addrs) != 0 {
		t.Errorf("told %s", r.Addrs)
	}
}

// TestReservationEndsWithTheLastConnection: not with the first of two.
func TestReservationEndsWithTheLastConnection(t *testing.T) {
	h := stock(t, quicAddr)
	s, story, at := start(t, h, relay.Config{})
	a := node(t)
	reserve(t, a, at)
	second, err := a.DialAddr(t.Context(), at.ID, at.Addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a second connection", func() bool { return len(h.Network().ConnsToPeer(a.ID())) == 2 })
	gone := make(chan struct{}, 2)
	h.Network().Notify(&network.NotifyBundle{DisconnectedF: func(network.Network, network.Conn) { gone <- struct{}{} }})
	if err := a.Network().ClosePeer(at.ID); err != nil {
		t.Fatal(err)
	}
	<-gone
	if got := s.Reservations(); len(got) != 1 {
		t.Fatal("the reservation ended with the first of two connections")
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if e := story.await(t, relay.EventReservationClosed); e.Peer != a.ID() || e.Reason != relay.ReasonDisconnected {
		t.Errorf("%+v", e)
	}
	if got := s.Reservations(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

// TestCloseWakesRequests: neither a client that says nothing nor a destination
// that does not answer holds up the end.
func TestCloseWakesRequests(t *testing.T) {
	h := stock(t, quicAddr)
	s, _, at := start(t, h, relay.Config{})
	a, b := stock(t, quicAddr), stock(t, quicAddr)
	asked := make(chan network.Stream, 1)
	a.SetStreamHandler(proto.ProtoIDv2Stop, func(st network.Stream) { asked <- st })
	reserve(t, a, at)
	st := send(t, b, at, connectTo(a.ID()))
	silent, err := b.NewStream(t.Context(), at.ID, proto.ProtoIDv2Hop)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := silent.Write([]byte{5}); err != nil {
		t.Fatal(err)
	}
	<-asked
	eventually(t, "two requests under way", func() bool {
		n := 0
		for _, st := range h.Network().ConnsToPeer(b.ID())[0].GetStreams() {
			if st.Protocol() == proto.ProtoIDv2Hop {
				n++
			}
		}
		return n == 2
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, st := range []network.Stream{st, silent} {
		if _, err := st.Read(make([]byte, 1)); !errors.Is(err, network.ErrReset) {
			t.Errorf("a request under way ended with %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error("closing twice:", err)
	}
	if err := s.Wait(context.Background()); err != nil {
		t.Error("waiting after the end:", err)
	}
}
