package serve_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/rendezvous"
	"dibber/netkit/rendezvous/rustcheck"
	"dibber/netkit/serve"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	aquadoggo                     = "aquadoggo" // namespace, and family of protocols
	p2panda           protocol.ID = "/p2p/p2panda/1.0.0"
	rendezvousForRust protocol.ID = "/rendezvous/1.0.0"
)

// announce is what an aquadoggo node says first: version 1, a time, and the four system schemas.
var announce = unhex("8400011a6553f1008474736368656d615f646566696e6974696f6e5f7631781a736368656d615f6669656c645f646566696e6974696f6e5f7631" +
	"67626c6f625f76316d626c6f625f70696563655f7631")

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// edge does what an edge of aquadoggo 0.8 does with its relay, and no more: it identifies, reserves and registers once, asks once
// who else is there, and dials those through the relay alone, whatever their records say. It opens a stream for p2panda on every
// connection at once and hangs up where that is refused; of a rendezvous reply it takes what a rust client takes.
type edge struct {
	corehost.Host
	relay peer.AddrInfo

	announced chan network.Conn // where another's announcement came in
	mu        sync.Mutex        // guards refused
	refused   []error           // connections that were given up
}

func newEdge(t *testing.T, lab *natlab.Lab, name string, relay *host.Node) *edge {
	t.Helper()
	nat := natlab.NAT{Filtering: natlab.AddressAndPortDependent}
	machine := lab.Internet().Router(name+"-router", natlab.RouterConfig{NAT: nat}).LAN().Machine(name, natlab.MachineConfig{})
	e := &edge{
		Host: machine.Stock(
			libp2p.UserAgent("rust-libp2p/0.44.1"), libp2p.ProtocolVersion(aquadoggo+"/1.0.0"),
			libp2p.Ping(false), libp2p.DisableMetrics(),
		),
		relay: info(relay), announced: make(chan network.Conn, 16),
	}
	e.SetStreamHandler(p2panda, e.hear)
	e.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) { go e.announceOn(c) }})
	return e
}

// announceOn opens the stream of a new connection, or gives the connection up.
func (e *edge) announceOn(c network.Conn) {
	s, err := c.NewStream(network.WithAllowLimitedConn(context.Background(), aquadoggo))
	if err == nil {
		err = multistream.SelectProtoOrFail(p2panda, s)
	}
	if err == nil {
		_, err = s.Write(announce)
	}
	if err != nil {
		e.mu.Lock()
		e.refused = append(e.refused, fmt.Errorf("%s: %w", c.RemotePeer(), err))
		e.mu.Unlock()
		_ = c.Close()
	}
}

// hear takes another's announcement and keeps the stream.
func (e *edge) hear(s network.Stream) {
	said := make([]byte, len(announce))
	if _, err := s.Read(said); err == nil && bytes.Equal(said, announce) {
		e.announced <- s.Conn()
	}
}

// start goes through the steps of an edge with its relay.
func (e *edge) start(ctx context.Context) error {
	identified, err := e.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		return err
	}
	defer identified.Close()
	if err := e.Connect(ctx, e.relay); err != nil {
		return err
	}
	var observed ma.Multiaddr
	select {
	case said := <-identified.Out():
		observed = said.(event.EvtPeerIdentificationCompleted).ObservedAddr
	case <-ctx.Done():
		return fmt.Errorf("identify: %w", ctx.Err())
	}
	reserved, registered := make(chan error, 1), make(chan error, 1)
	go func() { reserved <- e.reserve(ctx) }()
	go func() { registered <- e.register(ctx, observed) }()
	if err := errors.Join(<-reserved, <-registered); err != nil {
		return err
	}
	// The circuit address counts as external once it is reserved, and the rendezvous client registers again with each of those.
	if err := e.register(ctx, observed, e.circuit()); err != nil {
		return err
	}
	found, err := e.discover(ctx)
	if err != nil {
		return err
	}
	for _, id := range found {
		if id != e.ID() && e.Network().Connectedness(id) == network.NotConnected {
			to := peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{e.circuit()}}
			err = errors.Join(err, e.Connect(network.WithAllowLimitedConn(ctx, aquadoggo), to))
		}
	}
	return err
}

// circuit is the address that others reach this edge by.
func (e *edge) circuit() ma.Multiaddr {
	return e.relay.Addrs[0].Encapsulate(ma.StringCast("/p2p/" + e.relay.ID.String() + "/p2p-circuit"))
}

func (e *edge) reserve(ctx context.Context) error {
	r, err := client.Reserve(ctx, e, e.relay)
	if err == nil && len(r.Addrs) == 0 {
		err = errors.New("rust: NoAddressesInReservation")
	}
	return err
}

