package commands

import (
	"fmt"

	"dibber/netkit/reach"
	"dibber/netkit/relay"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
)

// fullOptions are the flags of a node that takes roles by itself.
type fullOptions struct {
	Public, Private    bool
	NoRelay, NoReserve bool
	FindRelays         bool
}

func fullFlags(o *fullOptions) []cli.Flag {
	boolean := func(name, usage string, dest *bool) cli.Flag {
		return &cli.BoolFlag{Name: name, Usage: usage, Destination: dest}
	}
	return []cli.Flag{
		boolean("public-node", "others reach this node: relay at once and do not find out", &o.Public),
		boolean("private-node", "others do not reach this node: reserve on known relays at once and do not find out", &o.Private),
		boolean("no-relay-when-public", "do not relay for others when confirmed public", &o.NoRelay),
		boolean("no-reserve-when-private", "do not reserve on relays when confirmed private", &o.NoReserve),
		boolean("find-relays", "when private, reserve on relays found in the network of --dht near this node's key", &o.FindRelays),
	}
}

// isFull reports whether the node takes roles by itself: it was given none for
// others, and may learn and tell.
func (o *serveOptions) isFull() bool {
	return !o.Relay && !o.Rendezvous && !o.AutoNAT && !o.Host.NoDiscovery && !o.Chain.on()
}

// full is the configuration of what the node takes by itself; nil for a node that
// does not.
func (o *serveOptions) full() *serve.Full {
	if !o.isFull() {
		return nil
	}
	f := &serve.Full{NoRelay: o.Full.NoRelay, NoReserve: o.Full.NoReserve || o.Host.RelayOnly, FindRelays: o.Full.FindRelays}
	switch {
	case o.Full.Public:
		f.Fixed = reach.Public
	case o.Full.Private, o.Host.hidden() != "": // a hidden node is reached by what it announces and by relays
		f.Fixed = reach.Private
	}
	return f
}

// validateFull refuses flags that exclude each other or would do nothing.
func (o *serveOptions) validateFull() error {
	f := o.Full
	for _, flag := range []struct {
		name string
		on   bool
	}{
		{"--public-node", f.Public},
		{"--private-node", f.Private},
		{"--no-relay-when-public", f.NoRelay},
		{"--no-reserve-when-private", f.NoReserve},
		{"--find-relays", f.FindRelays},
	} {
		switch {
		case !flag.on:
		case o.Host.NoDiscovery:
			return usagef("%s and --no-discovery exclude each other: with a table of peers no role is taken unless it is named", flag.name)
		case !o.isFull():
			return usagef("%s is for a node without --relay, --rendezvous and --autonat, which decides by itself", flag.name)
		}
	}
	switch {
	case f.Public && f.Private:
		return usagef("--public-node and --private-node exclude each other")
	case f.Public && f.NoReserve:
		return usagef("--no-reserve-when-private does nothing with --public-node")
	case f.FindRelays && (f.Public || f.NoReserve):
		return usagef("--find-relays is for a node that reserves when private: it excludes --public-node and --no-reserve-when-private")
	case f.FindRelays && !o.DHT.On:
		return usagef("--find-relays needs --dht")
	case f.Private && f.NoRelay:
		return usagef("--no-relay-when-public does nothing with --private-node")
	}
	return nil
}

// pendingRole is a role that the node will take by itself.
type pendingRole struct {
	Role   string       `json:"role"`
	When   string       `json:"when"`   // what the node must be confirmed to be: public or private
	Limits *relayLimits `json:"limits"` // of the relay; null for other roles
	Relays *int         `json:"relays"` // to reserve on; null for other roles

	found bool // in the network of the hash table
}

// pending lists what a full node does not do yet.
func (o *serveOptions) pending() []pendingRole {
	if !o.isFull() || o.Full.Public || o.Full.Private || o.Host.hidden() != "" {
		return nil
	}
	var out []pendingRole
	if !o.Full.NoRelay {
		l, err := serve.FullRelayLimits().WithDefaults()
		if err == nil { // only an impossible IPv6 prefix is refused
			out = append(out, pendingRole{Role: serve.RoleRelay, When: string(reach.Public), Limits: relayLimitsOf(l)})
		}
	}
	if more := o.moreRelays(); more > 0 {
		out = append(out, pendingRole{Role: serve.RoleRelayed, When: string(reach.Private), Relays: &more, found: o.Full.FindRelays})
	}
	return out
}

// moreRelays is on how many relays the node reserves by itself while private.
func (o *serveOptions) moreRelays() int {
	if !o.isFull() || o.Full.Public || o.Full.NoReserve || o.Host.RelayOnly {
		return 0
	}
	return max(0, serve.FullReservations-len(unique(o.UseRelays)))
}

func (p pendingRole) String() string {
	s := fmt.Sprintf("%s  when confirmed %s", p.Role, p.When)
	if p.Limits != nil {
		s += ": " + p.Limits.String()
	}
	if p.Relays != nil && p.found {
		s += fmt.Sprintf(": %d relays found by the hash table", *p.Relays)
	} else if p.Relays != nil {
		s += fmt.Sprintf(": at most %d of the relays among the peers", *p.Relays)
	}
	return s
}

