package commands

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"dibber/netkit/rendezvous"
	"dibber/netkit/serve"
)

// limitsDoc are the limits of roles; null where a role is off.
type limitsDoc struct {
	Relay      *relayLimits      `json:"relay"`
	Rendezvous *rendezvousLimits `json:"rendezvous"`
	AutoNAT    *autoNATLimits    `json:"autonat"`
	Peering    *peeringLimits    `json:"peering"`
	Vantage    *vantageLimits    `json:"vantage"`
	Replicate  *replicateLimits  `json:"replicate"`
	Perf       *perfLimits       `json:"perf"`
	Blocks     *blocksLimits     `json:"blocks"`
	DHT        *routeLimits      `json:"dht"`
	Pubsub     *pubsubLimits     `json:"pubsub"`
	Chain      *chainLimits      `json:"chain"`
}

// perfLimits are those of answering who measures.
type perfLimits struct {
	Streams   int     `json:"streams"` // at once
	PerPeer   int     `json:"per_peer"`
	DurationS float64 `json:"duration_s"` // of one way
}

func (l perfLimits) String() string {
	return fmt.Sprintf("perf  %d measurements at once, %d of one peer, %s each", l.Streams, l.PerPeer, durationText(time.Duration(l.DurationS*float64(time.Second))))
}

// replicateLimits are those of keeping a store in step.
type replicateLimits struct {
	Sessions int     `json:"sessions"` // that others may hold at once
	PerPeer  int     `json:"per_peer"`
	EveryS   float64 `json:"every_s"` // between sessions of its own, about
}

type relayLimits struct {
	Reservations          int      `json:"reservations"`
	ReservationsPerIP     int      `json:"reservations_per_ip"`     // IPv4 address
	ReservationsPerPrefix int      `json:"reservations_per_prefix"` // IPv6 prefix
	PrefixLength          int      `json:"prefix_length"`
	ReservationsPerASN    int      `json:"reservations_per_asn"`
	Circuits              int      `json:"circuits"`
	CircuitsPerPeer       int      `json:"circuits_per_peer"`
	DurationMS            *float64 `json:"duration_ms"` // null: unlimited
	Bytes                 *int64   `json:"bytes"`       // each way; null: unlimited
	Rate                  *int64   `json:"rate"`        // bytes a second each way; null: unlimited
}

type rendezvousLimits struct {
	MinTTLs float64 `json:"min_ttl_s"`
	MaxTTLs float64 `json:"max_ttl_s"`
	Total   int     `json:"registrations"`
	PerPeer int     `json:"per_peer"`
	// Of a namespace, and of an IPv4 /24 or IPv6 /56; null: only the total counts.
	PerNamespace *int `json:"per_namespace"`
	PerPrefix    *int `json:"per_prefix"`
	// Refuse are the kinds of addresses that do not count.
	Refuse []string `json:"refuse"`
	// Namespaces are those that may be used, NS* all that begin like NS; null: all.
	Namespaces []string `json:"namespaces"`
}

type autoNATLimits struct {
	PerMinute        int `json:"per_minute"`
	PerPeerPerMinute int `json:"per_peer_per_minute"`
}

type vantageLimits struct {
	PerPrefix int `json:"per_prefix_per_second"` // of an IPv4 /24 or IPv6 /56
	PerPeer   int `json:"per_peer_per_minute"`
}

// siteDoc is one address of a vantage point.
type siteDoc struct {
	IP    string   `json:"ip"`
	UDP   []uint16 `json:"udp"`   // ports that reflect, QUIC's first
	Probe uint16   `json:"probe"` // UDP port that answers for them when asked
	TCP   *uint16  `json:"tcp"`   // null: no TCP there
}

// vantageOf lists the addresses of a vantage point.
func vantageOf(s *serve.Server) []siteDoc {
	var out []siteDoc
	for _, at := range s.Sites() {
		d := siteDoc{IP: at.IP.String(), UDP: at.Ports, Probe: at.Probe}
		if at.TCP != 0 {
			d.TCP = &at.TCP
		}
		out = append(out, d)
	}
	return out
}

// String is one line of the start screen.
func (d siteDoc) String() string {
	s := fmt.Sprintf("%s  udp %s; probes from %d", d.IP, strings.Trim(fmt.Sprint(d.UDP), "[]"), d.Probe)
	if d.TCP != nil {
		s += fmt.Sprintf("; tcp %d", *d.TCP)
	}
	return s
}

