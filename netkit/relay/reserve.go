package relay

import (
	"fmt"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
)

// reserve answers a request for a reservation, or for its renewal.
func (s *Server) reserve(st network.Stream) {
	p, from := st.Conn().RemotePeer(), st.Conn().RemoteMultiaddr()
	no := func(why Reason) {
		s.refuse(st, refusal{kind: EventReservationRefused, peer: p, why: why})
	}
	if addr.IsRelayed(from) {
		no(ReasonRelayed)
		return
	}
	if s.cfg.AllowReserve != nil && !s.cfg.AllowReserve(p, from) {
		no(ReasonDenied)
		return
	}
	expires, limits, why := s.grant(p, from)
	if why != "" {
		no(why)
		return
	}
	msg, err := s.reservation(p, expires)
	if err != nil {
		s.release(p, ReasonVoucher)
		no(ReasonVoucher)
		return
	}
	// The client may not get this. It will ask again then, or leave, which ends
	// the reservation.
	s.answer(st, &pb.HopMessage{Status: pb.Status_OK.Enum(), Reservation: msg, Limit: limits.message()})
}

// grant gives p a reservation if there is room, or renews the one it has. It
// returns when that ends and the limits of circuits.
func (s *Server) grant(p peer.ID, from ma.Multiaddr) (time.Time, Limits, Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.direct(p)) == 0 {
		return time.Time{}, Limits{}, ReasonDisconnected // nobody is there to be told
	}
	now := time.Now()
	// Otherwise a slot that is over, but was not ended yet, would be missed.
	s.over(ReasonExpired, s.table.expire(now)...)
	expires, renewed, why := s.table.reserve(now, p, from)
	if why != "" {
		return time.Time{}, Limits{}, why
	}
	e := Event{Kind: EventReservationRenewed, Peer: p, Expires: expires}
	if renewed {
		s.stats.Renewed++
	} else {
		s.stats.Reserved++
		s.host.ConnManager().TagPeer(p, reservationTag, reservationTagValue)
		e.Kind = EventReservationOpened
	}
	s.emit(e)
	s.signal()
	return expires, s.table.limits, ""
}

// signal wakes watch. The caller holds s.mu.
func (s *Server) signal() {
	if len(s.table.slots) != 1 {
		return // it waits for an earlier one
	}
	select {
	case s.wake <- struct{}{}:
	default: // it was woken already
	}
}

// release ends the reservation of p, if it has one.
func (s *Server) release(p peer.ID, why Reason) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.table.drop(p) {
		return false
	}
	s.over(why, p)
	return true
}

// maxAddrs is how many bytes of addresses fit a message, besides the voucher,
// whose parts are below 512 bytes together for keys of any kind.
const maxAddrs = maxMessage - 1024

// reservation is what p is told of its reservation: until when, where it can be
// reached, and a voucher signed by the relay.
func (s *Server) reservation(p peer.ID, expires time.Time) (*pb.Reservation, error) {
	envelope, err := record.Seal(&proto.ReservationVoucher{Relay: s.host.ID(), Peer: p, Expiration: expires}, s.key)
	if err != nil {
		return nil, fmt.Errorf("seal voucher: %w", err)
	}
	voucher, err := envelope.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode voucher: %w", err)
	}
	msg := &pb.Reservation{Expire: new(uint64(expires.Unix())), Voucher: voucher}
	room := maxAddrs
	for _, a := range s.host.Addrs() {
		at, id := peer.SplitAddr(a)
		if at == nil || id != "" && id != s.host.ID() || addr.IsRelayed(at) || s.cfg.AddrFilter != nil && !s.cfg.AddrFilter(at) {
			continue // no way to the relay, or not one to tell
		}
		b := addr.WithPeer(at, s.host.ID()).Bytes()
		if room -= len(b); room < 0 {
			break
		}
		msg.Addrs = append(msg.Addrs, b)
	}
	return msg, nil
}
