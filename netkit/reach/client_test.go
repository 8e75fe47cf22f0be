package reach_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"dibber/netkit/dialback"
	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/reach"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2/pb"
	"google.golang.org/protobuf/proto"
)

// says is a server that answers each question with the same words, after doing what
// before does.
func says(t *testing.T, n *host.Node, answer *pb.Message, before func(from peer.ID, conn network.Conn, nonce uint64)) {
	t.Helper()
	n.SetStreamHandler(reach.ProtocolDialRequest, func(st network.Stream) {
		defer st.Close()
		frame, err := wire.NewReader(st, 8192).Next()
		if err != nil {
			return
		}
		var msg pb.Message
		if err := proto.Unmarshal(frame, &msg); err != nil {
			return
		}
		if before != nil {
			before(st.Conn().RemotePeer(), st.Conn(), msg.GetDialRequest().GetNonce())
		}
		b, err := proto.Marshal(answer)
		if err != nil {
			return
		}
		_ = wire.WriteFrame(st, b, len(b))
	})
}

func response(status pb.DialResponse_ResponseStatus, dial pb.DialStatus, index uint32) *pb.Message {
	return &pb.Message{Msg: &pb.Message_DialResponse{DialResponse: &pb.DialResponse{Status: status, DialStatus: dial, AddrIdx: index}}}
}

// sendNonce does on conn what a server does on the connection of its dial-back.
func sendNonce(t *testing.T, n *host.Node, conn network.Conn, nonce uint64) {
	t.Helper()
	st, err := n.OpenStream(context.Background(), conn, reach.ProtocolDialBack)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = st.Reset() }()
	b, err := proto.Marshal(&pb.DialBack{Nonce: nonce})
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = wire.Exchange(context.Background(), st, b, 64)
}

func TestWhatServersSay(t *testing.T) {
	ok := response(pb.DialResponse_OK, pb.DialStatus_OK, 0)
	anything := errors.New("any error")
	for name, c := range map[string]struct {
		answer    *pb.Message
		lie       bool // the nonce comes over the connection that the client has opened
		inbound   bool // the connection in use was opened by the server
		elsewhere bool // the nonce comes over a connection of the server's own, as it should
		reachable bool
		err       error
	}{
		"it is busy":                                 {answer: response(pb.DialResponse_E_REQUEST_REJECTED, 0, 0), err: reach.ErrBusy},
		"it is not willing":                          {answer: response(pb.DialResponse_E_DIAL_REFUSED, 0, 0), err: reach.ErrUnwilling},
		"it is broken":                               {answer: response(pb.DialResponse_E_INTERNAL_ERROR, 0, 0), err: anything},
		"it dialled what it was not told":            {answer: response(pb.DialResponse_OK, pb.DialStatus_OK, 7), err: anything},
		"it could not":                               {answer: response(pb.DialResponse_OK, pb.DialStatus_E_DIAL_ERROR, 0)},
		"it claims to have dialled":                  {answer: ok, err: reach.ErrNoDialBack},
		"it says nothing of use":                     {answer: response(pb.DialResponse_OK, pb.DialStatus_UNUSED, 0), err: anything},
		"it wants a gigabyte first":                  {answer: &pb.Message{Msg: &pb.Message_DialDataRequest{DialDataRequest: &pb.DialDataRequest{NumBytes: 1 << 30}}}, err: anything},
		"it sends the nonce over our own connection": {answer: ok, lie: true, err: reach.ErrNoDialBack},
		"it sends the nonce over a connection it has had before": {answer: ok, lie: true, inbound: true, err: reach.ErrNoDialBack},
		"it has dialled":                    {answer: ok, elsewhere: true, reachable: true},
		"it has dialled, whatever it says":  {answer: response(pb.DialResponse_OK, pb.DialStatus_E_DIAL_ERROR, 0), elsewhere: true, reachable: true},
		"the stream of the dial-back broke": {answer: response(pb.DialResponse_OK, pb.DialStatus_E_DIAL_BACK_ERROR, 0), err: anything},
	} {
		t.Run(name, func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				server := lab.Internet().Machine("server", natlab.MachineConfig{}).Host(host.Config{})
				second := lab.Internet().Machine("second", natlab.MachineConfig{}).Host(host.Config{})
				asker := lab.Internet().Machine("asker", natlab.MachineConfig{}).Host(host.Config{})
				says(t, server, c.answer, func(from peer.ID, conn network.Conn, nonce uint64) {
					switch {
					case c.lie:
						sendNonce(t, server, conn, nonce)
					case c.elsewhere:
						back, err := second.Dial(context.Background(), from, asker.ListenAddrs())
						if err != nil {
							t.Error(err)
							return
						}
						sendNonce(t, second, back, nonce)
					}
				})
				client := reach.NewClient(asker)
				defer client.Close()
				if c.inbound {
					connect(t, server, asker)
					time.Sleep(time.Second) // virtual: the asker has it, too
				} else {
					connect(t, asker, server)
				}
				reachable, err := client.Ask(t.Context(), server.ID(), asker.ListenAddrs()[0])
				if reachable != c.reachable || (err == nil) != (c.err == nil) || c.err != anything && !errors.Is(err, c.err) { //nolint:errorlint // identity is meant
					t.Errorf("got %v, %v; want %v, %v", reachable, err, c.reachable, c.err)
				}
			})
		})
	}
}