// register asks for no particular lifetime.
func (e *edge) register(ctx context.Context, addrs ...ma.Multiaddr) error {
	record, err := rendezvous.SealRecord(e.Peerstore().PrivKey(e.ID()), uint64(time.Now().Unix()), addrs, rendezvous.Legacy)
	if err != nil {
		return err
	}
	_, err = e.ask(ctx, 0, 2, lengthPrefixed(lengthPrefixed(nil, 1, []byte(aquadoggo)), 2, record))
	return err
}

// discover names neither limit nor cookie.
func (e *edge) discover(ctx context.Context) (found []peer.ID, err error) {
	reply, err := e.ask(ctx, 3, 5, lengthPrefixed(nil, 1, []byte(aquadoggo)))
	if err != nil {
		return nil, err
	}
	for _, envelope := range reply.Records {
		r, err := rendezvous.OpenRecord(envelope)
		if err != nil || r.Flavour != rendezvous.Legacy {
			return nil, fmt.Errorf("a record that rust cannot read, so it reads none: %+v, %w", r, err)
		}
		found = append(found, r.Peer)
	}
	return found, nil
}

// ask sends a message of a type, whose body is the field of a number, on a stream of its own.
func (e *edge) ask(ctx context.Context, kind uint64, field protowire.Number, body []byte) (rustcheck.Reply, error) {
	s, err := e.NewStream(ctx, e.relay.ID, rendezvousForRust)
	if err != nil {
		return rustcheck.Reply{}, err
	}
	request := lengthPrefixed(protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), kind), field, body)
	raw, err := wire.Exchange(ctx, s, request, 1<<20)
	if err != nil {
		return rustcheck.Reply{}, err
	}
	reply, err := rustcheck.Check(raw, false)
	if err == nil && reply.Status != 0 {
		err = fmt.Errorf("message type %d: status %d", kind, reply.Status)
	}
	return reply, err
}

func lengthPrefixed(b []byte, field protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), value)
}

// given returns what this edge has given up.
func (e *edge) given() []error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.refused)
}

// heardFrom waits for another's announcement and returns its connection.
func (e *edge) heardFrom(t *testing.T, who peer.ID) network.Conn {
	t.Helper()
	for limit := time.After(time.Minute); ; {
		select {
		case c := <-e.announced:
			if c.RemotePeer() == who {
				return c
			}
		case <-limit:
			t.Fatalf("%s announced nothing", who)
		}
	}
}

// Two edges of aquadoggo, each behind a NAT, find and reach each other with nothing but our server, and it keeps them.
func TestAquadoggoEdges(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, server := public(t, lab, "server")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		first, second := newEdge(t, lab, "first", server), newEdge(t, lab, "second", server)
		for _, e := range []*edge{first, second} {
			if err := e.start(ctx); err != nil {
				t.Fatal(err)
			}
		}
		for e, other := range map[*edge]*edge{first: second, second: first} {
			if c := e.heardFrom(t, other.ID()); !addr.IsRelayed(c.RemoteMultiaddr()) {
				t.Errorf("heard the other at %s: the test shows nothing of the relay", c.RemoteMultiaddr())
			}
		}
		time.Sleep(time.Minute) // virtual: what was to be given up has been
		for name, e := range map[string]*edge{"first": first, "second": second} {
			if given := e.given(); len(given) > 0 {
				t.Errorf("the %s edge hung up: %v", name, given)
			}
			if e.Network().Connectedness(server.ID()) != network.Connected {
				t.Errorf("the %s edge has lost its relay", name)
			}
		}
	})
}

// A node of ours in aquadoggo's namespace, with a reservation on the relay it is registered at, is found and kept by an edge.
func TestAquadoggoEdgeReachesOurNode(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		_, server := public(t, lab, "server")
		ours := behind(lab, "ours", natlab.NAT{Filtering: natlab.AddressAndPortDependent})
		ev := start(t, ours, serve.Config{
			Relays:        []peer.AddrInfo{info(server)},
			Registrations: []serve.Registration{{Server: info(server), Namespace: aquadoggo}},
		})
		ev.await(t, "reservation", reservation("reserved"))
		ev.await(t, "registration", registered)
		e := newEdge(t, lab, "edge", server)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := e.start(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // virtual: what was to be given up has been
		if given := e.given(); len(given) > 0 {
			t.Errorf("the edge hung up: %v", given)
		}
		if e.Network().Connectedness(ours.ID()) == network.NotConnected {
			t.Error("the edge has not reached, or not kept, our node")
		}
	})
}
