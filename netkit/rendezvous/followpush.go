package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

var (
	errSilent  = errors.New("no snapshot in time")
	errTooMany = errors.New("more registrations than are followed")
)

// push follows the push stream. It always returns an error, and when the first
// snapshot was complete; zero when it never was.
func (f *Follower) push(ctx context.Context) (synced time.Time, err error) {
	within, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	began := time.Now()
	p := &pushed{cfg: &f.cfg, tell: f.tell, cancel: cancel, began: began, snapshot: &FollowerEvent{Kind: FollowerAll, asked: began}}
	p.patience = time.AfterFunc(f.cfg.Timeout, func() { cancel(errSilent) })
	defer p.patience.Stop()
	err = Watch(network.WithNoDial(within, "connected before"), f.host, f.cfg.Server, WatchRequest{Namespace: f.cfg.Namespace, Format: f.cfg.Format}, p.on)
	if ctx.Err() == nil && within.Err() != nil {
		err = fmt.Errorf("watch: %w", context.Cause(within))
	}
	return p.synced, err
}

// pushed makes events of what a push stream tells.
type pushed struct {
	cfg      *FollowerConfig
	tell     func(FollowerEvent)
	cancel   context.CancelCauseFunc
	patience *time.Timer
	began    time.Time
	synced   time.Time
	// snapshot is the one under way; nil between snapshots.
	snapshot *FollowerEvent
}

func (p *pushed) on(e WatchEvent) {
	now := time.Now()
	switch e.Kind {
	case WatchResync:
		p.snapshot = &FollowerEvent{Kind: FollowerNews, asked: now}
		if e.Full {
			p.snapshot.Kind = FollowerAll
		}
		p.patience.Reset(p.cfg.Timeout)
	case WatchSynced:
		p.patience.Stop()
		if p.snapshot == nil {
			return
		}
		done := *p.snapshot
		done.Via, p.snapshot = ViaPush, nil
		if done.At.IsZero() {
			done.At = now
		}
		if p.synced.IsZero() {
			p.synced, done.Answer, done.Took = now, true, now.Sub(p.began)
		}
		p.tell(done)
	case WatchRemove, WatchExpire:
		p.tell(FollowerEvent{Kind: FollowerGone, Via: ViaPush, Namespace: e.Namespace, Peer: e.Peer, At: now})
	case WatchSnapshot, WatchAdd, WatchRefresh:
		if p.snapshot == nil {
			p.tell(FollowerEvent{Kind: FollowerNews, Via: ViaPush, Entries: e.Entries, Skipped: e.Skipped, At: now, own: e.own})
			return
		}
		p.gather(now, e)
	}
}

// gather adds to the snapshot under way.
func (p *pushed) gather(now time.Time, e WatchEvent) {
	s := p.snapshot
	if len(s.Entries)+len(e.Entries) > p.cfg.Max {
		p.cancel(errTooMany)
		return
	}
	if s.At.IsZero() {
		s.At = now
	}
	s.Entries = append(s.Entries, e.Entries...)
	s.Skipped += e.Skipped
	s.own = s.own || e.own
}