// An address at another IP than the one the server sees costs dial data.
func TestDialData(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		asker := lab.Internet().Machine("asker", natlab.MachineConfig{Addresses: 2}).Host(host.Config{})
		server := servers(t, lab, 1)[0]
		client := reach.NewClient(asker)
		defer client.Close()
		connect(t, asker, server)
		for _, a := range asker.ListenAddrs() {
			if reachable, err := client.Ask(t.Context(), server.ID(), a); err != nil || !reachable {
				t.Errorf("%s: %v, %v", a, reachable, err)
			}
		}
	})
}

// A host that dials others back takes dial-backs itself, whichever part came first
// and even when one of them has gone.
func TestClientBesideServer(t *testing.T) {
	for name, serverFirst := range map[string]bool{"server first": true, "client first": false} {
		t.Run(name, func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				n := lab.Internet().Machine("host", natlab.MachineConfig{}).Host(host.Config{})
				other := servers(t, lab, 1)[0]
				var client *reach.Client
				if !serverFirst {
					client = reach.NewClient(n)
				}
				s, err := dialback.New(n, dialback.Config{})
				if err != nil {
					t.Fatal(err)
				}
				if serverFirst {
					client = reach.NewClient(n)
				}
				defer client.Close()
				connect(t, n, other)
				ask := func() {
					if reachable, err := client.Ask(t.Context(), other.ID(), n.ListenAddrs()[0]); err != nil || !reachable {
						t.Errorf("%v, %v", reachable, err)
					}
				}
				ask()
				for _, p := range n.Network().Peers() {
					_ = n.Network().ClosePeer(p)
				}
				time.Sleep(time.Minute) // see servers
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				connect(t, n, other)
				ask()
			})
		})
	}
}

func TestNobodyToAsk(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		n := lab.Internet().Machine("host", natlab.MachineConfig{}).Host(host.Config{})
		other := lab.Internet().Machine("other", natlab.MachineConfig{}).Host(host.Config{})
		client := reach.NewClient(n)
		defer client.Close()
		if _, err := client.Ask(t.Context(), other.ID(), n.ListenAddrs()[0]); !errors.Is(err, reach.ErrNotConnected) {
			t.Errorf("not connected: %v", err)
		}
		connect(t, n, other)
		if _, err := client.Ask(t.Context(), other.ID(), n.ListenAddrs()[0]); err == nil {
			t.Error("a peer that speaks no AutoNAT has answered")
		}
	})
}
