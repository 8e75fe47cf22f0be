package nat

import (
	"net/netip"
	"slices"
)

// Sight is one look at a socket from outside.
type Sight struct {
	// Server is who says so.
	Server string
	// Local is the socket; its address may be unspecified.
	Local netip.AddrPort
	// Remote is where at the server the look was taken.
	Remote netip.AddrPort
	// Observed is where the packets came from.
	Observed netip.AddrPort
}

// Trial is one attempt to get in from an endpoint that was not written to.
type Trial struct {
	// Server is who was asked to try.
	Server string
	// Known means that another port of the endpoint's address was written to; if
	// not, nothing was ever sent to that address.
	Known bool
	// Came means that it got in.
	Came bool
	// Sure means that it would have been noticed: the server says that it tried often
	// enough, and its address was reached afterwards.
	Sure bool
}

// Evidence is what was found out about one transport of one family.
type Evidence struct {
	// Own are the machine's addresses.
	Own []netip.Addr
	// Works says whether packets go out and answers come in; nil if nobody tried.
	Works *bool
	// Sights are of the node's own port.
	Sights []Sight
	// Samples are of ports opened to see how outside ports are chosen, in the order
	// of opening.
	Samples []Sight
	// Trials are attempts to get in to the node's own port.
	Trials []Trial
	// Hairpin says whether what was sent to the outside address came back in; nil if
	// that is not known.
	Hairpin *bool
	// Lifetime is what was found out about unused mappings; nil if nothing was.
	Lifetime *Lifetime
}

// Lifetime bounds how long a mapping lives that nothing is sent through, in seconds. A
// bound that was not found is nil.
type Lifetime struct {
	AtLeastS  *float64 `json:"at_least_s"`
	LessThanS *float64 `json:"less_than_s"`
}

// Path is what is known of one transport of one family.
type Path struct {
	Works *bool `json:"works"`
	// NAT says whether addresses are translated.
	NAT       *bool      `json:"nat"`
	Mapping   *Mapping   `json:"mapping"`
	Filtering *Filtering `json:"filtering"`
	// Observed are the outside endpoints of the node's own port, that of most
	// servers first.
	Observed      []netip.AddrPort `json:"observed"`
	PortPreserved *bool            `json:"port_preserved"`
	PortPattern   *Pattern         `json:"port_pattern"`
	Hairpin       *bool            `json:"hairpin"`
	// MappingVaries says whether the mapping is ADM or APDM, which may be known
	// where it is not known which of the two.
	MappingVaries *bool `json:"mapping_varies"`
	// LetsOtherPort says whether another port of a known address gets in: EIF or
	// ADF. LetsAnybody says whether an unknown address does: EIF.
	LetsOtherPort *bool `json:"lets_other_port"`
	LetsAnybody   *bool `json:"lets_anybody"`
	// Lifetime is how long an unused mapping lives; nil if that was not asked for, or is
	// not known.
	Lifetime *Lifetime `json:"mapping_lifetime"`
	// Static says whether the outside address was the same at every look; nil at one.
	Static *bool `json:"static"`
	// Disputed are servers that contradict the others; what they saw is not used.
	Disputed []string `json:"disputed"`
}

// Classify draws the conclusions.
func Classify(e Evidence) Path {
	p := Path{Works: e.Works, Hairpin: e.Hairpin, Lifetime: e.Lifetime}
	sights, disputed := undisputed(e.Sights)
	p.Disputed, p.Observed = disputed, endpoints(sights)
	if len(sights) > 0 {
		p.translation(sights, e.Own)
	}
	p.filter(e.Trials)
	p.PortPattern = pattern(e.Samples)
	return p
}

// undisputed drops what servers saw that contradict the others. An endpoint that
// servers at different addresses agree on is no accident of an address-dependent
// mapping: whoever saw another, and is outnumbered, is mistaken or lies.
func undisputed(all []Sight) (kept []Sight, disputed []string) {
	var best netip.AddrPort
	var agree []string
	servers := serversOf(all)
	for _, at := range endpoints(all) {
		same := slices.DeleteFunc(slices.Clone(all), func(s Sight) bool { return s.Observed != at })
		if by := serversOf(same); len(by) > len(agree) && len(addressesOf(same)) > 1 {
			best, agree = at, by
		}
	}
	against := slices.DeleteFunc(slices.Clone(servers), func(s string) bool { return slices.Contains(agree, s) })
	if !best.IsValid() || len(agree) < 2 || len(agree) <= len(against) {
		return all, nil
	}
	kept = slices.DeleteFunc(slices.Clone(all), func(s Sight) bool { return slices.Contains(against, s.Server) })
	return kept, against
}

