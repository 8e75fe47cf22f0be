package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"dibber/netkit/rendezvous"
	"dibber/netkit/wire"
)

const (
	fillWorkers    = 64
	fillNamespaces = 1000
)

// fill registers n peers, each with a key and an address of its own, four to a network, through a server's own handler on streams in
// memory: a million connections would take an hour. Everything after the transport is what it is for a real one, signatures
// and database too. They go to ns, or are spread over a thousand namespaces.
func fill(handler network.StreamHandler, n int, ns string) error {
	var next atomic.Int64
	var workers sync.WaitGroup
	errs := make(chan error, fillWorkers)
	for range fillWorkers {
		workers.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if err := fillOne(handler, int(i), ns); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	workers.Wait()
	close(errs)
	return <-errs
}

func fillOne(handler network.StreamHandler, i int, ns string) error {
	if ns == "" {
		ns = namespace(i)
	}
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return err
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return err
	}
	ip := fmt.Sprintf("%d.%d.%d.%d", 1+i>>18&63, i>>10&255, i>>2&255, 1+i&3)
	request, err := registerRequest(key, ns, ip, uint64(time.Now().UnixNano()))
	if err != nil {
		return err
	}
	st := &memoryStream{
		conn: &memoryConn{peer: id, addr: ma.StringCast("/ip4/" + ip + "/udp/4001/quic-v1")},
		in:   bytes.NewReader(wire.AppendFrame(nil, request)),
	}
	handler(st)
	reply, err := wire.NewReader(&st.out, maxFrame).Next()
	if err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	return checkStatus(reply)
}

func namespace(i int) string { return fmt.Sprintf("namespace-%04d", i%fillNamespaces) }

// registerRequest is a REGISTER with a fresh record, standard flavour, one address, for 72 h.
func registerRequest(key crypto.PrivKey, ns, ip string, seq uint64) ([]byte, error) {
	addrs := []ma.Multiaddr{ma.StringCast("/ip4/" + ip + "/udp/4001/quic-v1")}
	envelope, err := rendezvous.SealRecord(key, seq, addrs, rendezvous.Standard)
	if err != nil {
		return nil, err
	}
	return encodeRegister(ns, envelope, 72*3600), nil
}

// memoryStream is a stream that a request waits in.
type memoryStream struct {
	network.Stream
	conn *memoryConn
	in   *bytes.Reader
	out  bytes.Buffer
}

func (s *memoryStream) Read(p []byte) (int, error)                   { return s.in.Read(p) }
func (s *memoryStream) Write(p []byte) (int, error)                  { return s.out.Write(p) }
func (s *memoryStream) Close() error                                 { return nil }
func (s *memoryStream) Reset() error                                 { return io.ErrClosedPipe }
func (s *memoryStream) ResetWithError(network.StreamErrorCode) error { return nil }
func (s *memoryStream) SetDeadline(time.Time) error                  { return nil }
func (s *memoryStream) SetReadDeadline(time.Time) error              { return nil }
func (s *memoryStream) Scope() network.StreamScope                   { return &network.NullScope{} }
func (s *memoryStream) Conn() network.Conn                           { return s.conn }

type memoryConn struct {
	network.Conn
	peer peer.ID
	addr ma.Multiaddr
}

func (c *memoryConn) RemotePeer() peer.ID           { return c.peer }
func (c *memoryConn) RemoteMultiaddr() ma.Multiaddr { return c.addr }
func (c *memoryConn) Stat() network.ConnStats       { return network.ConnStats{} }

func benchAddrs() []ma.Multiaddr {
	return []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.1/udp/4001/quic-v1")}
}
