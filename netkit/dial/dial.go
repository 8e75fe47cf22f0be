// Package dial reaches a peer and says precisely how: which addresses were tried
// in which order, how long each phase of each took, why one was not tried, what
// was negotiated, and by which path the connection runs.
package dial

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/ping"
	"dibber/netkit/retry"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	libp2pping "github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
)

// Config says how to dial and what to do with the connection. The zero value
// takes any path, identifies the peer and sends no pings.
type Config struct {
	// NoRelay leaves relayed addresses out; RelayOnly leaves out all others.
	NoRelay, RelayOnly bool
	// Require are protocols the peer must speak; nil requires none.
	Require []protocol.ID
	// Ping configures the pings; Count 0 sends none.
	Ping ping.Config
	// UntilDirect waits, until the context ends, for a direct connection.
	UntilDirect bool
	// Hold keeps the connection for so long and tells when its path changes; 0 does
	// not.
	Hold time.Duration
	// Watch holds until the context ends, pings once a second, and dials again when
	// the connection is lost. Hold is of no effect then.
	Watch bool
	// IdentifyTimeout is how long to wait for identify; 0 means 5 s.
	IdentifyTimeout time.Duration
	// On is told what happens as it happens, from several goroutines; nil tells
	// nobody. It must not block.
	On func(Event)
}

// Event is one step of a dial. Exactly one field is set.
type Event struct {
	Resolved  *Resolved
	Attempt   *Attempt // one that ended
	Connected *PathChange
	Identify  *Identify
	Pong      *ping.Pong
	Path      *Change // another path than before
}

// Resolved is what a name became.
type Resolved struct {
	From  string   `json:"from"`
	Addrs []string `json:"addrs"`
	MS    float64  `json:"ms"`
	Error *string  `json:"error"`
}

// PathChange is the path of the peer's connection from now on.
type PathChange struct {
	Peer peer.ID `json:"peer"`
	Path string  `json:"path"` // direct, relayed, punched, or none when the connection was lost
	Addr string  `json:"addr"`
	AtMS float64 `json:"at_ms"` // after the start of the dial
}

const defaultIdentifyTimeout = 5 * time.Second

// Do dials p at addrs. The Result is filled as far as things went, also with an
// error: *UnreachableError, *ProtocolError, *RelayedError, *LostError or ctx's.
func Do(ctx context.Context, n *host.Node, p peer.ID, addrs []ma.Multiaddr, cfg Config) (Result, error) {
	d := &dialler{n: n, cfg: cfg, peer: p, start: time.Now()}
	if d.cfg.IdentifyTimeout == 0 {
		d.cfg.IdentifyTimeout = defaultIdentifyTimeout
	}
	d.r = Result{Peer: &p, Attempts: []Attempt{}, Pongs: []ping.Pong{}}
	release := n.HoldStreams()
	defer release()
	ids, err := watchIdentify(n, p)
	if err != nil {
		return d.r, err
	}
	defer ids.close()

	if cfg.Watch {
		defer d.keepAlive(addrs)()
	}
	c, err := d.connect(ctx, addrs)
	if err != nil {
		return d.r, err
	}
	d.identify(ctx, ids, c)
	if d.r.Identify == nil && d.silent(ctx, c) {
		return d.turnedAway()
	}
	if err := d.require(ctx, c); err != nil {
		return d.r, err
	}
	if err := d.ping(ctx); err != nil {
		return d.r, err
	}
	if err := d.untilDirect(ctx); err != nil {
		return d.r, err
	}
	err = d.follow(ctx, addrs)
	return d.r, err
}

// dialler is one run of Do.
type dialler struct {
	n     *host.Node
	cfg   Config
	peer  peer.ID
	start time.Time
	r     Result

	dialled   time.Time // when the dial began that gave the connection
	connected time.Time
	first     network.Conn // the connection that was dialled
	won       ma.Multiaddr // the address that gave it
	wasRelay  bool
	ladder    *ladder
	last      []network.Conn // those of the last look, the one in use first
	again     retry.Schedule // of dialling again
}

// tell hands an event on.
func (d *dialler) tell(e Event) {
	if d.cfg.On != nil {
		d.cfg.On(e)
	}
}

// connect resolves, dials, and fills in the waterfall and the stack.
func (d *dialler) connect(ctx context.Context, addrs []ma.Multiaddr) (network.Conn, error) {
	cands := d.candidates(ctx, addrs)
	var try []ma.Multiaddr
	for _, c := range cands {
		if c.skip == "" {
			try = append(try, c.addr)
		}
	}
	if ctx.Err() != nil {
		d.r.Attempts = waterfall(d.start, cands, nil, nil, ctx.Err(), true)
		return nil, ctx.Err()
	}
	if len(try) == 0 {
		d.r.Attempts = waterfall(d.start, cands, nil, nil, nil, false)
		return nil, unreachable(d.peer, d.r.Attempts, nil)
	}
	began := time.Now()
	d.dialled = began
	trace := d.n.TraceDial(d.peer, func(t host.Attempt) {
		for _, a := range waterfall(began, pick(cands, t.Addr), []host.Attempt{t}, nil, nil, false) {
			if t.Err == nil {
				a.Outcome, a.Reason = Won, nil
			}
			d.tell(Event{Attempt: &a})
		}
	})
	trace.Expect(try)
	c, err := d.n.Dial(ctx, d.peer, try)
	d.connected = time.Now()
	trace.Close()
	attempts := trace.Attempts()
	if err == nil {
		d.first, d.won = c, winner(attempts, c)
	}
	d.r.Attempts = waterfall(began, cands, attempts, d.won, err, ctx.Err() != nil)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, unreachable(d.peer, d.r.Attempts, err)
	}
	d.r.ConnectedMS = ms(began, d.connected)
	d.wasRelay = addr.IsRelayed(c.RemoteMultiaddr())
	d.describe(c)
	d.ladder, d.last = newLadder(d.start, d.connected, *d.r.Path, *d.r.Addr), []network.Conn{c}
	d.tell(Event{Connected: &PathChange{d.peer, *d.r.Path, *d.r.Addr, *d.r.ConnectedMS}})
	return c, nil
}

