package relay

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/retry"

	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
)

// Reservation is a slot on a relay.
type Reservation struct {
	Relay    peer.ID
	Circuits []ma.Multiaddr // relay address ‖ /p2p/RELAY/p2p-circuit
	Expires  time.Time
	// Duration and Bytes limit each circuit; 0 means no limit.
	Duration time.Duration
	Bytes    uint64
}

// Reserve asks the relay for a slot, connecting to it when needed. Errors are
// *ReserveError, or those of the dial.
func Reserve(ctx context.Context, n *host.Node, relay peer.AddrInfo) (Reservation, error) {
	c, err := n.Dial(ctx, relay.ID, relay.Addrs)
	if err != nil {
		return Reservation{}, err
	}
	within := &ending{Host: n}
	r, err := client.Reserve(ctx, within, peer.AddrInfo{ID: relay.ID})
	within.stop()
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return Reservation{}, reserveError(relay.ID.String(), err)
	}
	out := Reservation{Relay: relay.ID, Expires: r.Expiration, Duration: r.LimitDuration, Bytes: r.LimitData}
	out.Circuits = circuits(relay.ID, r.Addrs)
	if len(out.Circuits) == 0 {
		// A stock Go relay names only public addresses; the one in use works too.
		out.Circuits = circuits(relay.ID, []ma.Multiaddr{c.RemoteMultiaddr()})
	}
	return out, nil
}

// ending is a host whose streams end with their context: the library waits a minute
// for the answer to a reservation, whatever its context says.
type ending struct {
	corehost.Host
	stops []func() bool
}

// NewStream implements host.Host.
func (e *ending) NewStream(ctx context.Context, p peer.ID, ids ...protocol.ID) (network.Stream, error) {
	st, err := e.Host.NewStream(ctx, p, ids...)
	if err == nil {
		e.stops = append(e.stops, context.AfterFunc(ctx, func() { _ = st.Reset() }))
	}
	return st, err
}

func (e *ending) stop() {
	for _, stop := range e.stops {
		stop()
	}
}

// circuits turns the addresses a relay vouches for into those to announce.
func circuits(relay peer.ID, addrs []ma.Multiaddr) []ma.Multiaddr {
	suffix := ma.StringCast("/p2p/" + relay.String() + "/p2p-circuit")
	var out []ma.Multiaddr
	for _, a := range addrs {
		at, id := peer.SplitAddr(a)
		if at == nil || id != "" && id != relay || addr.IsRelayed(at) {
			continue // no address of this relay
		}
		out = append(out, at.Encapsulate(suffix))
	}
	out = ma.Unique(out)
	addr.Sort(out)
	return out
}

// ClientConfig says which relay a Client keeps a reservation on.
type ClientConfig struct {
	Relay peer.AddrInfo
	// Backoff is the first wait between attempts, doubled up to MaxBackoff; 0 means
	// retry.DefaultFirst.
	Backoff time.Duration
	// MaxBackoff is the longest wait between the beginnings of two attempts, which
	// is spread by a quarter; 0 means retry.DefaultMost.
	MaxBackoff time.Duration
	// On is told of every change; nil tells nobody. It must not block.
	On func(ClientEvent)
}

// ClientEvent is a change of a kept reservation: reserved, renewed or lost.
type ClientEvent struct {
	Kind        string // "reserved", "renewed", "lost", "failed"
	Relay       peer.ID
	Reservation Reservation // of reserved and renewed
	Err         error       // of lost and failed
	// Next is how long until the next attempt, after those.
	Next time.Duration
}

