package dial

import (
	"context"
	"errors"
	"slices"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"

	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// candidate is an address to try, or the reason not to.
type candidate struct {
	addr ma.Multiaddr
	from ma.Multiaddr // nil: it was given as it is
	dns  time.Duration
	skip Reason // empty: to be tried
	err  error
}

// waterfall puts together what became of every candidate. It is pure: trace is
// what was measured, won the address of the connection (nil: none), dialErr what
// the dial returned, ended whether the dial was cut short from outside.
func waterfall(start time.Time, cands []candidate, trace []host.Attempt, won ma.Multiaddr, dialErr error, ended bool) []Attempt {
	out := make([]Attempt, 0, len(cands))
	for _, c := range cands {
		a := Attempt{Addr: c.addr.String()}
		if c.from != nil {
			a.ResolvedFrom = new(c.from.String())
			a.DNSms = new(float64(c.dns.Microseconds()) / 1000)
		}
		i := slices.IndexFunc(trace, func(t host.Attempt) bool { return t.Addr.Equal(c.addr) })
		switch {
		case c.skip != "":
			a.settle(Skipped, c.skip, c.err)
		case i >= 0 && !trace[i].Started.IsZero():
			a.measured(start, trace[i], won, ended)
		default:
			a.untried(c.addr, won, dialErr, ended)
			if i >= 0 {
				a.DelayMS = float64(trace[i].Delay.Microseconds()) / 1000
			}
		}
		out = append(out, a)
	}
	return out
}

// measured fills in an attempt that was made.
func (a *Attempt) measured(start time.Time, t host.Attempt, won ma.Multiaddr, ended bool) {
	a.DelayMS = float64(t.Delay.Microseconds()) / 1000
	a.StartMS, a.TotalMS = ms(start, t.Started), ms(t.Started, t.Done)
	if t.Connected.IsZero() {
		if t.Err == nil {
			a.TransportMS = a.TotalMS // one handshake for all phases
		}
	} else {
		a.TransportMS = ms(t.Started, t.Connected)
		a.SecurityMS = ms(t.Connected, t.Secured)
		if t.Err == nil {
			a.MuxMS = ms(t.Secured, t.Done)
		}
	}
	switch {
	case won != nil && won.Equal(t.Addr):
		a.Outcome = Won
	case t.Err == nil && t.Done.IsZero(), won != nil && errors.Is(t.Err, context.Canceled):
		a.settle(Cancelled, endReason(won, ended), nil)
	case t.Err == nil: // stood, but after the winner
		a.settle(Cancelled, OtherWon, nil)
	case ended && (errors.Is(t.Err, context.Canceled) || errors.Is(t.Err, context.DeadlineExceeded)):
		a.settle(Cancelled, Interrupted, nil)
	default:
		a.settle(Failed, attemptReason(t), t.Err)
	}
}

// untried says why a candidate never had its turn.
func (a *Attempt) untried(at, won ma.Multiaddr, dialErr error, ended bool) {
	if de, ok := errors.AsType[*swarm.DialError](dialErr); ok {
		for _, te := range de.DialErrors {
			if te.Address.Equal(at) {
				a.settle(Skipped, reasonOf(te.Cause), te.Cause)
				return
			}
		}
		if errors.Is(de.Cause, swarm.ErrGaterDisallowedConnection) { // the peer as such
			a.settle(Skipped, Gated, de.Cause)
			return
		}
	}
	switch {
	case manet.IsIPUnspecified(at):
		a.settle(Skipped, Unspecified, nil)
	case manet.IsIP6LinkLocal(at):
		a.settle(Skipped, LinkLocal, nil)
	case won != nil && !addr.IsRelayed(at) && shadowed(at):
		a.settle(NotTried, BetterTransport, nil)
	case dialErr != nil && !ended && shadowed(at):
		a.settle(Skipped, BetterTransport, nil)
	default:
		a.settle(NotTried, endReason(won, ended), nil)
	}
}

// shadowed reports whether at is of a kind that the swarm leaves out when the same
// port is offered by QUIC or TCP itself.
func shadowed(at ma.Multiaddr) bool {
	switch addr.Transport(at) {
	case addr.TransportWebTransport, addr.TransportWS, addr.TransportWSS:
		return true
	}
	return false
}

// endReason is why an attempt was cut short or never began.
func endReason(won ma.Multiaddr, ended bool) Reason {
	switch {
	case won != nil:
		return OtherWon
	case ended:
		return Interrupted
	}
	return Unknown
}

// attemptReason names why a measured attempt failed; the phase it reached tells
// apart what the errors do not.
func attemptReason(t host.Attempt) Reason {
	r := reasonOf(t.Err)
	switch {
	case addr.IsRelayed(t.Addr) && t.Connected.IsZero():
		if r == HandshakeFailed && host.NotSupported(t.Err) {
			return NotARelay
		}
		if slices.Contains([]Reason{NoReservation, RelayRefused, RelayFailed, Gated}, r) {
			return r
		}
		return RelayUnreachable
	case r == HandshakeFailed && !t.Secured.IsZero() && !host.NotSupported(t.Err):
		return PeerRefused // it knew who we are when it hung up
	case r == Unknown && !t.Connected.IsZero() && t.Secured.IsZero():
		return HandshakeFailed
	case r == Unknown && slices.Contains([]string{addr.TransportWS, addr.TransportWSS}, addr.Transport(t.Addr)):
		return HandshakeFailed // something answers, but no HTTP
	case r == Timeout && !t.Connected.IsZero():
		return HandshakeFailed // something accepted and then never spoke libp2p
	}
	return r
}

// settle sets outcome, reason and error text.
func (a *Attempt) settle(outcome string, r Reason, err error) {
	a.Outcome, a.Reason = outcome, &r
	if err != nil {
		a.Error = new(err.Error())
	}
}
