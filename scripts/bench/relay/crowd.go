package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
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
)

// crowd is many peers with a reservation each, on one UDP socket: whole hosts
// would need more memory than a machine has.
type crowd struct {
	quic  *quicreuse.ConnManager
	conns []transport.CapableConn
	done  sync.WaitGroup
}

func newCrowd() (*crowd, error) {
	m, err := quicreuse.NewConnManager(quic.StatelessResetKey{1}, quic.TokenGeneratorKey{1})
	if err != nil {
		return nil, err
	}
	return &crowd{quic: m}, nil
}

// crowdArgs ask for Count more peers with reservations.
type crowdArgs struct {
	Relay peer.AddrInfo `json:"relay"`
	Count int           `json:"count"`
}

// joining is how many peers of a crowd reserve at the same time.
const joining = 16

func (c *crowd) do(ctx context.Context, op string, args json.RawMessage) (any, error) {
	switch op {
	case "join":
		var a crowdArgs
		if err := json.Unmarshal(args, &a); err != nil {
			return nil, err
		}
		began := time.Now()
		err := c.join(ctx, a)
		return time.Since(began).Seconds(), err
	case "lost":
		lost := 0
		for _, conn := range c.conns {
			if conn.IsClosed() {
				lost++
			}
		}
		return lost, nil
	default:
		return nil, fmt.Errorf("a crowd does not %s", op)
	}
}

func (c *crowd) join(ctx context.Context, a crowdArgs) error {
	var mu sync.Mutex
	var errs []error
	left := a.Count
	var workers sync.WaitGroup
	for range joining {
		workers.Go(func() {
			for {
				mu.Lock()
				left--
				more := left >= 0 && len(errs) == 0
				mu.Unlock()
				if !more {
					return
				}
				conn, err := c.member(ctx, a.Relay)
				mu.Lock()
				if err != nil {
					errs = append(errs, err)
				} else {
					c.conns = append(c.conns, conn)
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return errors.Join(errs...)
}

// member connects a peer of its own identity and reserves.
func (c *crowd) member(ctx context.Context, relay peer.AddrInfo) (transport.CapableConn, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, err
	}
	t, err := libp2pquic.NewTransport(key, c.quic, nil, nil, nil)
	if err != nil {
		return nil, err
	}
	conn, err := t.Dial(ctx, relay.Addrs[0], relay.ID)
	if err != nil {
		return nil, err
	}
	c.done.Go(func() { answer(conn, key.GetPublic()) })
	if err := reserve(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
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

// answer tells the relay who this is when it asks, and nothing else.
func answer(conn transport.CapableConn, key crypto.PubKey) {
	mux := multistream.NewMultistreamMuxer[protocol.ID]()
	mux.AddHandler(identify.ID, nil)
	for {
		st, err := conn.AcceptStream()
		if err != nil {
			return
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
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	err := c.quic.Close()
	c.done.Wait()
	return err
}
