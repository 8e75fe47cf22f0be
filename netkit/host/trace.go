package host

import (
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Attempt is the life of one address during a dial. A zero time means that the
// phase was never reached. Transports that secure themselves (QUIC, WebTransport,
// WebRTC) have no Connected and Secured of their own.
type Attempt struct {
	Addr ma.Multiaddr
	// Delay is how long the ranking held the address back behind better ones.
	Delay time.Duration
	// Started is when the transport began, Connected when the raw connection
	// stood, Secured when the peer was authenticated, Done when a stream could be
	// opened or the attempt failed.
	Started, Connected, Secured, Done time.Time
	// Err is why it failed; nil when it succeeded or never started.
	Err error
}

// DialTrace collects the attempts of the dials to one peer while it is open.
type DialTrace struct {
	tracer *dialTracer
	peer   peer.ID
	on     func(Attempt)

	mu       sync.Mutex // guards following
	attempts []*Attempt
}

// TraceDial opens a trace of every dial to p until Close. on, unless nil, is told
// of each attempt as it ends; it must not block.
func (n *Node) TraceDial(p peer.ID, on func(Attempt)) *DialTrace {
	t := &DialTrace{tracer: &n.tracer, peer: p, on: on}
	n.tracer.mu.Lock()
	defer n.tracer.mu.Unlock()
	if n.tracer.open == nil {
		n.tracer.open = make(map[*DialTrace]struct{})
	}
	n.tracer.open[t] = struct{}{}
	return t
}

// Close ends the trace; what it collected stays readable.
func (t *DialTrace) Close() {
	t.tracer.mu.Lock()
	defer t.tracer.mu.Unlock()
	delete(t.tracer.open, t)
}

// Expect announces addresses that a dial is about to rank, so that their delays are
// kept even if they are never tried.
func (t *DialTrace) Expect(addrs []ma.Multiaddr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range addrs {
		t.attemptLocked(a)
	}
}

// Attempts returns a copy of what was collected, in the order of ranking.
func (t *DialTrace) Attempts() []Attempt {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Attempt, len(t.attempts))
	for i, a := range t.attempts {
		out[i] = *a
	}
	return out
}

// attemptLocked returns the record of at, made if missing.
func (t *DialTrace) attemptLocked(at ma.Multiaddr) *Attempt {
	i := slices.IndexFunc(t.attempts, func(a *Attempt) bool { return a.Addr.Equal(at) })
	if i >= 0 {
		return t.attempts[i]
	}
	a := &Attempt{Addr: at}
	t.attempts = append(t.attempts, a)
	return a
}

// dialTracer fans the phases of dials out to the open traces.
type dialTracer struct {
	watches *watches // nil watches nobody

	mu   sync.Mutex // guards following
	open map[*DialTrace]struct{}
}

// update applies f to the record of at in every open trace of p.
func (d *dialTracer) update(p peer.ID, at ma.Multiaddr, f func(*Attempt)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for t := range d.open {
		if t.peer != p {
			continue
		}
		t.mu.Lock()
		a := t.attemptLocked(at)
		f(a)
		now := *a
		t.mu.Unlock()
		if t.on != nil && !now.Done.IsZero() {
			t.on(now)
		}
	}
}

