package nat

import (
	"net/netip"
	"slices"
)

// Block is what stands in the way of a direct connection on one side, in one word.
type Block string

// The blocks.
const (
	BlockUDP     Block = "udp-blocked"         // no UDP gets out
	BlockTCP     Block = "tcp-blocked"         // no TCP gets out
	BlockPorts   Block = "port-per-peer"       // each peer is shown another outside port
	BlockRandom  Block = "random-ports"        // outside ports cannot be told in advance
	BlockFilter  Block = "known-ports-only"    // only the ports that were written to get in
	BlockSameNAT Block = "same-nat"            // the other side is behind the same outside address
	BlockUnknown Block = "too-little-known"    // mapping or filtering was not found out
	BlockPattern Block = "pattern-not-known"   // the choice of ports was not found out
	BlockNoPath  Block = "no-common-transport" // nothing that was looked at on both sides
)

// Standing is what counts of a node for a connection with another one.
type Standing struct {
	Families
	// DoubleNAT says that there is another NAT outside the router, where forwarding a
	// port at the router does not help.
	DoubleNAT bool
}

// Outlook is what is to be expected between two nodes that do all they can.
type Outlook struct {
	Direct Direct `json:"direct"`
	// Why is as seen from the first of the two: peer-open is the second one being so.
	Why Why `json:"why"`
	// Family and Transport are those that decide: where a direct connection is
	// possible, else where it comes closest. They are nil where nothing was looked at
	// on both sides.
	Family    *string `json:"family"`
	Transport *string `json:"transport"`
	Sides     []Side  `json:"sides"` // the two, in the order in which they were given
}

// Side is one node of two.
type Side struct {
	// NAT is the kind of NAT on the path that decides, such as EIM/APDF; public and
	// firewalled are no NAT. It is nil where too little is known.
	NAT *string `json:"nat"`
	// Blocks are what stands in the way here; none where a direct connection is to be
	// expected.
	Blocks []Block `json:"blocks"`
	// Change is what would help: each of these alone, on this side alone, makes a
	// direct connection possible or, where too little is known, as of UDP that is
	// blocked, tells more.
	Change []Advice `json:"change"`
}

// lane is one family and transport of both nodes.
type lane struct {
	family, transport string
	a, b              Path
}

// Expect says what is to be expected between two nodes. UDP decides, IPv6 before
// IPv4, where it works on both sides; TCP helps where it allows more than UDP does.
func Expect(a, b Standing) Outlook {
	lanes := []lane{
		{"ip6", "udp", a.IP6.UDP, b.IP6.UDP},
		{"ip4", "udp", a.IP4.UDP, b.IP4.UDP},
		{"ip6", "tcp", a.IP6.TCP, b.IP6.TCP},
		{"ip4", "tcp", a.IP4.TCP, b.IP4.TCP},
	}
	lanes = slices.DeleteFunc(lanes, func(l lane) bool { return l.a.Works == nil || l.b.Works == nil })
	if len(lanes) == 0 {
		return Outlook{Direct: Unknown, Why: WhyTooLittle, Sides: []Side{
			{Blocks: []Block{BlockNoPath}, Change: []Advice{MoreServers}}, {Blocks: []Block{BlockNoPath}, Change: []Advice{MoreServers}},
		}}
	}
	best := slices.MinFunc(lanes, func(x, y lane) int { return x.rank() - y.rank() })
	out := Outlook{Family: &best.family, Transport: &best.transport}
	out.Direct, out.Why = best.expect()
	out.Sides = []Side{best.side(a.DoubleNAT), best.flipped().side(b.DoubleNAT)}
	if out.Direct != Yes && best.transport == "tcp" {
		for i, f := range []Families{a.Families, b.Families} {
			out.Sides[i].withoutUDP(f.of(best.family).UDP)
		}
	}
	return out
}

// of are the paths of a family.
func (f Families) of(family string) Transports {
	if family == "ip6" {
		return f.IP6
	}
	return f.IP4
}

// withoutUDP adds, where TCP is not enough, that there is no UDP, for which there are other
// means. What they come to is not known before it gets out.
func (s *Side) withoutUDP(udp Path) {
	if udp.Works == nil || *udp.Works {
		return
	}
	s.Blocks = append([]Block{BlockUDP}, s.Blocks...)
	s.Change = append([]Advice{AllowUDP}, s.Change...)
}

// rank orders lanes by how much they promise, the best first.
func (l lane) rank() int {
	direct, why := l.expect()
	switch easy := why == WhyOpen || why == WhyPeerOpen; {
	case direct == Yes && easy:
		return 0
	case direct == Yes && why == WhyTogether:
		return 1
	case direct == Yes:
		return 2
	case l.transport == "udp" && direct == Unknown:
		return 3
	case l.transport == "udp" && why != WhyUDPBlocked:
		return 4 // TCP needs what UDP needs, and more
	case direct == Unknown:
		return 5
	case why == WhyTCPBlocked:
		return 8
	case l.transport == "tcp":
		return 6
	}
	return 7
}

