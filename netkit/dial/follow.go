package dial

import (
	"context"
	"errors"
	"slices"
	"sync"
	"syscall"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/ping"
	"dibber/netkit/retry"

	ma "github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"
)

const (
	// beatInterval is the time from ping to ping of a watch.
	beatInterval = time.Second
	// beatTimeout is how long each of them is waited for. KeepAlive gives the
	// connection as long.
	beatTimeout = 3 * time.Second
)

// follow keeps the connection and tells each change of its path: for as long as
// Config.Hold says, or until ctx ends with Config.Watch, which also pings and dials
// again what was lost. That its time is over is the goal, not an error.
func (d *dialler) follow(ctx context.Context, addrs []ma.Multiaddr) error {
	if d.cfg.Hold == 0 && !d.cfg.Watch {
		d.path()
		return nil
	}
	hold, cancel := ctx, context.CancelFunc(func() {})
	if !d.cfg.Watch {
		hold, cancel = context.WithTimeout(ctx, d.cfg.Hold)
	}
	defer cancel()
	changed, stop := d.n.Changes(d.peer)
	defer stop()
	d.again.Begin(d.start)
	d.again.Succeeded(d.connected)
	var beats <-chan beat // nil: there are none
	if d.cfg.Watch {
		beats, stop = d.beats(hold)
		defer stop()
	}
	defer d.record()
	for {
		if !d.look(cause{}) {
			if !d.cfg.Watch {
				return d.lost()
			}
			d.regain(hold, addrs, changed, beats)
		}
		select {
		case <-hold.Done():
			if d.cfg.Watch {
				return nil
			}
			return ctx.Err() // nil when only the hold is over
		case b := <-beats:
			d.beat(b)
		case <-changed:
		}
	}
}