// rank orders a dial as the swarm does by default, but holds relayed addresses
// back whenever there is a direct one, not only a public one: a relay carries only
// what has no other way. The delays are kept in the traces whose peer has the
// addresses. The ranker is told no peer, so only addresses that a trace already
// knows are updated.
func (d *dialTracer) rank(addrs []ma.Multiaddr) []network.AddrDelay {
	relayed, direct := ma.FilterAddrs(addrs, addr.IsRelayed), ma.FilterAddrs(addrs, isDirect)
	ranked := swarm.DefaultDialRanker(direct)
	for _, r := range rankRelayed(relayed, rand.Shuffle) {
		if len(direct) > 0 {
			r.Delay += swarm.RelayDelay
		}
		ranked = append(ranked, r)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for t := range d.open {
		t.mu.Lock()
		for _, r := range ranked {
			for _, a := range t.attempts {
				if a.Addr.Equal(r.Addr) {
					a.Delay = r.Delay
				}
			}
		}
		t.mu.Unlock()
	}
	return ranked
}

// nextRelay is how much later than the first the second relay of a peer is tried, and the others than the second: as the swarm does
// with one address after another.
const nextRelay = swarm.PublicQUICDelay

// rankRelayed orders the addresses through each relay as the swarm does, and the relays at random. The swarm alone would put that
// with the lowest port first, or the one that the peer names first, which then carries all of its circuits.
func rankRelayed(addrs []ma.Multiaddr, shuffle func(n int, swap func(i, j int))) (ranked []network.AddrDelay) {
	through := make(map[peer.ID][]ma.Multiaddr)
	var relays []peer.ID
	for _, a := range addrs {
		r, _ := addr.RelayOf(a) // one that names none is a relay of its own
		if through[r.ID] == nil {
			relays = append(relays, r.ID)
		}
		through[r.ID] = append(through[r.ID], a)
	}
	shuffle(len(relays), func(i, j int) { relays[i], relays[j] = relays[j], relays[i] })
	for i, r := range relays {
		for _, d := range swarm.DefaultDialRanker(through[r]) {
			d.Delay += time.Duration(min(i, 2)) * nextRelay
			ranked = append(ranked, d)
		}
	}
	return ranked
}

func isDirect(a ma.Multiaddr) bool { return !addr.IsRelayed(a) }

// phaseKey is the context key of the attempt that a transport is dialling.
type phaseKey struct{}

// phase identifies an attempt to the layers below the transport.
type phase struct {
	tracer *dialTracer
	peer   peer.ID
	addr   ma.Multiaddr
}

// mark stores the time of a phase in the attempt that ctx belongs to, if any.
func mark(ctx context.Context, set func(*Attempt, time.Time)) {
	if ph, ok := ctx.Value(phaseKey{}).(phase); ok {
		now := time.Now()
		ph.tracer.update(ph.peer, ph.addr, func(a *Attempt) { set(a, now) })
	}
}

// tracedTransport times the dials of a transport.
type tracedTransport struct {
	transport.Transport
	tracer *dialTracer
}

// Dial implements transport.Transport.
func (t tracedTransport) Dial(ctx context.Context, raddr ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	return t.DialWithUpdates(ctx, raddr, p, nil)
}

// DialWithUpdates implements transport.DialUpdater for transports that do and
// those that do not.
func (t tracedTransport) DialWithUpdates(ctx context.Context, raddr ma.Multiaddr, p peer.ID, updates chan<- transport.DialUpdate) (transport.CapableConn, error) {
	ctx = context.WithValue(ctx, phaseKey{}, phase{t.tracer, p, raddr})
	if addr.Transport(raddr) == addr.TransportQUIC {
		ctx = asClient(ctx)
	}
	mark(ctx, func(a *Attempt, now time.Time) { a.Started = now })
	var c transport.CapableConn
	var err error
	if du, ok := t.Transport.(transport.DialUpdater); ok {
		c, err = du.DialWithUpdates(ctx, raddr, p, updates)
	} else {
		c, err = t.Transport.Dial(ctx, raddr, p)
	}
	mark(ctx, func(a *Attempt, now time.Time) { a.Done, a.Err = now, err })
	return c, err
}

// Resolve implements transport.Resolver; most transports leave addresses alone.
func (t tracedTransport) Resolve(ctx context.Context, addr ma.Multiaddr) ([]ma.Multiaddr, error) {
	if r, ok := t.Transport.(transport.Resolver); ok {
		return r.Resolve(ctx, addr)
	}
	return []ma.Multiaddr{addr}, nil
}

// SkipResolve implements transport.SkipResolver.
func (t tracedTransport) SkipResolve(ctx context.Context, addr ma.Multiaddr) bool {
	s, ok := t.Transport.(transport.SkipResolver)
	return ok && s.SkipResolve(ctx, addr)
}

// ListenOrder tells the swarm which transports must listen first.
func (t tracedTransport) ListenOrder() int {
	if o, ok := t.Transport.(swarm.OrderedListener); ok {
		return o.ListenOrder()
	}
	return 0
}

// Close implements io.Closer, which the swarm asks for.
func (t tracedTransport) Close() error {
	if c, ok := t.Transport.(interface{ Close() error }); ok {
		return c.Close()
	}
	return nil
}

// tracedUpgrader notes when the raw connection stood, which is when a transport
// hands it over to be secured.
type tracedUpgrader struct{ transport.Upgrader }

func (u tracedUpgrader) Upgrade(ctx context.Context, t transport.Transport, c manet.Conn, dir network.Direction, p peer.ID, scope network.ConnManagementScope) (transport.CapableConn, error) {
	mark(ctx, func(a *Attempt, now time.Time) { a.Connected = now })
	return u.Upgrader.Upgrade(ctx, t, c, dir, p, scope)
}

// tracedSecurity notes when the peer was authenticated.
type tracedSecurity struct{ sec.SecureTransport }

func (s tracedSecurity) SecureOutbound(ctx context.Context, insecure net.Conn, p peer.ID) (sec.SecureConn, error) {
	c, err := s.SecureTransport.SecureOutbound(ctx, insecure, p)
	if err == nil {
		mark(ctx, func(a *Attempt, now time.Time) { a.Secured = now })
	}
	return c, err
}
