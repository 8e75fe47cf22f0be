package cockpit

import (
	"slices"
	"strconv"
	"time"

	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/peer"
)

// shown is how many rows a list has at most; how many there are in all is told beside.
const shown = 200

// State is what the page shows, at one moment.
type State struct {
	At       time.Time `json:"at"`
	Redacted bool      `json:"redacted"` // names stand for others, and places are left out
	Node     Node      `json:"node"`
	// Relay and Rendezvous are null for roles that the node has not.
	Relay      *RelayState      `json:"relay"`
	Rendezvous *RendezvousState `json:"rendezvous"`
	Peers      []Peer           `json:"peers"` // the longest connected first
	Refusals   []Refusal        `json:"refusals"`
	Meetings   []Meeting        `json:"meetings"`
	Sample     Sample           `json:"sample"`
}

// Node is who it is.
type Node struct {
	Peer             string    `json:"peer"`
	Version          string    `json:"version"`
	Started          time.Time `json:"started"`
	Roles            []string  `json:"roles"`
	Reachability     string    `json:"reachability"` // public or private; empty: not known
	Draining         bool      `json:"draining"`
	Connections      int       `json:"connections"`
	ConnectionsLimit int       `json:"connections_limit"`
	Peers            int       `json:"peers"`
}

// RelayState is the relay.
type RelayState struct {
	Reservations      int                     `json:"reservations"`
	ReservationsLimit int                     `json:"reservations_limit"`
	Circuits          int                     `json:"circuits"`
	CircuitsLimit     int                     `json:"circuits_limit"`
	Bytes             int64                   `json:"bytes"`
	Refused           map[relay.Reason]uint64 `json:"refused"`
	Closed            map[relay.Reason]uint64 `json:"closed"`
	Held              []Reservation           `json:"held"` // the oldest first
	Open              []Circuit               `json:"open"` // the oldest first
}

// Reservation is one that the relay holds.
type Reservation struct {
	Peer      string    `json:"peer"`
	Addr      string    `json:"addr,omitempty"`
	Transport string    `json:"transport"`
	Expires   time.Time `json:"expires"`
	Circuits  int       `json:"circuits"`
}

// Circuit is one that the relay carries. Rates are in bytes a second, since the last State.
type Circuit struct {
	ID           uint64   `json:"id"`
	From         string   `json:"from"`
	To           string   `json:"to"`
	Transports   string   `json:"transports"`
	Sent         int64    `json:"sent"`
	Received     int64    `json:"received"`
	SentRate     float64  `json:"sent_rate"`
	ReceivedRate float64  `json:"received_rate"`
	AgeMS        float64  `json:"age_ms"`
	LeftMS       *float64 `json:"left_ms"` // null: no limit
}

// RendezvousState is the rendezvous point.
type RendezvousState struct {
	Registrations      int                `json:"registrations"`
	RegistrationsLimit int                `json:"registrations_limit"`
	Peers              int                `json:"peers"`
	Namespaces         int                `json:"namespaces"`
	Refused            map[string]uint64  `json:"refused"`
	Crowds             []rendezvous.Crowd `json:"crowds"`        // the fullest namespaces
	RegistryAway       bool               `json:"registry_away"` // a registry that is shared, and cannot be used
}

// Peer is one that is connected.
type Peer struct {
	Peer      string   `json:"peer"`
	Agent     string   `json:"agent,omitempty"`
	Addr      string   `json:"addr,omitempty"` // of its oldest connection, as are the rest
	Transport string   `json:"transport"`
	Direction string   `json:"direction"`
	Path      string   `json:"path"`
	Conns     int      `json:"connections"`
	Streams   int      `json:"streams"`
	AgeMS     float64  `json:"age_ms"`
	RTTMS     *float64 `json:"rtt_ms"`
}

// Sample is a point of the curves.
type Sample struct {
	At time.Time `json:"at"`
	// Rate is what the relay carried since the sample before, in bytes a second.
	Rate float64 `json:"rate"`
	// RTTMS and RTT90MS are the median and the ninth decile of round-trip times; null without any.
	RTTMS    *float64 `json:"rtt_ms"`
	RTT90MS  *float64 `json:"rtt90_ms"`
	Circuits int      `json:"circuits"`
}

// carried is how much each circuit, and the relay in all, had carried at a time.
type carried struct {
	at    time.Time
	bytes int64
	each  map[uint64][2]int64 // sent and received, by the circuit's number
}

// rates puts the circuits' rates in their rows, of what they had carried before, and returns what they have now.
func (was carried) rates(now time.Time, rows []Circuit) carried {
	next := carried{at: now, each: make(map[uint64][2]int64, len(rows))}
	for i := range rows {
		c := &rows[i]
		next.each[c.ID] = [2]int64{c.Sent, c.Received}
		before, known := was.each[c.ID]
		span := now.Sub(was.at)
		if !known { // it opened meanwhile, or this is the first look
			span = time.Duration(c.AgeMS * float64(time.Millisecond))
		}
		if span > 0 {
			c.SentRate = float64(c.Sent-before[0]) / span.Seconds()
			c.ReceivedRate = float64(c.Received-before[1]) / span.Seconds()
		}
	}
	return next
}