// keepAlive finds out within seconds, until stop is called, when the peer or a relay
// on the way to it is silent, or when the address of this host has changed: a relay
// that is reached over the old connection would go on to tell the old address.
func (d *dialler) keepAlive(addrs []ma.Multiaddr) (stop func()) {
	stops := []func(){d.n.KeepAlive(d.peer)}
	for _, a := range addrs {
		if relay, ok := addr.RelayOf(a); ok {
			stops = append(stops, d.n.KeepAlive(relay.ID))
		}
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// look takes note of the path of now, and tells a change; false when there is none. A
// gain has the given cause, if it is known.
func (d *dialler) look(gain cause) bool {
	now, before := time.Now(), d.last[0]
	conns := d.n.Conns(d.peer)
	if len(conns) == 0 {
		d.note(d.ladder.move(now, None, "", d.lossCause(now)))
		return false
	}
	if d.ladder.path == None {
		d.first, d.won, d.connected = conns[0], conns[0].RemoteMultiaddr(), conns[0].Stat().Opened
		d.wasRelay = addr.IsRelayed(d.won)
	}
	at, why := conns[0].Stat().Opened, gain
	switch {
	case d.ladder.path == None:
	case d.ladder.path == Relayed && !addr.IsRelayed(conns[0].RemoteMultiaddr()):
		why.word = CauseUpgraded // whatever became of the relayed one since
	case !slices.Contains(conns, before):
		at, why = now, d.lossCause(now)
	}
	d.last = conns
	d.describe(conns[0])
	d.note(d.ladder.move(at, *d.r.Path, *d.r.Addr, why))
	return true
}

func (d *dialler) note(c *Change) {
	if c != nil {
		d.tell(Event{Path: c})
	}
}

// lossCause is why the connection in use at the last look was lost.
func (d *dialler) lossCause(now time.Time) cause {
	if u, ok := d.n.CircuitUse(d.last[0]); ok {
		// The relay counts from a moment during the dial.
		if u.Duration > 0 && now.Sub(d.dialled) >= u.Duration || u.Bytes > 0 && max(u.Sent, u.Received) >= int64(u.Bytes) {
			return cause{word: CauseRelayLimit}
		}
	}
	err := d.n.LossCause(d.last[0])
	if err == nil {
		return cause{}
	}
	for _, m := range []struct {
		is   error
		word string
	}{
		{host.ErrSilent, CauseSilent},
		{host.ErrMoved, CauseMoved},
		{host.ErrPeerClosed, CausePeerClosed},
		{host.ErrPeerForgot, CausePeerForgot},
		{host.ErrCircuitEnded, CauseRelayEnded},
		{syscall.ECONNRESET, CausePeerClosed}, // its machine did, for a process that is gone
	} {
		if errors.Is(err, m.is) {
			return cause{m.word, err.Error()}
		}
	}
	if errors.As(err, new(*quic.IdleTimeoutError)) {
		return cause{CauseSilent, err.Error()}
	}
	return cause{CauseError, err.Error()}
}

// regain dials until a connection with the peer stands, or ctx ends.
func (d *dialler) regain(ctx context.Context, addrs []ma.Multiaddr, changed <-chan struct{}, beats <-chan beat) {
	due := d.again.Lost(time.Now())
	for {
		d.n.Await(ctx, d.peer, &d.again, due, changed)
		select {
		case b := <-beats: // one that was under way when the path was lost
			d.beat(b)
		default:
		}
		if ctx.Err() != nil {
			return
		}
		why := cause{word: CauseCalled}
		if len(d.n.Conns(d.peer)) == 0 {
			d.dialled = time.Now()
			d.again.Begin(d.dialled)
			if err := d.redial(ctx, addrs); err != nil {
				due = d.again.Failed(time.Now())
				continue
			}
			why.word = CauseRedialled
		}
		if d.look(why) {
			d.again.Succeeded(time.Now())
			return
		}
		due = d.again.Failed(time.Now()) // lost as soon as it was got
	}
}

// redial dials the peer where it was given to be, names looked up anew, and where it
// said that it is, unless a kind of path was ruled out.
func (d *dialler) redial(ctx context.Context, addrs []ma.Multiaddr) error {
	ctx, cancel := context.WithTimeout(ctx, retry.Attempt)
	defer cancel()
	var try []ma.Multiaddr
	for _, c := range d.candidates(ctx, addrs) {
		if c.skip == "" {
			try = append(try, c.addr)
		}
	}
	if d.cfg.NoRelay || d.cfg.RelayOnly {
		d.n.Forget(d.peer)
	}
	_, err := d.n.Dial(ctx, d.peer, try)
	return err
}

// record fills in what was seen of the paths.
func (d *dialler) record() {
	d.path()
	now := time.Now()
	d.r.Changes, d.r.Paths = new(slices.Clone(d.ladder.changes)), new(d.ladder.paths(now))
	d.r.ChangesOmitted = d.ladder.omitted
	if d.cfg.Watch && d.ladder.path == None {
		d.r.Path, d.r.Limited, d.r.Limits, d.r.Addr = nil, nil, nil, nil
	}
}

// beat is a ping of a watch.
type beat struct {
	sent time.Time
	pong ping.Pong
}

// beat takes note of a ping and tells it.
func (d *dialler) beat(b beat) {
	path := b.pong.Path
	if path == Direct && d.wasRelay {
		path = Punched
	}
	d.ladder.pinged(b.sent, path, b.pong.RTTms)
	d.tell(Event{Pong: &b.pong})
}

// beats pings the peer once a second while there is a connection, until ctx ends, the
// peer turns out not to speak ping, or stop is called.
func (d *dialler) beats(ctx context.Context) (beats <-chan beat, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	out := make(chan beat)
	var done sync.WaitGroup
	done.Go(func() {
		next := time.NewTicker(beatInterval)
		defer next.Stop()
		for seq := len(d.r.Pongs) + 1; ; {
			select {
			case <-ctx.Done():
				return
			case <-next.C:
			}
			b := beat{sent: time.Now()}
			_, err := ping.Do(ctx, d.n, d.peer, ping.Config{Timeout: beatTimeout, On: func(p ping.Pong) { b.pong = p }})
			switch {
			case errors.Is(err, ping.ErrUnsupported):
				return
			case ctx.Err() != nil, errors.Is(err, ping.ErrNotConnected):
				continue
			}
			b.pong.Seq = seq
			seq++
			select {
			case out <- b:
			case <-ctx.Done():
			}
		}
	})
	return out, func() {
		cancel()
		done.Wait()
	}
}