func serversOf(list []Sight) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s.Server) {
			out = append(out, s.Server)
		}
	}
	return out
}

func addressesOf(list []Sight) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		if !slices.Contains(out, s.Remote.Addr()) {
			out = append(out, s.Remote.Addr())
		}
	}
	return out
}

// endpoints are the observed ones, those that were seen most often first.
func endpoints(list []Sight) []netip.AddrPort {
	count := make(map[netip.AddrPort]int)
	var out []netip.AddrPort
	for _, s := range list {
		if count[s.Observed]++; count[s.Observed] == 1 {
			out = append(out, s.Observed)
		}
	}
	slices.SortStableFunc(out, func(a, b netip.AddrPort) int { return count[b] - count[a] })
	return out
}

// translation says whether and how addresses are translated.
func (p *Path) translation(sights []Sight, own []netip.Addr) {
	untranslated := func(s Sight) bool {
		return slices.Contains(own, s.Observed.Addr()) && s.Observed.Port() == s.Local.Port()
	}
	translated := slices.ContainsFunc(sights, func(s Sight) bool { return !untranslated(s) })
	p.NAT = &translated
	p.PortPreserved = new(slices.ContainsFunc(sights, func(s Sight) bool { return s.Observed.Port() == s.Local.Port() }))
	if !translated {
		p.Mapping, p.MappingVaries = new(EIM), new(false)
		return
	}
	var perAddress, acrossPorts bool // one endpoint at each address; and several ports of one address saw the same
	perAddress = true
	for _, remote := range addressesOf(sights) {
		here := slices.DeleteFunc(slices.Clone(sights), func(s Sight) bool { return s.Remote.Addr() != remote })
		ports := make(map[uint16]bool)
		for _, s := range here {
			ports[s.Remote.Port()] = true
		}
		switch {
		case len(endpoints(here)) > 1 && len(ports) > 1:
			perAddress = false
		case len(ports) > 1:
			acrossPorts = true
		}
	}
	several := len(addressesOf(sights)) > 1
	switch {
	case !perAddress:
		p.Mapping, p.MappingVaries = new(APDM), new(true)
	case several && len(endpoints(sights)) == 1:
		p.Mapping, p.MappingVaries = new(EIM), new(false)
	case several && acrossPorts:
		p.Mapping, p.MappingVaries = new(ADM), new(true)
	case several:
		p.MappingVaries = new(true)
	}
}

// filter says who gets in. That one got in is certain; that none did is only as
// certain as the trial.
func (p *Path) filter(trials []Trial) {
	judge := func(known bool) *bool {
		var out *bool
		for _, t := range trials {
			switch {
			case t.Known != known:
			case t.Came:
				return new(true)
			case t.Sure:
				out = new(false)
			}
		}
		return out
	}
	p.LetsOtherPort, p.LetsAnybody = judge(true), judge(false)
	p.judgeFilter()
}

// judgeFilter names the filter after who gets in.
func (p *Path) judgeFilter() {
	is := func(b *bool, want bool) bool { return b != nil && *b == want }
	switch {
	case is(p.LetsAnybody, true):
		p.Filtering, p.LetsOtherPort = new(EIF), new(true)
	case is(p.LetsOtherPort, false):
		p.Filtering, p.LetsAnybody = new(APDF), new(false)
	case is(p.LetsOtherPort, true) && is(p.LetsAnybody, false):
		p.Filtering = new(ADF)
	}
}

const (
	// fewestSamples is how many ports it takes to tell steps from chance.
	fewestSamples = 3
	// largestStep is how far apart the outside ports of sockets may be that were
	// opened one after the other, where ports are given out in order: others behind
	// the NAT open ports in between.
	largestStep = 32
)

// pattern says how outside ports are chosen.
func pattern(samples []Sight) *Pattern {
	if len(samples) < fewestSamples {
		return nil
	}
	preserved, steps := 0, 0
	for i, s := range samples {
		if s.Observed.Port() == s.Local.Port() {
			preserved++
		}
		if i > 0 {
			if d := int(s.Observed.Port()) - int(samples[i-1].Observed.Port()); d != 0 && max(d, -d) <= largestStep {
				steps++
			}
		}
	}
	switch {
	case 2*preserved > len(samples): // one may be taken by somebody else
		return new(Preserved)
	case steps == len(samples)-1:
		return new(Sequential)
	default:
		return new(Random)
	}
}
