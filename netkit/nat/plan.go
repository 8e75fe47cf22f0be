package nat

// Method is how two peers get a direct connection over UDP.
type Method string

// The methods.
const (
	MethodDial     Method = "dial"     // one dials where the other was seen, and is let in
	MethodTogether Method = "together" // both dial where the other was seen, at the same moment
	MethodSpray    Method = "spray"    // one sends to many ports of the other, which has opened many
	MethodPredict  Method = "predict"  // both send to the port that the other's NAT gives out next
	MethodNone     Method = "none"     // there is none, or none is known
)

// Plan is what two peers do.
type Plan struct {
	Method Method
	// Own says that this side is the one that dials or sprays; the other one waits, or
	// opens ports. It means nothing for other methods.
	Own bool
	// Direct and Why are what Between says.
	Direct Direct
	Why    Why
}

// PlanFor chooses the method for two kinds. offers says that this side made the offer:
// it does what either could do. The two sides of an exchange choose the same, with
// Own the other way round.
func PlanFor(own, peer Kind, offers bool) Plan {
	var p Plan
	p.Direct, p.Why = Between(own, peer)
	switch {
	case p.Direct != Yes:
		p.Method = MethodNone
	case own.opens() || peer.opens():
		p.Method, p.Own = MethodDial, chosen(peer.opens(), own.opens(), offers)
	case meets(own, peer), meets(peer, own):
		p.Method = MethodTogether
	case sprays(own, peer), sprays(peer, own):
		// Who sprays from one port leaves its NAT alone; any other way the NAT of the
		// sprayer keeps a mapping for each port tried.
		steady := own.Mapping == EIM || peer.Mapping == EIM
		p.Method = MethodSpray
		p.Own = chosen(sprays(own, peer) && (!steady || own.Mapping == EIM), sprays(peer, own) && (!steady || peer.Mapping == EIM), offers)
	default:
		p.Method = MethodPredict
	}
	return p
}

// chosen picks the side that can do something; the tie says whether it is this one
// where both can.
func chosen(own, peer, tie bool) bool {
	if own && peer {
		return tie
	}
	return own
}
