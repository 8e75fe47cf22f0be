package punch

import (
	"net/netip"
	"slices"

	"dibber/netkit/addr"
	"dibber/netkit/nat"

	ma "github.com/multiformats/go-multiaddr"
)

// Cause is why a punch failed, at the root: one of those below, or the reason itself
// where nothing came as far as dialling.
type Cause string

// The causes of a punch whose attempts all failed.
const (
	CauseNATs        Cause = "nats"         // the two NATs, as was to be expected of them
	CauseSameNAT     Cause = "same-nat"     // both ends have one outside address, whose router does not send packets back in
	CauseChanged     Cause = "nat-changed"  // a NAT was another at the punch than at the natcheck
	CauseLimited     Cause = "limited"      // one end does more than DCUtR with a peer only now and then (Config.Every), and went by DCUtR alone
	CauseNoExchange  Cause = "no-exchange"  // the ends did not tell each other their NATs, and went by DCUtR alone
	CauseUnexplained Cause = "unexplained"  // it was to be expected that it succeeds
	CauseUnforeseen  Cause = "not-foreseen" // the natchecks are not enough to say
)

// Cause is why the punch failed, between two nodes of which x was to be expected; empty
// if it did not fail.
func (v View) Cause(x nat.Outlook) Cause {
	switch {
	case v.Outcome != Failed || v.Reason == nil:
		return ""
	case *v.Reason != ReasonAttemptsEnded:
		return Cause(*v.Reason)
	case v.sameNAT():
		return CauseSameNAT
	case x.Direct == nat.No:
		return CauseNATs
	case v.changed(x):
		return CauseChanged
	case v.Plan == nil && v.limited():
		return CauseLimited
	case v.Plan == nil:
		return CauseNoExchange
	case x.Direct == nat.Unknown:
		return CauseUnforeseen
	default:
		return CauseUnexplained
	}
}

// stepLimited is the step of an end that does no more than DCUtR, since it did so lately.
const stepLimited = "offer.limited"

// limited reports whether one end did no more than DCUtR because it had done so lately.
func (v View) limited() bool {
	return slices.ContainsFunc(v.Timeline, func(s Step) bool { return s.Event == stepLimited })
}

// sameNAT reports whether both ends were dialled at one public address.
func (v View) sameNAT() bool {
	return slices.ContainsFunc(v.Attempts, func(a Attempt) bool {
		remote := publicIPs(a.Remote)
		return slices.ContainsFunc(publicIPs(a.Local), func(ip netip.Addr) bool { return slices.Contains(remote, ip) })
	})
}

// publicIPs are those among the addresses or endpoints of an attempt.
func publicIPs(all []string) (ips []netip.Addr) {
	for _, one := range all {
		a, err := ma.NewMultiaddr(one)
		if err != nil {
			if at, err := netip.ParseAddrPort(one); err == nil {
				ips = append(ips, at.Addr())
			}
			continue
		}
		if ip, ok := addr.IP(a); ok && addr.ScopeOf(a) == addr.ScopePublic {
			ips = append(ips, ip)
		}
	}
	return ips
}

// changed reports whether the NATs at the punch were others than those of x.
func (v View) changed(x nat.Outlook) bool {
	if v.LocalNAT == nil || v.RemoteNAT == nil || len(x.Sides) != 2 || x.Sides[0].NAT == nil || x.Sides[1].NAT == nil {
		return false
	}
	a, b := *x.Sides[0].NAT, *x.Sides[1].NAT
	return (*v.LocalNAT != a || *v.RemoteNAT != b) && (*v.LocalNAT != b || *v.RemoteNAT != a)
}