// limitsOf puts the limits into the document's units.
func limitsOf(l serve.Limits) limitsDoc {
	var d limitsDoc
	if l.Relay != nil {
		d.Relay = relayLimitsOf(*l.Relay)
	}
	if r := l.Rendezvous; r != nil {
		d.Rendezvous = &rendezvousLimits{r.MinTTL.Seconds(), r.MaxTTL.Seconds(), r.Total, r.PerPeer, positive(r.PerNamespace), positive(r.PerPrefix), refusedKinds(r.RefuseAddrs), r.Namespaces}
	}
	if v := l.Vantage; v != nil {
		d.Vantage = &vantageLimits{v.PerPrefix, v.PerPeer}
	}
	if r := l.Replicate; r != nil {
		d.Replicate = &replicateLimits{r.Sessions, r.PerPeer, r.Every.Seconds()}
	}
	if p := l.Perf; p != nil {
		d.Perf = &perfLimits{p.Streams, p.PerPeer, p.Duration.Seconds()}
	}
	if a := l.AutoNAT; a != nil {
		d.AutoNAT = &autoNATLimits{a.PerMinute, a.PerPeerPerMinute}
	}
	d.Peering, d.DHT = peeringLimitsOf(l.Peering), routeLimitsOf(l.DHT)
	d.Blocks = blocksLimitsOf(l.Blocks)
	d.Pubsub, d.Chain = pubsubLimitsOf(l.Pubsub), chainLimitsOf(l.Chain)
	return d
}

// refusedKinds are the words for a set of kinds of addresses.
func refusedKinds(set rendezvous.AddrKinds) []string {
	var words []string
	for word, kind := range addrKinds() {
		if set&kind != 0 {
			words = append(words, word)
		}
	}
	slices.Sort(words)
	return words
}

// positive is n, or nil where the library means no limit.
func positive[T int | int64](n T) *T {
	if n <= 0 {
		return nil
	}
	return &n
}

// roleText is a role with its limits.
func roleText(role string, l limitsDoc) string {
	switch role {
	case serve.RoleRelay:
		return "relay  " + l.Relay.String()
	case serve.RoleRendezvous:
		return "rendezvous  " + l.Rendezvous.String()
	case serve.RoleAutoNAT:
		return fmt.Sprintf("autonat  v1 and v2, %d dial-backs a minute, %d per peer", l.AutoNAT.PerMinute, l.AutoNAT.PerPeerPerMinute)
	case serve.RolePeering:
		return l.Peering.String()
	case serve.RolePerf:
		return l.Perf.String()
	case serve.RoleBlocks:
		return l.Blocks.String()
	case serve.RoleDHT:
		return l.DHT.String()
	case serve.RolePubsub:
		return l.Pubsub.String()
	case serve.RoleChain:
		return l.Chain.String()
	case serve.RoleReplicate:
		return fmt.Sprintf("replicate  %d sessions at once, %d of one peer", l.Replicate.Sessions, l.Replicate.PerPeer)
	}
	if role == serve.RoleVantage {
		return fmt.Sprintf("vantage  %d datagrams a second from one network, %d requests a minute of one peer", l.Vantage.PerPrefix, l.Vantage.PerPeer)
	}
	return role
}

func (l relayLimits) String() string {
	var each []string
	if l.DurationMS != nil {
		each = append(each, durationText(time.Duration(*l.DurationMS*float64(time.Millisecond))))
	}
	if l.Bytes != nil {
		each = append(each, sizeText(uint64(*l.Bytes))+" each way")
	}
	if l.Rate != nil {
		each = append(each, sizeText(uint64(*l.Rate))+" a second")
	}
	kind := "unlimited circuits"
	if len(each) > 0 {
		kind = "circuits of " + strings.Join(each, " and ")
	}
	return fmt.Sprintf("%d reservations, %d per IPv4 address, %d per IPv6 /%d, %d per autonomous system; %d circuits, %d per peer; %s",
		l.Reservations, l.ReservationsPerIP, l.ReservationsPerPrefix, l.PrefixLength, l.ReservationsPerASN, l.Circuits, l.CircuitsPerPeer, kind)
}

func (l rendezvousLimits) String() string {
	span := func(s float64) string { return durationText(time.Duration(s * float64(time.Second))) }
	text := fmt.Sprintf("%d registrations, %d per peer", l.Total, l.PerPeer)
	if l.PerNamespace != nil {
		text += fmt.Sprintf(", %d per namespace", *l.PerNamespace)
	}
	if l.PerPrefix != nil {
		text += fmt.Sprintf(", %d per network", *l.PerPrefix)
	}
	text += fmt.Sprintf(", for %s to %s", span(l.MinTTLs), span(l.MaxTTLs))
	if len(l.Refuse) > 0 {
		text += "; addresses that do not count: " + strings.Join(l.Refuse, ", ")
	}
	if len(l.Namespaces) > 0 {
		text += "; namespaces: " + strings.Join(l.Namespaces, ", ")
	}
	return text
}