func (l lane) flipped() lane {
	l.a, l.b = l.b, l.a
	return l
}

// expect says what is to be expected of the lane.
func (l lane) expect() (Direct, Why) {
	own, ownKnown := l.a.Kind()
	peer, peerKnown := l.b.Kind()
	switch {
	case !*l.a.Works || !*l.b.Works:
		if l.transport == "tcp" {
			return No, WhyTCPBlocked
		}
		return No, WhyUDPBlocked
	case l.sameNAT():
		return Unknown, WhySameNAT
	case peerKnown && peer.opens():
		return Yes, WhyPeerOpen
	case ownKnown && own.opens():
		return Yes, WhyOpen
	case !ownKnown || !peerKnown:
		return Unknown, WhyTooLittle
	}
	return l.between(own, peer)
}

// between is the function Between, for the lane's transport: TCP has neither many nor
// predicted ports, since each attempt takes a socket and a round trip.
func (l lane) between(own, peer Kind) (Direct, Why) {
	direct, why := Between(own, peer)
	if l.transport == "tcp" && !slices.Contains([]Why{WhyOpen, WhyPeerOpen, WhyTogether}, why) {
		return No, WhyTooMany
	}
	return direct, why
}

// sameNAT reports whether both are behind one outside address, and packets to that do
// not come back in as far as is known. Addresses of documentation (RFC 5737, RFC 3849),
// as a report has that was made fit to be shown, tell nothing of the kind.
func (l lane) sameNAT() bool {
	is := func(b *bool) bool { return b != nil && *b }
	if !is(l.a.NAT) || !is(l.b.NAT) || len(l.a.Observed) == 0 || len(l.b.Observed) == 0 {
		return false
	}
	ip := l.a.Observed[0].Addr()
	return ip == l.b.Observed[0].Addr() && !documentation(ip) && (!is(l.a.Hairpin) || !is(l.b.Hairpin))
}

func documentation(ip netip.Addr) bool {
	for _, p := range []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2}), 24),
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8}), 32),
	} {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// side describes the first node of the lane.
func (l lane) side(doubleNAT bool) Side {
	s := Side{Blocks: []Block{}, Change: []Advice{}}
	own, known := l.a.Kind()
	if known {
		s.NAT = new(own.String())
	}
	direct, why := l.expect()
	switch {
	case direct == Yes:
	case why == WhyUDPBlocked || why == WhyTCPBlocked:
		l.blocked(&s)
	case why == WhySameNAT:
		s.Blocks, s.Change = append(s.Blocks, BlockSameNAT), append(s.Change, DialLocal)
	case direct == Unknown:
		l.unknown(&s, own, known)
	default:
		l.no(&s, own, doubleNAT)
	}
	return s
}

func (l lane) blocked(s *Side) {
	switch {
	case *l.a.Works:
	case l.transport == "tcp":
		s.Blocks, s.Change = append(s.Blocks, BlockTCP), append(s.Change, CheckNetwork)
	default:
		s.Blocks, s.Change = append(s.Blocks, BlockUDP), append(s.Change, AllowUDP)
	}
}

// unknown says what was not found out.
func (l lane) unknown(s *Side, own Kind, known bool) {
	unseen := l.a.NAT == nil || l.a.MappingVaries == nil
	switch {
	case !known:
		s.Blocks = append(s.Blocks, BlockUnknown)
	case own.Pattern == "" && !own.opens():
		s.Blocks, s.Change = append(s.Blocks, BlockPattern), append(s.Change, VantageNeeded)
	}
	if !known && unseen {
		s.Change = append(s.Change, MoreServers)
	}
	if !known && l.a.LetsOtherPort == nil {
		s.Change = append(s.Change, VantageNeeded)
	}
}

// no says what is in the way and which changes of this side alone would be enough.
func (l lane) no(s *Side, own Kind, doubleNAT bool) {
	for _, b := range []struct {
		is   bool
		what Block
	}{
		{own.Mapping != EIM, BlockPorts},
		{own.Mapping != EIM && own.Pattern == Random, BlockRandom},
		{own.Filtering == APDF, BlockFilter},
	} {
		if b.is {
			s.Blocks = append(s.Blocks, b.what)
		}
	}
	peer, _ := l.b.Kind() // known, or the answer would be another
	forwarded, steady, open := own, own, own
	forwarded.Mapping, forwarded.Filtering = EIM, EIF
	steady.Mapping = EIM
	open.Filtering = EIF
	for _, c := range []struct {
		applies bool
		to      Kind
		what    Advice
	}{
		{own.NAT && !doubleNAT, forwarded, MapPort},
		{own.Mapping != EIM, steady, StaticPort},
		{!own.NAT, open, OpenPort},
	} {
		if direct, _ := l.between(c.to, peer); c.applies && direct == Yes {
			s.Change = append(s.Change, c.what)
		}
	}
}
