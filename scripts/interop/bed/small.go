package bed

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Small is a program written for this bed on another implementation. Its arguments are the IPv4 address to listen on, a verb, and
// what that needs; it says what happened in lines and lives until its input ends:
//
//	IP serve                 a relay, a rendezvous point, or both: "listening ADDR" for each address, then "ready"
//	IP reserve RELAY         keeps a reservation: "reserved PEER SECONDS BYTES", as the relay told it
//	IP dial ADDR             connects and pings: "connected SECONDS BYTES", the circuit's limits, or "failed REASON"; then "punched"
//	                         once there is a direct connection beside a relayed one
//	IP register POINT NS     keeps a registration: "registered PEER"
//	IP discover POINT NS     "found PEER" for each, then "done"
//	IP hear TOPIC            is subscribed: "listening ADDR", then "heard BASE64" for each message
//	IP say ADDR TOPIC BASE64 connects, waits until that peer is subscribed and publishes: "says PEER", its own id
//	IP table                 a server of the hash table of LANPrefix: "listening ADDR", then "joined" when somebody is in its table
//	IP find ADDR PEER        looks for a peer in it, beginning with ADDR: "found PEER ADDRESS"
//
// Limits that there are not, or that the implementation does not tell, are 0.
type Small struct {
	Command []string // program and first arguments; relative to Builder.Dir where one begins with "./"
	Env     []string
	// Transports are those it listens on, as a part of an address: quic-v1, tcp.
	Transports []string
	// ServedLimits are those its relay sets, in seconds and bytes.
	ServedLimits [2]int64
	// IgnoresLimits is set if it does not read those of a reservation.
	IgnoresLimits bool
}

// Start starts it on the address of a host.
func (g Small) Start(ctx context.Context, s *Scene, host int, args ...string) (*Process, error) {
	command := slices.Clone(g.Command)
	for i, part := range command {
		if rest, ours := strings.CutPrefix(part, "./"); ours {
			command[i] = filepath.Join(s.Bin, rest)
		}
	}
	return s.Start(ctx, g.Env, command[0], slices.Concat(command[1:], []string{s.IP(host)}, args)...)
}

// serve starts its server and returns the address of a transport, or of any.
func (g Small) serve(ctx context.Context, s *Scene, transport string) (string, error) {
	p, err := g.Start(ctx, s, 2, "serve")
	if err != nil {
		return "", err
	}
	for {
		addr, err := p.Line(ctx, "listening ")
		if err != nil || strings.Contains(addr, "/"+transport) {
			return addr, err
		}
	}
}

// word starts it for one answer.
func (g Small) word(ctx context.Context, s *Scene, prefix string, args ...string) ([]string, error) {
	p, err := g.Start(ctx, s, 3, args...)
	if err != nil {
		return nil, err
	}
	rest, err := p.Line(ctx, prefix)
	return strings.Fields(rest), err
}

// Basics are the features of any peer.
func (g Small) Basics() []Feature {
	var out []Feature
	for _, transport := range g.Transports {
		out = append(out, Feature{Name: "we dial, identify, ping it: " + transport, Run: func(ctx context.Context, s *Scene) (string, error) {
			addr, err := g.serve(ctx, s, transport)
			if err != nil {
				return "", err
			}
			d, err := s.Reach(ctx, "direct", addr)
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("%s, %d protocols", d.Identify.Agent, len(d.Identify.Protocols)), nil
		}})
	}
	return out
}

// AtOurRelay are the features of a relay client.
func (g Small) AtOurRelay() []Feature {
	return []Feature{
		{Name: "reserves at our relay, is dialled through it", Run: g.reservesAtOurs},
		{Name: "dials through our relay", Run: g.dialsThroughOurs},
		{Name: "is refused by our relay: no reservation", Run: g.refusedByOurs},
	}
}

