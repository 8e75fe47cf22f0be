package nat

// Direct says whether two peers can have a direct connection.
type Direct string

// The answers.
const (
	Yes     Direct = "yes"
	No      Direct = "no"
	Unknown Direct = "unknown"
)

// Why is the reason of a forecast, in one word.
type Why string

// The reasons.
const (
	WhyPeerOpen   Why = "peer-open"         // everybody gets in to the peer
	WhyOpen       Why = "open"              // everybody gets in to this node
	WhyTogether   Why = "open-together"     // both open their NAT or firewall at the same moment
	WhySpray      Why = "many-ports"        // one side has to try many ports of the other
	WhyPredict    Why = "predict-ports"     // both sides' next ports can be told in advance
	WhyTooMany    Why = "too-many-ports"    // neither side's port can be found in time
	WhyUDPBlocked Why = "udp-blocked"       // no UDP on one side
	WhyTooLittle  Why = "too-little-known"  // of this node
	WhyNoPattern  Why = "pattern-not-known" // of the ports of one side
	WhyTCPBlocked Why = "tcp-blocked"       // no TCP on one side
	WhyConnected  Why = "connected"         // they are connected directly
	WhySameNAT    Why = "same-nat"          // both are behind one outside address
)

// Kind is what matters of a peer's NAT.
type Kind struct {
	Name string
	// NAT is false for a peer whose addresses are not translated.
	NAT       bool
	Mapping   Mapping
	Filtering Filtering
	Pattern   Pattern // of outside ports; empty where it is not known
}

// String describes the kind by what it is, not by its name.
func (k Kind) String() string {
	switch {
	case !k.NAT && k.Filtering == EIF:
		return string(Public)
	case !k.NAT:
		return string(Firewalled)
	case k.Mapping == EIM || k.Pattern == "":
		return string(k.Mapping) + "/" + string(k.Filtering)
	default:
		return string(k.Mapping) + "/" + string(k.Filtering) + " " + string(k.Pattern)
	}
}

// Kinds are the situations of peers that a forecast is made against.
func Kinds() []Kind {
	return []Kind{
		{"public", false, EIM, EIF, Preserved},
		{"firewalled", false, EIM, APDF, Preserved},
		{"EIM/EIF", true, EIM, EIF, Preserved},
		{"EIM/ADF", true, EIM, ADF, Preserved},
		{"EIM/APDF", true, EIM, APDF, Preserved},
		{"ADM/ADF", true, ADM, ADF, Random},
		{"APDM/APDF sequential", true, APDM, APDF, Sequential},
		{"APDM/APDF random", true, APDM, APDF, Random},
	}
}

// Forecast is what is to be expected with a kind of peer.
type Forecast struct {
	Peer   string `json:"peer"` // the kind's name
	Direct Direct `json:"direct"`
	Why    Why    `json:"why"`
	// Family and Transport are those that decide; nil where nothing was looked at.
	Family    *string `json:"family"`
	Transport *string `json:"transport"`
}

// Forecasts are those of a node against every kind, as [Expect] makes them with a peer of
// the kind for which UDP and TCP get out in both families.
func (f Families) Forecasts() []Forecast {
	var out []Forecast
	for _, peer := range Kinds() {
		x := Expect(Standing{Families: f}, Standing{Families: peer.families()})
		out = append(out, Forecast{peer.Name, x.Direct, x.Why, x.Family, x.Transport})
	}
	return out
}

// families are what a natcheck says of a node of the kind that was looked at from enough
// sides.
func (k Kind) families() Families {
	p := Path{
		Works: new(true), NAT: &k.NAT, Mapping: &k.Mapping, Filtering: &k.Filtering, PortPattern: &k.Pattern,
		MappingVaries: new(k.Mapping != EIM), LetsOtherPort: new(k.Filtering != APDF), LetsAnybody: new(k.Filtering == EIF),
	}
	both := Transports{UDP: p, TCP: p}
	return Families{IP4: both, IP6: both}
}

// Kind is the path's own kind, without a name; false where too little is known of it.
func (p Path) Kind() (Kind, bool) {
	k := Kind{Mapping: EIM, Filtering: APDF}
	if p.NAT == nil || p.MappingVaries == nil || p.LetsOtherPort == nil {
		return k, false
	}
	k.NAT = *p.NAT
	switch {
	case p.Mapping != nil:
		k.Mapping = *p.Mapping
	case *p.MappingVaries:
		k.Mapping = APDM // as hard as ADM, but for who is let in
	}
	switch {
	case p.Filtering != nil:
		k.Filtering = *p.Filtering
	case *p.LetsOtherPort:
		k.Filtering = ADF // at least
	}
	if p.PortPattern != nil {
		k.Pattern = *p.PortPattern
	}
	return k, true
}

// opens reports whether a stranger gets in at an address that can be known.
func (k Kind) opens() bool { return k.Mapping == EIM && k.Filtering == EIF }

// Between says whether two kinds can have a direct connection when both sides do all
// that can be done, and by what means.
func Between(own, peer Kind) (Direct, Why) {
	switch {
	case peer.opens():
		return Yes, WhyPeerOpen
	case own.opens():
		return Yes, WhyOpen
	case meets(own, peer), meets(peer, own):
		return Yes, WhyTogether
	case sprays(own, peer), sprays(peer, own):
		return Yes, WhySpray
	case own.Pattern == Random, peer.Pattern == Random:
		return No, WhyTooMany
	case own.Pattern == "", peer.Pattern == "":
		return Unknown, WhyNoPattern
	default:
		return Yes, WhyPredict
	}
}

// meets reports whether a packet of from arrives at the endpoint that a third party
// saw of to, when to has sent one to what was seen of from.
func meets(from, to Kind) bool {
	return to.Mapping == EIM && (to.Filtering != APDF || from.Mapping == EIM)
}

// sprays reports whether one of many packets of from, to ports of to, meets one that
// to has opened: either to lets in all ports of an address, or from always sends
// from the same.
func sprays(from, to Kind) bool {
	return to.Filtering != APDF || from.Mapping == EIM
}
