package relay

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	"github.com/multiformats/go-multistream"
)

const (
	// acceptTimeout bounds how long the destination may take to accept. A stock Go
	// client gives up after 10 s itself.
	acceptTimeout = 15 * time.Second
	// openPatience bounds how long a destination with all its streams in use is
	// waited for. A stream opens at once unless that is so.
	openPatience = time.Second
)

// connect answers a request for a circuit; nil when there is none.
func (s *Server) connect(st network.Stream, msg *pb.HopMessage) *circuit {
	src, from := st.Conn().RemotePeer(), st.Conn().RemoteMultiaddr()
	r := refusal{kind: EventCircuitRefused, peer: src}
	dst, err := util.PeerToPeerInfoV2(msg.GetPeer())
	if err != nil {
		r.why = ReasonMalformed
		s.refuse(st, r)
		return nil
	}
	r.dst = dst.ID
	switch {
	case addr.IsRelayed(from):
		r.why = ReasonRelayed
	case s.cfg.AllowConnect != nil && !s.cfg.AllowConnect(src, from, dst.ID):
		r.why = ReasonDenied
	}
	if r.why != "" {
		s.refuse(st, r)
		return nil
	}
	c, why := s.join(st, dst.ID)
	if why != "" {
		r.why = why
		s.refuse(st, r)
		return nil
	}
	return c
}

// join makes the circuit from st to dst and tells the source, or says why there
// is none.
func (s *Server) join(st network.Stream, dst peer.ID) (*circuit, Reason) {
	src := st.Conn().RemotePeer()
	limits, why := s.admit(src, dst)
	if why != "" {
		return nil, why
	}
	c := &circuit{s: s, limits: limits, asked: time.Now()}
	c.ctx, c.cancel = context.WithCancel(s.ctx)
	if why := c.open(st, dst); why != "" {
		c.abandon(src, dst)
		return nil, why
	}
	return c, ""
}

// admit counts a circuit if there is room for it, and returns what limits it.
func (s *Server) admit(src, dst peer.ID) (Limits, Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if why := s.table.enter(time.Now(), src, dst); why != "" {
		return Limits{}, why
	}
	if s.none == nil {
		s.none = make(chan struct{})
	}
	for _, p := range []peer.ID{src, dst} {
		s.host.ConnManager().TagPeer(p, circuitTag, circuitTagValue)
	}
	return s.table.limits, ""
}

// dismiss takes back an admit.
func (s *Server) dismiss(src, dst peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over(ReasonDraining, s.table.leave(src, dst)...)
	for _, p := range []peer.ID{src, dst} {
		if s.table.perPeer[p] == 0 {
			s.host.ConnManager().UntagPeer(p, circuitTag)
		}
	}
	if s.table.circuits == 0 {
		close(s.none)
		s.none = nil
	}
}

// fillEvenly is how many streams a connection takes before another one of its peer
// is preferred.
const fillEvenly = 8

// reach opens a stream to dst for a protocol, on a direct connection that takes one. The newest comes first as long as it is not much fuller than others:
// a peer whose network or address has changed leaves behind connections on which
// nobody answers, and which last another 30 s.
func (s *Server) reach(ctx context.Context, dst peer.ID, p protocol.ID) (network.Stream, Reason) {
	conns := s.direct(dst)
	stats := make(map[network.Conn]network.ConnStats, len(conns))
	for _, c := range conns {
		stats[c] = c.Stat()
	}
	slices.SortStableFunc(conns, func(a, b network.Conn) int {
		return cmp.Or(stats[a].NumStreams/fillEvenly-stats[b].NumStreams/fillEvenly, stats[b].Opened.Compare(stats[a].Opened))
	})
	why := ReasonUnreachable
	for _, c := range conns {
		st, err := openOn(ctx, c, p, openPatience/time.Duration(len(conns)))
		switch {
		case err == nil:
			return st, ""
		case errors.Is(err, context.DeadlineExceeded):
			why = ReasonStreams
		case errors.Is(err, network.ErrResourceLimitExceeded) && why != ReasonStreams:
			why = ReasonResources
		}
	}
	return nil, why
}

// openOn opens a stream on c, within the patience.
func openOn(ctx context.Context, c network.Conn, p protocol.ID, patience time.Duration) (network.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	st, err := c.NewStream(ctx)
	if err != nil {
		return nil, err
	}
	if err := st.SetProtocol(p); err != nil {
		_ = st.Reset()
		return nil, err
	}
	return st, nil
}

// invite asks the destination at the other end of st to accept a circuit from
// src.
func (s *Server) invite(st network.Stream, src peer.ID, limit *pb.Limit) Reason {
	if err := st.Scope().SetService(ServiceName); err != nil {
		return ReasonResources
	}
	if err := st.Scope().ReserveMemory(maxMessage, network.ReservationPriorityAlways); err != nil {
		return ReasonResources
	}
	defer st.Scope().ReleaseMemory(maxMessage)
	if !s.enterStop(st) {
		return ReasonShutdown
	}
	defer s.leave(st)
	if !accepted(st, &pb.StopMessage{
		Type: pb.StopMessage_CONNECT.Enum(), Peer: util.PeerInfoToPeerV2(peer.AddrInfo{ID: src}), Limit: limit,
	}) {
		return ReasonDestinationRefused
	}
	return ""
}

// enterStop notes a stream that Close has to wake, and gives it the time to be
// accepted; false after Close.
func (s *Server) enterStop(st network.Stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || st.SetDeadline(time.Now().Add(acceptTimeout)) != nil {
		return false
	}
	s.opening[st] = struct{}{}
	return true
}

// accepted negotiates the stop protocol, sends msg along, and reads the answer.
func accepted(st network.Stream, msg *pb.StopMessage) bool {
	// Proposing the protocol and asking in one go saves a round trip.
	lazy := multistream.NewMSSelect(st, proto.ProtoIDv2Stop)
	rd := util.NewDelimitedReader(lazy, maxMessage)
	defer rd.Close()
	err := util.NewDelimitedWriter(lazy).WriteMsg(msg)
	var answer pb.StopMessage
	if err == nil {
		err = rd.ReadMsg(&answer)
	}
	if err != nil {
		_ = st.Reset()
		// The negotiation is read by a goroutine of its own, which this waits for.
		_, _ = lazy.Read(nil)
		return false
	}
	return answer.Type != nil && answer.GetType() == pb.StopMessage_STATUS && answer.GetStatus() == pb.Status_OK
}
