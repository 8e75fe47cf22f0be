package dial

import (
	"context"
	"errors"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/ping"

	"github.com/libp2p/go-libp2p/core/network"
)

// path fills in by which path the peer is connected now. Where no connection is open it
// leaves the last one in place.
func (d *dialler) path() {
	if conns := d.n.Conns(d.peer); len(conns) > 0 {
		d.describe(conns[0])
	}
}

// lost tells that no connection is open any more.
func (d *dialler) lost() error { return &LostError{d.peer, d.n.LossCause(d.last...)} }

// describe fills in the path that c is.
func (d *dialler) describe(c network.Conn) {
	remote := c.RemoteMultiaddr()
	path := Direct
	switch {
	case addr.IsRelayed(remote):
		path = Relayed
	case d.wasRelay:
		path = Punched
	}
	if c == d.first {
		remote = d.won
	}
	d.r.Path, d.r.Addr = &path, new(remote.String())
	st := d.n.ConnState(c)
	d.r.Transport, d.r.EarlyMuxer = new(addr.Transport(remote)), new(st.UsedEarlyMuxerNegotiation)
	d.r.Security, d.r.Muxer = stackOf(remote, st)
	d.r.Limited, d.r.Limits = new(c.Stat().Limited), d.limits(c)
	if d.wasRelay {
		d.r.Upgrade = &Upgrade{Reason: new("no-direct-connection")}
		if path == Punched {
			d.r.Upgrade = &Upgrade{OK: true, MS: ms(d.connected, c.Stat().Opened)}
		}
	}
}

// limits is what the relay grants c and what is left of it.
func (d *dialler) limits(c network.Conn) *Limits {
	u, ok := d.n.CircuitUse(c)
	if !ok {
		return nil
	}
	l := &Limits{DurationS: u.Duration.Seconds(), Bytes: u.Bytes}
	if u.Duration > 0 {
		l.DurationLeftS = new(max(0, (u.Duration - u.Age).Round(time.Millisecond).Seconds()))
	}
	if u.Bytes > 0 && u.Sent >= 0 {
		used := uint64(max(u.Sent, u.Received))
		l.BytesLeft = new(u.Bytes - min(used, u.Bytes))
	}
	return l
}

// ping sends the configured pings. A peer without the ping protocol is no error:
// the result says that none came back. They end when the connection is lost; a watch
// goes on and dials again.
func (d *dialler) ping(ctx context.Context) error {
	if d.cfg.Ping.Count == 0 {
		return nil
	}
	cfg := d.cfg.Ping
	cfg.UntilLost = true
	cfg.On = func(p ping.Pong) {
		d.r.Pongs = append(d.r.Pongs, p)
		d.tell(Event{Pong: &p})
	}
	r, err := ping.Do(ctx, d.n, d.peer, cfg)
	d.r.Ping = &r
	d.path()
	if errors.Is(err, ping.ErrUnsupported) || d.cfg.Watch && errors.Is(err, ping.ErrNotConnected) {
		return nil
	}
	if errors.Is(err, ping.ErrNotConnected) {
		return d.lost()
	}
	return err
}

// untilDirect waits for a direct connection if one is demanded.
func (d *dialler) untilDirect(ctx context.Context) error {
	if !d.cfg.UntilDirect {
		return nil
	}
	changed, stop := d.n.Changes(d.peer)
	defer stop()
	for {
		switch {
		case !d.look(cause{}):
			return d.lost()
		case *d.r.Path != Relayed:
			return nil
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return &RelayedError{d.peer}
			}
			return ctx.Err()
		case <-changed:
		}
	}
}