func (g Small) reservesAtOurs(ctx context.Context, s *Scene) (string, error) {
	relay, err := s.Serve(ctx, 1, "--relay")
	if err != nil {
		return "", err
	}
	said, err := g.word(ctx, s, "reserved ", "reserve", relay.Addrs[0])
	if err != nil {
		return "", err
	}
	if len(said) != 3 || !g.IgnoresLimits && !ourLimits(said[1:]) {
		return "", fmt.Errorf("was told the limits %v, want 120 131072", said)
	}
	d, err := s.Reach(ctx, "relayed", "--relay-only", Circuit(relay.Addrs[0], said[0]))
	if err != nil {
		return "", err
	}
	if g.IgnoresLimits {
		return fmt.Sprintf("%s; we are told %v", d.Identify.Agent, d.Limits), nil
	}
	return fmt.Sprintf("%s; told %s s, %s bytes, as we are", d.Identify.Agent, said[1], said[2]), nil
}

func (g Small) dialsThroughOurs(ctx context.Context, s *Scene) (string, error) {
	relay, err := s.Serve(ctx, 1, "--relay")
	if err != nil {
		return "", err
	}
	node, err := s.Reserved(ctx, 4, relay.Addrs[0])
	if err != nil {
		return "", err
	}
	said, err := g.word(ctx, s, "connected ", "dial", Circuit(relay.Addrs[0], node.Peer))
	if err != nil {
		return "", err
	}
	if !ourLimits(said) {
		return "", fmt.Errorf("was told the limits %v, want 120 131072", said)
	}
	return fmt.Sprintf("pinged; told %s s, %s bytes", said[0], said[1]), nil
}

// ourLimits reports whether seconds and bytes are what a peer may know of our relay's 120 and 131072: of a circuit, some tell what
// is left.
func ourLimits(said []string) bool {
	if len(said) != 2 {
		return false
	}
	seconds, err := strconv.Atoi(said[0])
	bytes, err2 := strconv.Atoi(said[1])
	return err == nil && err2 == nil && seconds > 100 && seconds <= 120 && bytes > 120000 && bytes <= 131072
}

func (g Small) refusedByOurs(ctx context.Context, s *Scene) (string, error) {
	relay, err := s.Serve(ctx, 1, "--relay")
	if err != nil {
		return "", err
	}
	said, err := g.word(ctx, s, "failed ", "dial", Circuit(relay.Addrs[0], Nobody))
	if err != nil {
		return "", err
	}
	var refused struct {
		Status *string `json:"status"`
	}
	if err := relay.Event(ctx, "relay.circuit.refused", &refused); err != nil {
		return "", err
	}
	return SaysNoReservation(errors.New(strings.Join(said, " ")))
}

// SaysNoReservation finds the status in what an implementation says of a dial.
func SaysNoReservation(failed error) (string, error) {
	if failed == nil {
		return "", errors.New("it says that it is connected")
	}
	reason := noReservation.FindString(failed.Error())
	if reason == "" {
		return "", fmt.Errorf("of NO_RESERVATION it says %w", failed)
	}
	return "it says " + reason, nil
}

// noReservation is how implementations call the status.
var noReservation = regexp.MustCompile(`(?i)no_?reservation`)

// Punches are the features of a client that knows DCUtR: in either case the one who was dialled through the relay takes the lead.
func (g Small) Punches() []Feature {
	return []Feature{
		{Name: "punches through to us from our relay", Public: true, Run: g.punches},
		{Name: "we punch through to it from our relay", Public: true, Run: g.isPunched},
	}
}

func (g Small) punches(ctx context.Context, s *Scene) (string, error) {
	relay, err := s.Serve(ctx, 1, "--relay")
	if err != nil {
		return "", err
	}
	said, err := g.word(ctx, s, "reserved ", "reserve", relay.Addrs[0])
	if err != nil {
		return "", err
	}
	return s.PunchedThrough(ctx, Circuit(relay.Addrs[0], said[0]))
}

