package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/transport"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	idpb "github.com/libp2p/go-libp2p/p2p/protocol/identify/pb"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/multiformats/go-multistream"
	"github.com/quic-go/quic-go"
	"golang.org/x/sync/errgroup"
)

// crowd is many peers with a reservation each, on one UDP socket: whole hosts
// would need more memory than a machine has.
type crowd struct {
	quic *quicreuse.ConnManager
	done sync.WaitGroup

	mu      sync.Mutex
	conns   map[transport.CapableConn]struct{} // of those who have reserved
	lost    map[string]int                     // such connections that ended, by the error
	retries int
}

func newCrowd() (*crowd, error) {
	m, err := quicreuse.NewConnManager(quic.StatelessResetKey{1}, quic.TokenGeneratorKey{1})
	if err != nil {
		return nil, err
	}
	return &crowd{quic: m, conns: make(map[transport.CapableConn]struct{}), lost: make(map[string]int)}, nil
}

// lostReply tells what did not go well.
type lostReply struct {
	Lost    map[string]int `json:"lost"`
	Retries int            `json:"retries"`
}

// crowdArgs ask for Count more peers with reservations.
type crowdArgs struct {
	Relay peer.AddrInfo `json:"relay"`
	Count int           `json:"count"`
}

// joining is how many peers of a crowd reserve at the same time. A listener of
// go-libp2p refuses more than 16 connections that wait to be accepted.
const joining = 16

func (c *crowd) do(ctx context.Context, op string, args json.RawMessage) (any, error) {
	switch op {
	case "join":
		var a crowdArgs
		if err := json.Unmarshal(args, &a); err != nil {
			return nil, err
		}
		return c.join(ctx, a)
	case "lost":
		c.mu.Lock()
		defer c.mu.Unlock()
		return lostReply{c.lost, c.retries}, nil
	default:
		return nil, fmt.Errorf("a crowd does not %s", op)
	}
}

// join lets that many peers come and reserve, and returns how many seconds it
// took.
func (c *crowd) join(ctx context.Context, a crowdArgs) (float64, error) {
	members := make(chan member, a.Count)
	for range a.Count { // before the clock runs: identities are no work of the relay's
		m, err := c.member()
		if err != nil {
			return 0, err
		}
		members <- m
	}
	close(members)
	began := time.Now()
	var workers errgroup.Group
	for range joining {
		workers.Go(func() error {
			for m := range members {
				if err := c.insist(ctx, m, a.Relay); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := workers.Wait()
	return time.Since(began).Seconds(), err
}

// member is a peer before it has joined.
type member struct {
	key  crypto.PubKey
	quic transport.Transport
}

// member makes a peer of its own identity.
func (c *crowd) member() (member, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return member{}, err
	}
	t, err := libp2pquic.NewTransport(key, c.quic, nil, nil, nil)
	return member{key.GetPublic(), t}, err
}

// attempts is how often a peer tries, as peers do on a busy machine.
const attempts = 5

// insist lets a peer join, at once or later.
func (c *crowd) insist(ctx context.Context, m member, relay peer.AddrInfo) error {
	for n := 1; ; n++ {
		err := c.enter(ctx, m, relay)
		if err == nil || n == attempts {
			return err
		}
		c.mu.Lock()
		c.retries++
		c.mu.Unlock()
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// enter connects a peer to the relay and reserves.
func (c *crowd) enter(ctx context.Context, m member, relay peer.AddrInfo) error {
	conn, err := m.quic.Dial(ctx, relay.Addrs[0], relay.ID)
	if err != nil {
		return err
	}
	c.done.Go(func() {
		err := answer(conn, m.key)
		c.mu.Lock()
		defer c.mu.Unlock()
		if _, ok := c.conns[conn]; ok {
			c.lost[err.Error()]++
		}
	})
	if err := reserve(ctx, conn); err != nil {
		return errors.Join(err, conn.Close())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns[conn] = struct{}{}
	return nil
}

// reserve asks for a reservation, as the specification has it.
func reserve(ctx context.Context, conn transport.CapableConn) error {
	st, err := conn.OpenStream(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = st.Close() }()
	lazy := multistream.NewMSSelect(st, protocol.ID(proto.ProtoIDv2Hop))
	if err := util.NewDelimitedWriter(lazy).WriteMsg(&pb.HopMessage{Type: pb.HopMessage_RESERVE.Enum()}); err != nil {
		return err
	}
	rd := util.NewDelimitedReader(lazy, 4096)
	defer rd.Close()
	var msg pb.HopMessage
	if err := rd.ReadMsg(&msg); err != nil {
		return err
	}
	if msg.GetStatus() != pb.Status_OK {
		return fmt.Errorf("refused with %s", msg.GetStatus())
	}
	return nil
}

// answer tells the relay who this is when it asks, and nothing else, until the
// connection ends with an error.
func answer(conn transport.CapableConn, key crypto.PubKey) error {
	mux := multistream.NewMultistreamMuxer[protocol.ID]()
	mux.AddHandler(identify.ID, nil)
	for {
		st, err := conn.AcceptStream()
		if err != nil {
			return err
		}
		if err := introduce(mux, st, key); err != nil {
			_ = st.Reset()
		}
	}
}

func introduce(mux *multistream.MultistreamMuxer[protocol.ID], st network.MuxedStream, key crypto.PubKey) error {
	if err := st.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, _, err := mux.Negotiate(st); err != nil {
		return err
	}
	raw, err := crypto.MarshalPublicKey(key)
	if err != nil {
		return err
	}
	agent, version := "bench", "ipfs/0.1.0"
	err = util.NewDelimitedWriter(st).WriteMsg(&idpb.Identify{
		PublicKey: raw, AgentVersion: &agent, ProtocolVersion: &version,
		Protocols: []string{identify.ID, proto.ProtoIDv2Stop},
	})
	if err != nil {
		return err
	}
	return st.Close()
}

func (c *crowd) close() error {
	c.mu.Lock()
	conns := slices.Collect(maps.Keys(c.conns))
	c.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
	}
	err := c.quic.Close()
	c.done.Wait()
	return err
}
