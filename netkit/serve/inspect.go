package serve

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/reach"
	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Why a node cannot tell or do something.
var (
	// ErrNoRelay means that it does not relay now.
	ErrNoRelay = errors.New("this node is no relay")
	// ErrNoRendezvous means that it keeps no registrations for others.
	ErrNoRendezvous = errors.New("this node is no rendezvous point")
)

// Reservations lists those that the node's relay holds; ErrNoRelay without one.
func (s *Server) Reservations() ([]relay.Slot, error) {
	r := s.relaying()
	if r == nil {
		return nil, ErrNoRelay
	}
	return r.Reservations(), nil
}

// Circuits lists those that the node's relay carries; ErrNoRelay without one.
func (s *Server) Circuits() ([]relay.Circuit, error) {
	r := s.relaying()
	if r == nil {
		return nil, ErrNoRelay
	}
	return r.Circuits(), nil
}

// EndCircuit ends one that the node's relay carries, and reports whether there was
// one of this number; ErrNoRelay without a relay.
func (s *Server) EndCircuit(id uint64) (bool, error) {
	r := s.relaying()
	if r == nil {
		return false, ErrNoRelay
	}
	return r.EndCircuit(id, relay.ReasonOperator), nil
}

// Registrations lists at most so many that the node keeps for others, of a namespace
// or of all if ns is empty, the oldest first; ErrNoRendezvous without that role.
func (s *Server) Registrations(ns string, most int) ([]rendezvous.Entry, error) {
	if s.point == nil {
		return nil, ErrNoRendezvous
	}
	return s.point.Registrations(ns, most), nil
}

// Namespaces lists at most so many in which the node keeps registrations for others, the fullest first; ErrNoRendezvous without that role.
func (s *Server) Namespaces(most int) ([]rendezvous.Crowd, error) {
	if s.point == nil {
		return nil, ErrNoRendezvous
	}
	return s.point.Namespaces(most), nil
}

// Kicked is what a peer lost.
type Kicked struct {
	Connections int  `json:"connections"`
	Circuits    int  `json:"circuits"`    // from it and to it, that this node relayed
	Reservation bool `json:"reservation"` // on this node's relay
}

// Kick closes every connection with p, and ends its reservation and its circuits. What
// it has registered stays, and it may come back.
func (s *Server) Kick(p peer.ID) (k Kicked) {
	if r := s.relaying(); r != nil {
		k.Circuits, k.Reservation = r.EndPeer(p, relay.ReasonOperator)
	}
	for _, c := range s.n.Network().ConnsToPeer(p) {
		k.Connections++
		_ = c.CloseWithError(network.ConnGated) // it is gone either way
	}
	return k
}

// relayed is what relays of one node did; nil while it never was one.
type relayed struct{ *relay.Stats }

// with adds what r did.
func (d relayed) with(r *relay.Server) relayed {
	switch {
	case r == nil:
		return d
	case d.Stats == nil:
		return relayed{new(r.Stats())}
	default:
		return relayed{new(d.Plus(r.Stats()))}
	}
}

// Relayed counts what the node relayed since its start, also while it relays no
// more; nil if it never did.
func (s *Server) Relayed() *relay.Stats {
	if s.full == nil {
		return relayed{}.with(s.relay).Stats
	}
	s.full.mu.Lock()
	past, r := s.full.past, s.full.relay
	s.full.mu.Unlock()
	return past.with(r).Stats
}

// DialBacks is how many requests for one the node was sent since its start; nil without that role.
func (s *Server) DialBacks() *uint64 {
	if s.dialback == nil {
		return nil
	}
	return new(s.dialback.Asked())
}

// Where an address of the node comes from.
const (
	Announced = "announced" // given by host.Config.Announce
	Listening = "listening" // of an interface of this machine
	Observed  = "observed"  // seen by peers
	Circuit   = "circuit"   // of a relay that the node has reserved on
)

// Address is one at which others may reach the node.
type Address struct {
	Addr string `json:"addr"`
	Kind string `json:"kind"` // announced, listening, observed or circuit: the first that it is
	// SeenBy is how many connected peers see the node there.
	SeenBy int `json:"seen_by"`
	// Reachability is reachable or unreachable; nil when it is not known, or not
	// asked for.
	Reachability *string `json:"reachability"`
	// ConfirmedBy are the peers whose last word that is.
	ConfirmedBy []peer.ID `json:"confirmed_by"`
	// Asked is how many peers have answered about it.
	Asked int `json:"asked"`
}

