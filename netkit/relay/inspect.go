package relay

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Slot is a reservation that a [Server] holds.
type Slot struct {
	Peer peer.ID `json:"peer"`
	// Addr is where the peer was connected from when it last reserved, Transport
	// the word for how.
	Addr      string    `json:"addr"`
	Transport string    `json:"transport"`
	Opened    time.Time `json:"opened"`
	Renewed   time.Time `json:"renewed"` // Opened, if it never was
	Expires   time.Time `json:"expires"`
	// Circuits is how many the peer is an end of.
	Circuits int `json:"circuits"`
}

// Reservations lists those that stand now, oldest first.
func (s *Server) Reservations() []Slot {
	held := s.held()
	out := make([]Slot, len(held))
	for i, h := range held {
		out[i] = Slot{
			Peer: h.peer, Addr: h.from.String(), Transport: addr.Transport(h.from),
			Opened: h.opened, Renewed: h.renewed, Expires: h.expires, Circuits: h.circuits,
		}
	}
	slices.SortFunc(out, func(a, b Slot) int { return a.Opened.Compare(b.Opened) })
	return out
}

// heldSlot is a reservation as it stands at one moment.
type heldSlot struct {
	slot
	circuits int
}

// held copies what the table has, so that nobody waits while it is written out.
func (s *Server) held() []heldSlot {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]heldSlot, 0, len(s.table.slots))
	for p, held := range s.table.slots {
		out = append(out, heldSlot{*held, s.table.perPeer[p]})
	}
	return out
}

// Circuit is what a [Server] knows of a circuit that is open.
type Circuit struct {
	ID          uint64  `json:"id"`
	Source      peer.ID `json:"source"`
	Destination peer.ID `json:"destination"`
	// The addresses at which the relay sees the two, and the words for the
	// transports to them.
	SourceAddr           string `json:"source_addr"`
	DestinationAddr      string `json:"destination_addr"`
	SourceTransport      string `json:"source_transport"`
	DestinationTransport string `json:"destination_transport"`

	Opened time.Time `json:"opened"`
	AgeMS  float64   `json:"age_ms"`
	// Sent is what was carried from source to destination, Received what came
	// back, in bytes.
	Sent     int64 `json:"sent"`
	Received int64 `json:"received"`
	// What is left of the limits that were in force when it opened; nil is no
	// limit.
	LeftMS       *float64 `json:"left_ms"`
	SentLeft     *int64   `json:"sent_left"`
	ReceivedLeft *int64   `json:"received_left"`
}

// open returns the circuits that are open now.
func (s *Server) open() []*circuit {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*circuit, 0, len(s.circuits))
	for _, c := range s.circuits {
		out = append(out, c)
	}
	return out
}

// Circuits lists those that are open now, oldest first.
func (s *Server) Circuits() []Circuit {
	now := time.Now()
	open := s.open()
	out := make([]Circuit, len(open))
	for i, c := range open {
		out[i] = c.snapshot(now)
	}
	slices.SortFunc(out, func(a, b Circuit) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

func (c *circuit) snapshot(now time.Time) Circuit {
	src, dst := c.there.from.Conn().RemoteMultiaddr(), c.there.to.Conn().RemoteMultiaddr()
	out := Circuit{
		ID: c.id, Source: c.source(), Destination: c.destination(),
		SourceAddr: src.String(), DestinationAddr: dst.String(),
		SourceTransport: addr.Transport(src), DestinationTransport: addr.Transport(dst),
		Opened: c.opened, AgeMS: millis(now.Sub(c.opened)),
		Sent: c.there.moved.Load(), Received: c.back.moved.Load(),
	}
	if !c.deadline.IsZero() {
		out.LeftMS = new(max(millis(c.deadline.Sub(now)), 0))
	}
	if c.limits.Bytes >= 0 {
		out.SentLeft, out.ReceivedLeft = new(c.limits.Bytes-out.Sent), new(c.limits.Bytes-out.Received)
	}
	return out
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// EndCircuit ends a circuit and tells why, in the word given; false when no
// circuit has this number.
func (s *Server) EndCircuit(id uint64, why Reason) bool {
	s.mu.Lock()
	c, ok := s.circuits[id]
	s.mu.Unlock()
	if ok {
		c.end(why)
	}
	return ok
}

// EndPeer ends the reservation of p and every circuit from it or to it, and tells
// why, in the word given. It returns how many circuits those were. The peer can
// come back unless Config.AllowReserve and Config.AllowConnect deny it.
func (s *Server) EndPeer(p peer.ID, why Reason) (circuits int, reservation bool) {
	reservation = s.release(p, why)
	for _, c := range s.open() {
		if c.source() == p || c.destination() == p {
			c.end(why)
			circuits++
		}
	}
	return circuits, reservation
}

// Stats counts what the relay did and does.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	out.Reservations, out.Circuits = len(s.table.slots), s.table.circuits
	out.Refused, out.Closed = maps.Clone(s.stats.Refused), maps.Clone(s.stats.Closed)
	for _, c := range s.circuits {
		out.Bytes += c.there.moved.Load() + c.back.moved.Load()
	}
	return out
}

// Plus adds what another relay of the same node counted.
func (s Stats) Plus(other Stats) Stats {
	s.Reservations += other.Reservations
	s.Circuits += other.Circuits
	s.Reserved += other.Reserved
	s.Renewed += other.Renewed
	s.Opened += other.Opened
	s.Offers += other.Offers
	s.Bytes += other.Bytes
	s.Refused, s.Closed = sum(s.Refused, other.Refused), sum(s.Closed, other.Closed)
	return s
}

// sum adds counters by their reason.
func sum(a, b map[Reason]uint64) map[Reason]uint64 {
	out := make(map[Reason]uint64, len(a)+len(b))
	for _, counts := range []map[Reason]uint64{a, b} {
		for why, n := range counts {
			out[why] += n
		}
	}
	return out
}

// Stats counts what a [Server] did and does.
type Stats struct {
	// Reservations and Circuits are those that stand now; circuits that are being
	// opened count.
	Reservations int `json:"reservations"`
	Circuits     int `json:"circuits"`
	// Reserved, Renewed and Opened count, since the start, new reservations,
	// renewals and circuits.
	Reserved uint64 `json:"reserved"`
	Renewed  uint64 `json:"renewed"`
	Opened   uint64 `json:"opened"`
	// Offers counts messages about how to connect that were carried and answered.
	Offers uint64 `json:"offers"`
	// Bytes is how much was carried since the start, both ways together.
	Bytes int64 `json:"bytes"`
	// Refused counts refusals by their reason, since the start.
	Refused map[Reason]uint64 `json:"refused"`
	// Closed counts circuits that ended by their reason, since the start.
	Closed map[Reason]uint64 `json:"closed"`
}