// fullReveals says who learns what from the roles that a full node takes.
func (o *serveOptions) fullReveals() []string {
	if !o.isFull() {
		return nil
	}
	var out []string
	if !o.Full.Public && !o.Full.Private && o.Host.hidden() == "" {
		out = append(out, "connected peers that answer AutoNAT: this node's public addresses, which they dial")
	}
	if o.moreRelays() > 0 {
		where := "among the peers"
		if o.Full.FindRelays {
			where = "found by the hash table"
		}
		out = append(out, "once private, relays "+where+": this node's IP address; those who dial through them: the relay's address, then this node's when they punch")
	}
	return out
}

// stateWord is what is known of the node; nil when nothing is.
func stateWord(s reach.State) *string {
	if s != reach.Public && s != reach.Private {
		return nil
	}
	return new(string(s))
}

// fullEvents are the lines of --ndjson of a node that takes roles by itself.
func fullEvents() []event {
	list := []event{{"reachability.changed", reachabilityLine{}}}
	for _, v := range []reach.Verdict{reach.Reachable, reach.Unreachable, reach.Unknown} {
		list = append(list, event{"address." + string(v), addressLine{}})
	}
	for _, kind := range []string{"started", "stopped", "failed"} {
		list = append(list, event{"role." + kind, roleLine{}})
	}
	return list
}

// tellFull turns what such a node tells into an event.
func tellFull(out *output, e serve.Event) {
	switch {
	case e.Address != nil:
		out.event("address."+string(e.Address.Is), addressOf(*e.Address))
	case e.State != nil:
		l := reachabilityLine{Reachability: stateWord(e.State.Is), Was: stateWord(e.State.Was), Cause: string(e.State.Cause)}
		if e.State.Addr != nil {
			l.Addr = new(e.State.Addr.String())
		}
		out.event("reachability.changed", l)
	case e.Role != nil:
		l := roleLine{Role: e.Role.Role, Cause: string(e.Role.Cause), Error: errorText(e.Role.Err), kind: e.Role.Kind}
		if e.Role.Limits != nil {
			l.Limits = relayLimitsOf(*e.Role.Limits)
		}
		out.event("role."+e.Role.Kind, l)
	}
}

// addressLine is a change of what is known of one address.
type addressLine struct {
	Addr  string    `json:"addr"`
	Was   *string   `json:"was"`   // reachable or unreachable; null: nothing was known
	By    []peer.ID `json:"by"`    // the servers whose last word it is
	Asked int       `json:"asked"` // how many have answered
	// Cause is answers, or gone when the address is none of this node's any more.
	Cause string `json:"cause"`

	verdict reach.Verdict
}

func addressOf(e reach.AddressEvent) addressLine {
	l := addressLine{Addr: e.Addr.String(), By: e.By, Asked: e.Asked, Cause: string(e.Cause), verdict: e.Is}
	if e.Was != reach.Unknown {
		l.Was = new(string(e.Was))
	}
	return l
}

func (l addressLine) line() string {
	if l.verdict == reach.Unknown {
		return fmt.Sprintf("address %s  %s: %s", l.verdict, l.Addr, l.Cause)
	}
	return fmt.Sprintf("address %s  %s: %d of %d say so", l.verdict, l.Addr, len(l.By), l.Asked)
}

// reachabilityLine is a change of what is known of the node.
type reachabilityLine struct {
	Reachability *string `json:"reachability"` // public or private; null: nothing is known
	Was          *string `json:"was"`
	Addr         *string `json:"addr"` // that is reachable; null unless that is the cause
	// Cause is address-reachable, no-address-reachable, nothing-known, or autonat-v1
	// where nobody speaks of addresses.
	Cause string `json:"cause"`
}

func (l reachabilityLine) line() string {
	s := fmt.Sprintf("reachability %s  was %s: %s", wordOr(l.Reachability), wordOr(l.Was), l.Cause)
	if l.Addr != nil {
		s += " " + *l.Addr
	}
	return s
}

// wordOr is a word, or what stands for none.
func wordOr(w *string) string {
	if w == nil {
		return "unknown"
	}
	return *w
}

// roleLine is a role that the node has taken or given up by itself.
type roleLine struct {
	Role   string       `json:"role"`
	Cause  string       `json:"cause"`  // what the node is: public or private
	Limits *relayLimits `json:"limits"` // of a relay that started
	Error  *string      `json:"error"`

	kind string
}

func (l roleLine) line() string {
	s := fmt.Sprintf("role %s  %s: this node is %s", l.kind, l.Role, l.Cause)
	if l.Limits != nil {
		s += "; " + l.Limits.String()
	}
	if l.Error != nil {
		s += ": " + *l.Error
	}
	return s
}

// relayLimitsOf puts a relay's limits into the document's units.
func relayLimitsOf(r relay.Limits) *relayLimits {
	d := &relayLimits{
		Reservations: r.Reservations, ReservationsPerIP: r.ReservationsPerIP, ReservationsPerPrefix: r.ReservationsPerPrefix,
		PrefixLength: r.PrefixLength, ReservationsPerASN: r.ReservationsPerASN,
		Circuits: r.Circuits, CircuitsPerPeer: r.CircuitsPerPeer, Bytes: positive(r.Bytes), Rate: positive(r.Rate),
	}
	if r.Duration > 0 {
		d.DurationMS = new(millis(r.Duration))
	}
	return d
}
