package dial

import (
	"context"
	"fmt"
	"sync"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/ping"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// PartialError means that some of several addresses gave a connection and some did
// not.
type PartialError struct {
	Peer          peer.ID
	Worked, Tried int
}

func (e *PartialError) Error() string {
	return fmt.Sprintf("%d of %d addresses of %s work", e.Worked, e.Tried, e.Peer)
}

// Each dials every address of p in isolation, without ranking or filters, the
// direct ones at once and the relayed ones in turn, proposes a protocol on each
// connection, and closes the connections again. In the Result every address that
// worked has won; Path, Addr and the stack are those of the fastest. Errors are
// *UnreachableError when none worked, *PartialError when some did not, or ctx's.
func Each(ctx context.Context, n *host.Node, p peer.ID, addrs []ma.Multiaddr, cfg Config) (Result, error) {
	d := &dialler{n: n, cfg: cfg, peer: p, start: time.Now()}
	d.r = Result{Peer: &p, Attempts: []Attempt{}, Pongs: []ping.Pong{}}
	cands := d.candidates(ctx, addrs)
	began := time.Now()
	d.r.Attempts = make([]Attempt, len(cands))
	var wg sync.WaitGroup
	var mu sync.Mutex // guards d.r's winner
	try := func(i int) {
		d.r.Attempts[i] = d.alone(ctx, began, cands[i], &mu)
		d.tell(Event{Attempt: &d.r.Attempts[i]})
	}
	var relayed []int
	for i, c := range cands {
		switch {
		case c.skip != "":
			d.r.Attempts[i] = waterfall(began, cands[i:i+1], nil, nil, nil, false)[0]
		case addr.IsRelayed(c.addr):
			relayed = append(relayed, i)
		default:
			wg.Go(func() { try(i) })
		}
	}
	// libp2p opens one circuit to a peer at a time, and takes any connection to the
	// relay that is open: each attempt starts without one.
	wg.Go(func() {
		for _, i := range relayed {
			if relay, ok := addr.RelayOf(cands[i].addr); ok {
				n.Forget(relay.ID)
			}
			try(i)
		}
	})
	wg.Wait()
	if ctx.Err() != nil {
		return d.r, ctx.Err()
	}
	worked := 0
	for _, a := range d.r.Attempts {
		if a.Outcome == Won {
			worked++
		}
	}
	switch {
	case worked == 0:
		return d.r, unreachable(p, d.r.Attempts, nil)
	case worked < len(cands):
		return d.r, &PartialError{p, worked, len(cands)}
	}
	return d.r, nil
}

// alone makes one isolated attempt.
func (d *dialler) alone(ctx context.Context, began time.Time, c candidate, mu *sync.Mutex) Attempt {
	trace := d.n.TraceDial(d.peer, nil)
	conn, err := d.n.DialAddr(ctx, d.peer, c.addr)
	now := time.Now()
	trace.Close()
	turnedAway := err == nil && d.n.Answers(ctx, conn) != nil && ctx.Err() == nil
	var won ma.Multiaddr
	if err == nil {
		defer conn.Close() // it has served its purpose
	}
	if err == nil && !turnedAway {
		won = c.addr
		mu.Lock()
		defer mu.Unlock()
		if d.connected.IsZero() || now.Before(d.connected) {
			d.connected = now
			st := conn.ConnState()
			path := addr.Path(c.addr)
			d.r.Path, d.r.Addr, d.r.ConnectedMS = &path, new(c.addr.String()), ms(began, now)
			d.r.Transport, d.r.EarlyMuxer = new(addr.Transport(c.addr)), new(st.UsedEarlyMuxerNegotiation)
			d.r.Security, d.r.Muxer = stackOf(c.addr, st)
		}
	}
	a := waterfall(began, []candidate{c}, trace.Attempts(), won, err, ctx.Err() != nil)[0]
	if turnedAway {
		a.settle(Failed, PeerRefused, errTurnedAway)
	}
	return a
}
