package relay

import (
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
)

const (
	// maxMessage is the largest message in bytes that is read, and the largest
	// that stock clients read.
	maxMessage = 4096
	// requestTimeout bounds how long a request may take to arrive, and an answer
	// to be taken.
	requestTimeout = 10 * time.Second
)

// handle serves one stream of the hop protocol: a request, and if it asks for a
// circuit and gets it, all that this carries.
func (s *Server) handle(st network.Stream) {
	if !s.enter(st) {
		_ = st.ResetWithError(network.StreamShutdown)
		return
	}
	defer s.running.Done()
	c := s.serve(st)
	s.leave(st)
	if c != nil {
		c.run()
	}
}

// enter notes a stream that Close has to wake; false after Close.
func (s *Server) enter(st network.Stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.running.Add(1)
	s.opening[st] = struct{}{}
	return true
}

func (s *Server) leave(st network.Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.opening, st)
}

// serve answers the request on st and returns the circuit that it opened, if it
// did; otherwise st is closed or reset.
func (s *Server) serve(st network.Stream) *circuit {
	from := st.Conn().RemotePeer()
	if !s.rate.Allow(from, time.Now()) {
		// Before anything is read or reserved.
		s.refuse(st, refusal{peer: from, kind: EventRefused, why: ReasonRate})
		return nil
	}
	if err := st.Scope().SetService(ServiceName); err != nil {
		s.refuse(st, refusal{peer: from, kind: EventRefused, why: ReasonResources})
		return nil
	}
	if err := st.Scope().ReserveMemory(maxMessage, network.ReservationPriorityAlways); err != nil {
		s.refuse(st, refusal{peer: from, kind: EventRefused, why: ReasonResources})
		return nil
	}
	defer st.Scope().ReleaseMemory(maxMessage)
	msg, why := s.read(st)
	if why != "" {
		s.refuse(st, refusal{peer: from, kind: EventRefused, why: why})
		return nil
	}
	if msg.GetType() == pb.HopMessage_RESERVE {
		s.reserve(st)
		return nil
	}
	return s.connect(st, msg)
}

// read reads the request on st.
func (s *Server) read(st network.Stream) (*pb.HopMessage, Reason) {
	if !s.arm(st) {
		return nil, ReasonMalformed
	}
	rd := util.NewDelimitedReader(st, maxMessage)
	defer rd.Close()
	var msg pb.HopMessage
	if err := rd.ReadMsg(&msg); err != nil || msg.Type == nil {
		return nil, ReasonMalformed
	}
	switch msg.GetType() {
	case pb.HopMessage_RESERVE, pb.HopMessage_CONNECT:
		return &msg, ""
	default:
		return nil, ReasonUnexpected
	}
}

// arm gives st the time for the next step; false after Close, whose deadline it
// would undo.
func (s *Server) arm(st network.Stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closed && st.SetDeadline(time.Now().Add(requestTimeout)) == nil
}

// refusal is a request that is not granted.
type refusal struct {
	kind EventKind
	peer peer.ID // who asked
	dst  peer.ID // of a circuit
	why  Reason
}

// request is the type of what was refused.
func (r refusal) request() pb.HopMessage_Type {
	switch r.kind {
	case EventReservationRefused:
		return pb.HopMessage_RESERVE
	case EventCircuitRefused:
		return pb.HopMessage_CONNECT
	default:
		return pb.HopMessage_STATUS // not known
	}
}

// refuse answers a request with a status, closes its stream and tells why. After
// Close the reason would be a wrong one, and nobody is left to be told.
func (s *Server) refuse(st network.Stream, r refusal) {
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.stats.Refused[r.why]++
	}
	s.mu.Unlock()
	if closed {
		_ = st.ResetWithError(network.StreamShutdown)
		return
	}
	status := r.why.status(r.request())
	s.answer(st, &pb.HopMessage{Status: status.Enum()})
	s.emit(Event{Kind: r.kind, Peer: r.peer, Destination: r.dst, Reason: r.why, Status: status})
}

// answer sends a status, the last message on st, and closes st.
func (s *Server) answer(st network.Stream, msg *pb.HopMessage) {
	if err := s.respond(st, msg); err != nil {
		_ = st.Reset()
		return
	}
	_ = st.Close()
}

// respond sends a status and leaves st open.
func (s *Server) respond(st network.Stream, msg *pb.HopMessage) error {
	if !s.arm(st) {
		return network.ErrReset
	}
	msg.Type = pb.HopMessage_STATUS.Enum()
	return util.NewDelimitedWriter(st).WriteMsg(msg)
}
