package gossip

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"sync"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natlab"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// rogue speaks the protocol without the library, and passes nothing on. What it hears it keeps.
type rogue struct {
	l    lab
	host *host.Node
	key  crypto.PrivKey

	mu    sync.Mutex // guards following
	out   map[peer.ID]network.Stream
	heard []*pb.Message
	seqno uint64
	ended map[peer.ID]bool // the peer has ended the stream
}

func (l lab) rogue(m *natlab.Machine) *rogue {
	l.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		l.Fatal(err)
	}
	r := &rogue{l: l, host: m.Host(host.Config{Identity: key}), key: key, out: make(map[peer.ID]network.Stream), ended: make(map[peer.ID]bool)}
	for _, proto := range Protocols()[2:4] {
		r.host.SetStreamHandler(proto, r.listen)
	}
	return r
}

// listen keeps the messages that a peer sends.
func (r *rogue) listen(st network.Stream) {
	src := bufio.NewReader(st)
	for {
		size, err := binary.ReadUvarint(src)
		if err != nil {
			return
		}
		frame := make([]byte, size)
		if _, err := io.ReadFull(src, frame); err != nil {
			return
		}
		var rpc pb.RPC
		if rpc.Unmarshal(frame) == nil {
			r.mu.Lock()
			r.heard = append(r.heard, rpc.GetPublish()...)
			r.mu.Unlock()
		}
	}
}

// meet connects with a peer, subscribes and asks to be in the mesh.
func (r *rogue) meet(at peer.AddrInfo, topic string) {
	r.l.Helper()
	ctx := context.Background()
	if err := r.host.Connect(ctx, at); err != nil {
		r.l.Fatal(err)
	}
	st, err := r.host.NewStream(ctx, at.ID, Protocols()[2])
	if err != nil {
		r.l.Fatal(err)
	}
	r.mu.Lock()
	r.out[at.ID] = st
	r.mu.Unlock()
	go func() {
		_, _ = st.Read(make([]byte, 1))
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ended[at.ID] = true
	}()
	r.send(at.ID, &pb.RPC{Subscriptions: []*pb.RPC_SubOpts{{Subscribe: new(true), Topicid: &topic}}})
	r.send(at.ID, &pb.RPC{Control: &pb.ControlMessage{Graft: []*pb.ControlGraft{{TopicID: &topic}}}})
}

// send writes one frame.
func (r *rogue) send(to peer.ID, rpc *pb.RPC) {
	body, err := rpc.Marshal()
	if err != nil {
		r.l.Error(err)
	}
	r.raw(to, append(binary.AppendUvarint(nil, uint64(len(body))), body...))
}

func (r *rogue) raw(to peer.ID, frame []byte) {
	r.mu.Lock()
	st := r.out[to]
	r.mu.Unlock()
	_ = st.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = st.Write(frame) // those who hang up are meant to
}

// message is a message of the rogue's, signed if valid is set.
func (r *rogue) message(topic string, data []byte, valid bool) *pb.Message {
	r.mu.Lock()
	r.seqno++
	m := &pb.Message{From: []byte(r.host.ID()), Data: data, Topic: &topic, Seqno: binary.BigEndian.AppendUint64(nil, r.seqno)}
	r.mu.Unlock()
	raw, err := m.Marshal()
	if err != nil {
		r.l.Error(err)
	}
	if m.Signature, err = r.key.Sign(append([]byte(pubsub.SignPrefix), raw...)); err != nil {
		r.l.Error(err)
	}
	if !valid {
		m.Signature[3] ^= 1
	}
	return m
}

// captured are the messages heard so far.
func (r *rogue) captured() []*pb.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*pb.Message{}, r.heard...)
}

// cut reports whether a peer has ended the stream.
func (r *rogue) cut(p peer.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended[p]
}
