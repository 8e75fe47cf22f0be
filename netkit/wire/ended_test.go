package wire

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// endedStream says with its last bytes that they are the last, as QUIC does.
type endedStream struct {
	network.Stream
	in        *bytes.Reader
	out       bytes.Buffer
	reads     int
	closed    bool
	deadlines int
}

func (s *endedStream) Read(p []byte) (int, error) {
	s.reads++
	n, _ := s.in.Read(p)
	return n, io.EOF
}

func (s *endedStream) Write(p []byte) (int, error)                  { return s.out.Write(p) }
func (s *endedStream) Close() error                                 { s.closed = true; return nil }
func (s *endedStream) SetDeadline(time.Time) error                  { s.deadlines++; return nil }
func (s *endedStream) ResetWithError(network.StreamErrorCode) error { return nil }
func (s *endedStream) Scope() network.StreamScope                   { return &network.NullScope{} }
func (s *endedStream) Conn() network.Conn                           { return endedConn{} }

type endedConn struct{ network.Conn }

func (endedConn) RemotePeer() peer.ID { return "peer" }

// TestEndOfStreamIsKnown: a stream whose end came with its last request is
// closed with the reply, and not waited for.
func TestEndOfStreamIsKnown(t *testing.T) {
	st := &endedStream{in: bytes.NewReader(AppendFrame(AppendFrame(nil, []byte("a")), []byte("b")))}
	s := NewService(ServiceConfig{Name: "wire-test"}, echo)
	s.Handle(st)
	if want := AppendFrame(AppendFrame(nil, []byte("a")), []byte("b")); !bytes.Equal(st.out.Bytes(), want) {
		t.Errorf("answered %q, want %q", st.out.Bytes(), want)
	}
	if !st.closed || st.reads != 1 || st.deadlines != 2 {
		t.Errorf("closed %t after %d reads and %d deadlines, want 1 and 2", st.closed, st.reads, st.deadlines)
	}
}

// TestFaultsAreReported counts frames that are too long, cut off, or come
// after many that were right.
func TestFaultsAreReported(t *testing.T) {
	var abused []peer.ID
	s := NewService(ServiceConfig{Name: "wire-test", MaxRequest: 10, Abused: func(p peer.ID) { abused = append(abused, p) }}, echo)
	send := func(frame []byte) { s.Handle(&endedStream{in: bytes.NewReader(frame)}) }
	for range 20 {
		send(AppendFrame(nil, []byte("right")))
	}
	for range freeFaults / 2 {
		send(AppendFrame(nil, make([]byte, 11)))
		send([]byte{5, 1})
	}
	if len(abused) != 0 {
		t.Errorf("%d reports of a peer with %d faults", len(abused), freeFaults)
	}
	send(AppendFrame(nil, make([]byte, 11)))
	if len(abused) != 1 || abused[0] != "peer" {
		t.Errorf("reports %q, want one of the peer", abused)
	}
}
