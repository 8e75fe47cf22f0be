package nat

// Transports are the paths of one family.
type Transports struct {
	UDP Path `json:"udp"`
	TCP Path `json:"tcp"`
}

// Families are the paths of both families.
type Families struct {
	IP4 Transports `json:"ip4"`
	IP6 Transports `json:"ip6"`
}

// Verdict is the situation as far as one path tells: Inconclusive where too little
// is known of it.
func (p Path) Verdict() Verdict {
	is := func(b *bool, want bool) bool { return b != nil && *b == want }
	switch {
	case p.NAT == nil:
		return Inconclusive
	case is(p.NAT, false) && is(p.LetsAnybody, true):
		return Public
	case is(p.NAT, false) && is(p.LetsAnybody, false):
		return Firewalled
	case is(p.NAT, false):
		return Inconclusive
	case is(p.MappingVaries, true):
		return Hard
	case is(p.MappingVaries, false) && is(p.LetsOtherPort, true):
		return Easy
	case is(p.MappingVaries, false) && is(p.LetsOtherPort, false):
		return PortRestricted
	}
	return Inconclusive
}

// Verdict is the situation of the node: that of the family in which UDP does best,
// since a peer that has both uses that one.
func (f Families) Verdict() Verdict {
	is := func(b *bool, want bool) bool { return b != nil && *b == want }
	order := []Verdict{Public, Firewalled, Easy, PortRestricted, Hard}
	for _, v := range order {
		if f.IP4.UDP.Verdict() == v || f.IP6.UDP.Verdict() == v {
			return v
		}
	}
	udp := []*bool{f.IP4.UDP.Works, f.IP6.UDP.Works}
	tcp := []*bool{f.IP4.TCP.Works, f.IP6.TCP.Works}
	var anyUDP, noUDP, anyTCP, noTCP bool
	for i := range udp {
		anyUDP, noUDP = anyUDP || is(udp[i], true), noUDP || is(udp[i], false)
		anyTCP, noTCP = anyTCP || is(tcp[i], true), noTCP || is(tcp[i], false)
	}
	switch {
	case anyUDP, !noUDP && !noTCP:
		return Inconclusive
	case noUDP && anyTCP:
		return UDPBlocked
	case anyTCP:
		return Inconclusive // nobody tried UDP
	default:
		return Offline
	}
}

// ByTCP is f with what TCP tells in the place of UDP: how a node stands that does not use
// UDP.
func (f Families) ByTCP() Families {
	f.IP4.UDP, f.IP6.UDP = f.IP4.TCP, f.IP6.TCP
	return f
}

// After is f with what an earlier look adds: whether the outside addresses stayed the
// same, and whether strangers get in, which shows only before they are written to. Where
// one of the two looks saw no outside address, only what was said of it remains.
func (f Families) After(earlier Families) Families {
	f.IP4.UDP.after(earlier.IP4.UDP)
	f.IP4.TCP.after(earlier.IP4.TCP)
	f.IP6.UDP.after(earlier.IP6.UDP)
	f.IP6.TCP.after(earlier.IP6.TCP)
	return f
}

func (p *Path) after(earlier Path) {
	p.Static = earlier.Static
	if len(p.Observed) == 0 || len(earlier.Observed) == 0 {
		return
	}
	same := p.Observed[0].Addr() == earlier.Observed[0].Addr()
	p.Static = new(same && (earlier.Static == nil || *earlier.Static))
	alike := p.LetsOtherPort != nil && earlier.LetsOtherPort != nil && *p.LetsOtherPort == *earlier.LetsOtherPort
	if same && alike && p.LetsAnybody == nil {
		p.LetsAnybody = earlier.LetsAnybody
		p.judgeFilter()
	}
}

// Or is f with the paths of other in the place of those on which f saw no outside address.
func (f Families) Or(other Families) Families {
	f.IP4.UDP, f.IP4.TCP = f.IP4.UDP.or(other.IP4.UDP), f.IP4.TCP.or(other.IP4.TCP)
	f.IP6.UDP, f.IP6.TCP = f.IP6.UDP.or(other.IP6.UDP), f.IP6.TCP.or(other.IP6.TCP)
	return f
}

func (p Path) or(other Path) Path {
	if len(p.Observed) == 0 {
		return other
	}
	return p
}