// sample looks at what the curves need, given the sample before.
func (v *view) sample(now time.Time, before *carried) Sample {
	out := Sample{At: now}
	rtts := v.s.RTTs(sampled)
	slices.Sort(rtts)
	if d, ok := quantile(rtts, 0.5); ok {
		out.RTTMS = new(millis(d))
	}
	if d, ok := quantile(rtts, 0.9); ok {
		out.RTT90MS = new(millis(d))
	}
	if stats := v.s.Relayed(); stats != nil {
		if span := now.Sub(before.at); !before.at.IsZero() && span > 0 {
			out.Rate = float64(stats.Bytes-before.bytes) / span.Seconds()
		}
		before.at, before.bytes, out.Circuits = now, stats.Bytes, stats.Circuits
	}
	return out
}

// state looks at everything, but for refusals, meetings and sample.
func (v *view) state(now time.Time) State {
	limits, stats, conns := v.s.Limits(), v.s.Relayed(), v.s.Peers()
	out := State{At: now, Peers: []Peer{}, Node: Node{
		Peer: v.n.ID().String(), Roles: v.s.Roles(), Reachability: string(v.s.Reachability()),
		Connections: v.s.Connections(), ConnectionsLimit: v.n.Limits().Conns, Peers: len(conns),
	}}
	if stats != nil && limits.Relay != nil {
		out.Relay = relayState(v.s, stats, limits.Relay)
	}
	if s := v.s.Stats(); s != nil {
		crowds, _ := v.s.Namespaces(shown) // the role is there
		out.Rendezvous = &RendezvousState{s.Registrations, limits.Rendezvous.Total, s.Peers, s.Namespaces, s.Refusals, crowds, v.registryAway()}
	}
	slices.SortStableFunc(conns, func(a, b serve.Peer) int { return a.Conns[0].Opened.Compare(b.Conns[0].Opened) })
	for _, p := range conns[:min(shown, len(conns))] {
		out.Peers = append(out.Peers, peerRow(p))
	}
	return out
}

func relayState(s *serve.Server, stats *relay.Stats, limits *relay.Limits) *RelayState {
	out := &RelayState{
		Reservations: stats.Reservations, ReservationsLimit: limits.Reservations, Circuits: stats.Circuits, CircuitsLimit: limits.Circuits,
		Bytes: stats.Bytes, Refused: stats.Refused, Closed: stats.Closed, Held: []Reservation{}, Open: []Circuit{},
	}
	held, _ := s.Reservations() // a relay that ended just now has none
	for _, h := range held[:min(shown, len(held))] {
		out.Held = append(out.Held, Reservation{h.Peer.String(), h.Addr, h.Transport, h.Expires, h.Circuits})
	}
	open, _ := s.Circuits()
	for _, c := range open[:min(shown, len(open))] {
		out.Open = append(out.Open, Circuit{
			ID: c.ID, From: c.Source.String(), To: c.Destination.String(), Transports: c.SourceTransport + " → " + c.DestinationTransport,
			Sent: c.Sent, Received: c.Received, AgeMS: c.AgeMS, LeftMS: c.LeftMS,
		})
	}
	return out
}

func peerRow(p serve.Peer) Peer {
	c := p.Conns[0]
	row := Peer{
		Peer: p.Peer.String(), Addr: c.Addr, Transport: c.Transport, Direction: c.Direction, Path: c.Path, Conns: len(p.Conns), AgeMS: c.AgeMS, RTTMS: c.RTTMS,
	}
	for _, c := range p.Conns {
		row.Streams += c.Streams
	}
	if p.Agent != nil {
		row.Agent = *p.Agent
	}
	return row
}

// connected reports whether a peer is.
func (v *view) connected(p peer.ID) bool { return len(v.n.Network().ConnsToPeer(p)) > 0 }

// standIns are what stands for names where they are not to be seen, for one name always the same.
type standIns map[string]string

func (s standIns) of(kind, name string) string {
	if name == "" {
		return ""
	}
	if s[kind+name] == "" {
		s[kind+name] = kind + "-" + strconv.Itoa(len(s)+1)
	}
	return s[kind+name]
}

// redacted is a copy in which nobody and no place can be recognized.
func (st State) redacted(s standIns) State {
	who := func(id string) string { return s.of("peer", id) }
	st.Redacted, st.Node.Peer = true, who(st.Node.Peer)
	st.Peers = each(st.Peers, func(p *Peer) { p.Peer, p.Addr, p.Agent = who(p.Peer), "", "" })
	st.Refusals = each(st.Refusals, func(r *Refusal) { r.Peer, r.Detail = who(r.Peer), "" })
	st.Meetings = each(st.Meetings, func(m *Meeting) { m.From, m.To = who(m.From), who(m.To) })
	if st.Relay != nil {
		r := *st.Relay
		r.Held = each(r.Held, func(h *Reservation) { h.Peer, h.Addr = who(h.Peer), "" })
		r.Open = each(r.Open, func(c *Circuit) { c.From, c.To = who(c.From), who(c.To) })
		st.Relay = &r
	}
	if st.Rendezvous != nil {
		r := *st.Rendezvous
		r.Crowds = each(r.Crowds, func(c *rendezvous.Crowd) { c.Namespace = s.of("namespace", c.Namespace) })
		st.Rendezvous = &r
	}
	return st
}

// each is a copy of a list whose elements were changed.
func each[T any](list []T, change func(*T)) []T {
	out := slices.Clone(list)
	for i := range out {
		change(&out[i])
	}
	return out
}