// winner is the address that gave c. The connection itself tells less: it has
// neither the certificate hashes nor the server name that the address needs.
func winner(attempts []host.Attempt, c network.Conn) ma.Multiaddr {
	var first *host.Attempt
	for i, a := range attempts {
		if a.Err == nil && !a.Done.IsZero() && (first == nil || a.Done.Before(first.Done)) {
			first = &attempts[i]
		}
	}
	if first == nil {
		return c.RemoteMultiaddr() // open before this dial
	}
	return first.Addr
}

// pick is the candidate with the address at, made up when the swarm found it
// by itself.
func pick(cands []candidate, at ma.Multiaddr) []candidate {
	if i := slices.IndexFunc(cands, func(c candidate) bool { return c.addr.Equal(at) }); i >= 0 {
		return cands[i : i+1]
	}
	return []candidate{{addr: at}}
}

// candidates resolves names in parallel and rules out what was not wanted.
func (d *dialler) candidates(ctx context.Context, addrs []ma.Multiaddr) []candidate {
	found := make([]host.Resolution, len(addrs))
	var wg sync.WaitGroup
	for i, a := range addrs {
		wg.Go(func() { found[i] = d.n.Resolve(ctx, d.peer, a) })
	}
	wg.Wait()
	var out []candidate
	for _, r := range found {
		named := addr.ScopeOf(r.From) == addr.ScopeDNS && !addr.IsRelayed(r.From)
		if named {
			d.tellResolved(r)
		}
		if r.Err != nil && len(r.Addrs) == 0 {
			out = append(out, candidate{addr: r.From, skip: NameUnresolved, err: r.Err})
			continue
		}
		for _, a := range r.Addrs {
			c := candidate{addr: a, skip: d.unwanted(a)}
			if named {
				c.from, c.dns = r.From, r.Took
			}
			if !slices.ContainsFunc(out, func(o candidate) bool { return o.addr.Equal(a) }) {
				out = append(out, c)
			}
		}
	}
	return out
}

func (d *dialler) tellResolved(r host.Resolution) {
	e := Resolved{From: r.From.String(), Addrs: []string{}, MS: ping.Milliseconds(r.Took)}
	for _, a := range r.Addrs {
		e.Addrs = append(e.Addrs, a.String())
	}
	if r.Err != nil {
		e.Error = new(r.Err.Error())
	}
	d.tell(Event{Resolved: &e})
}

// unwanted is why the configuration rules a out; empty if it does not.
func (d *dialler) unwanted(a ma.Multiaddr) Reason {
	switch relayed := addr.IsRelayed(a); {
	case relayed && d.cfg.NoRelay:
		return WantDirect
	case !relayed && d.cfg.RelayOnly:
		return WantRelay
	}
	return ""
}

// stackOf names what secures and multiplexes a connection. Some transports negotiate
// neither: QUIC has TLS 1.3 and streams of its own (RFC 9001, RFC 9000), WebTransport has
// those streams and WebRTC the data channels of SCTP (RFC 8831), and in both of them Noise
// proves who the peer is (libp2p/specs webtransport, webrtc).
func stackOf(at ma.Multiaddr, st network.ConnectionState) (security, muxer *string) {
	if !addr.IsRelayed(at) {
		switch addr.Transport(at) {
		case addr.TransportQUIC:
			return new("tls-1.3"), new("quic")
		case addr.TransportWebTransport:
			return new("/noise"), new("quic")
		case addr.TransportWebRTCDirect:
			return new("/noise"), new("sctp")
		}
	}
	return optional(string(st.Security)), optional(string(st.StreamMultiplexer))
}

// optional is null for the empty string.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// silent reports whether c carries no streams. A peer that turns us away by its
// lists does so after the handshake, which has then succeeded on this side; any
// other peer answers a proposal, if only by refusing it.
func (d *dialler) silent(ctx context.Context, c network.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.IdentifyTimeout)
	defer cancel()
	_, err := d.n.Supports(ctx, c, libp2pping.ID)
	return err != nil && ctx.Err() == nil
}

// turnedAway is the error of a peer that closed the connection at once.
func (d *dialler) turnedAway() (Result, error) {
	for i := range d.r.Attempts {
		if d.r.Attempts[i].Outcome == Won {
			d.r.Attempts[i].settle(Failed, PeerRefused, errTurnedAway)
		}
	}
	// Nothing but the attempts is left to tell of a connection that never was one.
	d.r = Result{Peer: d.r.Peer, Attempts: d.r.Attempts, Pongs: d.r.Pongs}
	return d.r, unreachable(d.peer, d.r.Attempts, errTurnedAway)
}

var errTurnedAway = errors.New("peer closed the connection right after the handshake")
