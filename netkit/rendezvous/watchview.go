package rendezvous

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"dibber/netkit/wire"
)

// view is what one watcher is shown.
type view struct {
	s        *Server
	st       network.Stream
	peer     peer.ID
	ns       string
	flavours watchFlavours
	watcher  *watcher
	// after is where the next snapshot begins, and what it has reached: of
	// what is numbered up to it, everything that is still there was shown.
	after uint64
}

// run shows the registrations there are, and then what changes, until ended or
// the context's end.
func (v *view) run(ctx context.Context, ended <-chan struct{}) error {
	if err := v.snapshot(); err != nil {
		return err
	}
	for {
		queue, lost := v.watcher.take()
		var err error
		switch {
		case len(queue) > 0:
			err = v.show(queue)
		case lost != nil:
			err = v.resync(lost)
		default:
			select {
			case <-v.watcher.wake:
			case <-ended:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err != nil {
			return err
		}
	}
}

// snapshot sends pages from v.after on. What comes while it runs is queued.
func (v *view) snapshot() error {
	records := v.flavours.choice()
	top := v.s.reg.visible.Load()
	for {
		now := v.s.reg.clock(time.Now())
		q := v.s.query(v.peer, v.ns, v.after, v.s.reg.limits.Load().PageMax, records, now)
		q.budget = watchPage
		found, last := v.s.reg.page(q)
		if len(found) > 0 {
			m := watchMessage{kind: new(watchSnapshot), cookie: v.s.key.Load().mint(v.ns, last)}
			m.encoded = appendEntries(nil, fieldWatchRegistrations, found, records, now)
			if err := v.send(m.encode()); err != nil {
				return err
			}
		}
		done := last == v.after || last >= top
		v.after = max(v.after, last)
		if done {
			break
		}
	}
	v.after = max(v.after, top)
	return v.send((&watchMessage{kind: new(watchSynced), cookie: v.s.key.Load().mint(v.ns, v.after)}).encode())
}

// resync begins again after a gap: where it began, or from the start if a
// removal is in it.
func (v *view) resync(lost *gap) error {
	v.s.counters.resyncs.Add(1)
	m := watchMessage{kind: new(watchResync)}
	if v.after = 0; !lost.removal {
		v.after = lost.from - 1
		m.cookie = v.s.key.Load().mint(v.ns, v.after)
	}
	if err := v.send(m.encode()); err != nil {
		return err
	}
	return v.snapshot()
}

func (v *view) show(queue []*news) error {
	for _, n := range queue {
		if v.shown(n) || v.s.allow(v.peer, n.e.space.ns) != nil {
			continue
		}
		frame := n.frame(v.flavours, v.ns, *v.s.key.Load(), v.s.reg.clock(time.Now()))
		if err := v.send(frame); err != nil {
			return err
		}
		v.s.counters.messages.Add(1)
	}
	return nil
}

// shown reports whether the last snapshot tells what n does: what came, it
// shows; what went, it may have shown as come again.
func (v *view) shown(n *news) bool {
	if n.seq > v.after {
		return false
	}
	if n.put() {
		return true
	}
	e := v.s.reg.current(n.e.key())
	return e != nil && e.seq > n.seq && e.seq <= v.after
}

func (v *view) send(frame []byte) error {
	if err := v.st.SetWriteDeadline(time.Now().Add(watchWrite)); err != nil {
		return err
	}
	return wire.WriteFrame(v.st, frame, len(frame))
}