func (g Small) isPunched(ctx context.Context, s *Scene) (string, error) {
	relay, err := s.Serve(ctx, 1, "--relay")
	if err != nil {
		return "", err
	}
	node, err := s.Reserved(ctx, 4, relay.Addrs[0])
	if err != nil {
		return "", err
	}
	_, err = g.word(ctx, s, "punched", "dial", Circuit(relay.Addrs[0], node.Peer))
	return "it has a direct connection", err
}

// PunchedThrough dials a circuit and waits until there is a direct path.
func (s *Scene) PunchedThrough(ctx context.Context, circuit string) (string, error) {
	d, err := s.Dial(ctx, "--until-direct", "--timeout", "20s", circuit)
	if err != nil {
		return "", err
	}
	if !d.OK || d.Upgrade == nil || !d.Upgrade.OK || d.path() != "punched" {
		return "", fmt.Errorf("dibber dial: path %s, %+v", d.path(), d.Error)
	}
	return fmt.Sprintf("direct after %.0f ms", *d.Upgrade.MS), nil
}

// TheirRelay are the features of a relay.
func (g Small) TheirRelay() []Feature {
	return []Feature{
		{Name: "we reserve at its relay, are dialled through it", Run: g.weReserve},
		{Name: "its relay refuses us: no reservation", Run: g.weAreRefused},
	}
}

func (g Small) weReserve(ctx context.Context, s *Scene) (string, error) {
	relay, err := g.serve(ctx, s, "")
	if err != nil {
		return "", err
	}
	return s.MeetThrough(ctx, relay, fmt.Sprintf("%d s, %d bytes", g.ServedLimits[0], g.ServedLimits[1]))
}

func (g Small) weAreRefused(ctx context.Context, s *Scene) (string, error) {
	relay, err := g.serve(ctx, s, "")
	if err != nil {
		return "", err
	}
	return s.RefusedBy(ctx, relay)
}

// Nobody has no reservation anywhere.
const Nobody = "12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm"

// Circuit is the address of a peer through a relay.
func Circuit(relay, peer string) string { return relay + "/p2p-circuit/p2p/" + peer }

// Reserved starts a node of ours with a reservation on a relay.
func (s *Scene) Reserved(ctx context.Context, host int, relay string) (*Node, error) {
	n, err := s.Serve(ctx, host, "--use-relay", relay)
	if err != nil {
		return nil, err
	}
	return n, n.Event(ctx, "reservation.reserved", &struct{}{})
}

// MeetThrough has a node of ours reserve at a relay and another reach it there; both must be told the limits.
func (s *Scene) MeetThrough(ctx context.Context, relay, limits string) (string, error) {
	n, err := s.Serve(ctx, 4, "--use-relay", relay)
	if err != nil {
		return "", err
	}
	var r Reservation
	if err := n.Event(ctx, "reservation.reserved", &r); err != nil {
		return "", err
	}
	if got := r.limits().String(); got != limits || len(r.Circuits) == 0 {
		return "", fmt.Errorf("our reservation: %s at %v, want %s", got, r.Circuits, limits)
	}
	d, err := s.Reach(ctx, "relayed", "--relay-only", Circuit(relay, n.Peer))
	if err != nil {
		return "", err
	}
	if d.Limits == nil || d.Limits.String() != limits {
		return "", fmt.Errorf("our circuit: %v, want %s", d.Limits, limits)
	}
	return limits + ", " + strconv.Itoa(d.Ping.Received) + " pings", nil
}

// RefusedBy dials a peer that has no reservation at a relay, and reads its refusal.
func (s *Scene) RefusedBy(ctx context.Context, relay string) (string, error) {
	d, err := s.Dial(ctx, "--relay-only", Circuit(relay, Nobody))
	if err != nil {
		return "", err
	}
	if d.OK || d.Error == nil || d.Error.Code != "no_reservation" {
		return "", fmt.Errorf("dibber dial: %+v", d.Error)
	}
	return d.Error.Code, nil
}