// Client keeps a reservation on one relay: it connects, reserves, announces the
// circuit addresses, renews, and starts over when the relay was lost.
type Client struct {
	n      *host.Node
	cfg    ClientConfig
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// NewClient starts keeping a reservation. It returns at once; see On for what
// becomes of it.
func NewClient(n *host.Node, cfg ClientConfig) *Client {
	ctx, cancel := context.WithCancel(context.Background())
	c := &Client{n: n, cfg: cfg, cancel: cancel}
	n.ConnManager().Protect(cfg.Relay.ID, "relay")
	c.done.Go(func() { c.run(ctx) })
	return c
}

// Close stops announcing the relay's circuits and waits until nothing runs. The
// relay forgets the reservation when the connection ends.
func (c *Client) Close() error {
	c.cancel()
	c.done.Wait()
	c.n.SetCircuits(c.cfg.Relay.ID, nil)
	c.n.ConnManager().Unprotect(c.cfg.Relay.ID, "relay")
	return nil
}

// run reserves, holds and reserves again until ctx ends.
func (c *Client) run(ctx context.Context) {
	id := c.cfg.Relay.ID
	changed, stop := c.n.Changes(id)
	defer stop()
	defer c.n.KeepAlive(id)()
	again := retry.Schedule{First: c.cfg.Backoff, Most: c.cfg.MaxBackoff}
	var held *Reservation // nil: none, or lost
	for ctx.Err() == nil {
		again.Begin(time.Now())
		r, err := c.reserve(ctx)
		if err != nil {
			if held != nil && (time.Now().After(held.Expires) || len(c.n.Conns(id)) == 0) {
				held = nil
			}
			due := again.Failed(time.Now())
			c.failed(ctx, "failed", err, due, held)
			c.n.Await(ctx, id, &again, due, changed)
			continue
		}
		again.Succeeded(time.Now())
		kind := "reserved"
		if held != nil {
			kind = "renewed"
		}
		held = &r
		c.n.SetCircuits(r.Relay, r.Circuits)
		c.tell(ClientEvent{Kind: kind, Relay: r.Relay, Reservation: r})
		if lost := c.hold(ctx, r, changed); lost != nil {
			held = nil
			due := again.Lost(time.Now())
			c.failed(ctx, "lost", lost, due, nil)
			c.n.Await(ctx, id, &again, due, changed)
		}
	}
}

// reserve makes one attempt, each step of which has its time.
func (c *Client) reserve(ctx context.Context) (Reservation, error) {
	dial, cancel := context.WithTimeout(ctx, retry.Attempt)
	defer cancel()
	if _, err := c.n.Dial(dial, c.cfg.Relay.ID, c.cfg.Relay.Addrs); err != nil {
		return Reservation{}, err
	}
	ask, cancel := context.WithTimeout(ctx, retry.Attempt)
	defer cancel()
	return Reserve(ask, c.n, c.cfg.Relay)
}

// leastHold and mostHold are the least and the most time between two renewals, whatever lifetime a relay grants. It tells when a
// reservation ends by its wall clock: where that is ahead of the one here, by a day say, the time left would seem far too long. Relays grant
// an hour as a rule.
const (
	leastHold = time.Second
	mostHold  = 45 * time.Minute
)

// renewAfter is how long a reservation is held before it is renewed: three quarters of what is left of it.
func renewAfter(left time.Duration) time.Duration {
	return min(max(left*3/4, leastHold), mostHold)
}

// hold waits until r should be renewed, or tells why the relay was lost. A relay
// forgets a reservation with the last connection, and another part of the host may
// have opened a new one at once: so it is renewed, too, when every connection that
// stood when it was made is closed.
func (c *Client) hold(ctx context.Context, r Reservation, changed <-chan struct{}) error {
	renew := time.NewTimer(renewAfter(time.Until(r.Expires)))
	defer renew.Stop()
	stood := c.n.Conns(r.Relay)
	for slices.ContainsFunc(stood, func(conn network.Conn) bool { return !conn.IsClosed() }) {
		if c.withdrawn() {
			return ErrWithdrawn
		}
		select {
		case <-ctx.Done():
			return nil
		case <-renew.C:
			return nil
		case <-changed:
		}
	}
	if c.n.Network().Connectedness(r.Relay) == network.Connected {
		return nil
	}
	if cause := c.n.LossCause(stood...); cause != nil {
		return fmt.Errorf("%w: %w", ErrRelayLost, cause)
	}
	return ErrRelayLost
}

// withdrawn reports whether the relay says that it relays no more, as one does that
// is not reachable any longer. Its reservations are of no use then.
func (c *Client) withdrawn() bool {
	known, err := c.n.Peerstore().GetProtocols(c.cfg.Relay.ID)
	return err == nil && len(known) > 0 && !slices.Contains(known, proto.ProtoIDv2Hop)
}

// failed tells what went wrong, unless the client is being closed. The circuits are
// withdrawn unless the reservation held before is still good.
func (c *Client) failed(ctx context.Context, kind string, err error, due time.Time, held *Reservation) {
	if held == nil {
		c.n.SetCircuits(c.cfg.Relay.ID, nil)
	}
	if ctx.Err() == nil {
		c.tell(ClientEvent{Kind: kind, Relay: c.cfg.Relay.ID, Err: err, Next: max(0, time.Until(due))})
	}
}

func (c *Client) tell(e ClientEvent) {
	if c.cfg.On != nil {
		c.cfg.On(e)
	}
}