// Addresses lists those at which others may reach the node, and what is known of each.
func (s *Server) Addresses() []Address {
	var out []Address
	note := func(kind string, a ma.Multiaddr) *Address {
		i := slices.IndexFunc(out, func(have Address) bool { return have.Addr == a.String() })
		if i < 0 {
			out = append(out, Address{Addr: a.String(), Kind: kind})
			i = len(out) - 1
		}
		return &out[i]
	}
	for _, a := range s.n.Announced() {
		note(Announced, a)
	}
	for _, a := range s.n.ListenAddrs() {
		note(Listening, a)
	}
	seen := make(map[string]map[peer.ID]bool) // one may have several connections
	for _, o := range s.n.Observations() {
		if !s.n.ListensAt(o.Conn.LocalMultiaddr()) {
			continue // nobody listens at the port that this connection left from
		}
		at := note(Observed, o.Addr)
		if seen[at.Addr] == nil {
			seen[at.Addr] = make(map[peer.ID]bool)
		}
		seen[at.Addr][o.Conn.RemotePeer()] = true
		at.SeenBy = len(seen[at.Addr])
	}
	for _, a := range s.n.Circuits() {
		note(Circuit, a)
	}
	if s.full == nil || s.full.reach == nil {
		return out
	}
	for _, a := range s.full.reach.Addresses() {
		at := note(Observed, a.Addr)
		if a.Is != reach.Unknown {
			at.Reachability = new(string(a.Is))
		}
		at.ConfirmedBy, at.Asked = a.By, a.Asked
	}
	return out
}

// Peer is one that is connected.
type Peer struct {
	Peer  peer.ID `json:"peer"`
	Agent *string `json:"agent"` // nil: it has not said
	Conns []Conn  `json:"connections"`
}

// Conn is a connection with a peer.
type Conn struct {
	Addr      string    `json:"addr"`
	Transport string    `json:"transport"`
	Direction string    `json:"direction"` // in or out
	Path      string    `json:"path"`      // direct or relayed
	Limited   bool      `json:"limited"`   // by the relay, in time or bytes
	Streams   int       `json:"streams"`
	Opened    time.Time `json:"opened"`
	AgeMS     float64   `json:"age_ms"`
	// RTTMS is the round-trip time as the connection itself measures it; nil where it does not, or not yet.
	RTTMS *float64 `json:"rtt_ms"`
}

// Peers lists those that are connected, by their ids, with their connections, the
// oldest first.
func (s *Server) Peers() []Peer {
	now := time.Now()
	byID := make(map[peer.ID]*Peer)
	for _, c := range s.n.Network().Conns() {
		p := byID[c.RemotePeer()]
		if p == nil {
			p = &Peer{Peer: c.RemotePeer(), Agent: s.agent(c.RemotePeer())}
			byID[p.Peer] = p
		}
		p.Conns = append(p.Conns, connOf(c, now))
	}
	out := make([]Peer, 0, len(byID))
	for _, p := range byID {
		slices.SortFunc(p.Conns, func(a, b Conn) int { return a.Opened.Compare(b.Opened) })
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b Peer) int { return cmp.Compare(a.Peer, b.Peer) })
	return out
}

func connOf(c network.Conn, now time.Time) Conn {
	at, stat := c.RemoteMultiaddr(), c.Stat()
	out := Conn{
		Addr: at.String(), Transport: addr.Transport(at), Direction: "out", Path: "direct",
		Limited: stat.Limited, Streams: stat.NumStreams, Opened: stat.Opened, AgeMS: float64(now.Sub(stat.Opened)) / float64(time.Millisecond),
	}
	if rtt, known := host.RTT(c); known {
		out.RTTMS = new(float64(rtt) / float64(time.Millisecond))
	}
	if stat.Direction == network.DirInbound {
		out.Direction = "in"
	}
	if addr.IsRelayed(at) {
		out.Path = "relayed"
	}
	return out
}

// agent is what a peer says that it runs; nil when it has not said.
func (s *Server) agent(p peer.ID) *string {
	v, err := s.n.Peerstore().Get(p, "AgentVersion")
	word, ok := v.(string)
	if err != nil || !ok {
		return nil
	}
	return &word
}

// Connections is how many are open; the limits of the host say how many may be.
func (s *Server) Connections() int { return len(s.n.Network().Conns()) }

// RTTs are the round-trip times of at most so many connections, of those that measure them, whichever they are.
func (s *Server) RTTs(most int) []time.Duration {
	var out []time.Duration
	for _, c := range s.n.Network().Conns() {
		if len(out) == most {
			break
		}
		if rtt, known := host.RTT(c); known {
			out = append(out, rtt)
		}
	}
	return out
}

// DiskBytes is how much the databases of the node's roles take on disk, by what they hold; empty where nothing is kept there.
func (s *Server) DiskBytes() map[string]uint64 {
	out := make(map[string]uint64)
	if c := s.cfg.Rendezvous; c != nil {
		if db, ok := c.DB.(interface{ DiskBytes() uint64 }); ok {
			out["registrations"] = db.DiskBytes()
		}
	}
	if c := s.cfg.Route; c != nil && c.DB != nil {
		out["dht"] = c.DB.DiskBytes()
	}
	return out
}
