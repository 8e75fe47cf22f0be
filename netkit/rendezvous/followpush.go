package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"time"
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
	p := &pushed{cfg: &f.cfg, cancel: cancel, began: time.Now(), snapshot: &FollowerEvent{Kind: FollowerAll}}
	p.patience = time.AfterFunc(f.cfg.Timeout, func() { cancel(errSilent) })
	defer p.patience.Stop()
	err = Watch(within, f.host, f.cfg.Server, WatchRequest{Namespace: f.cfg.Namespace, Format: f.cfg.Format}, p.on)
	if ctx.Err() == nil && within.Err() != nil {
		err = fmt.Errorf("watch: %w", context.Cause(within))
	}
	return p.synced, err
}

// pushed makes events of what a push stream tells.
type pushed struct {
	cfg      *FollowerConfig
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
		p.snapshot = &FollowerEvent{Kind: FollowerNews}
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
		p.cfg.On(done)
	case WatchRemove, WatchExpire:
		p.cfg.On(FollowerEvent{Kind: FollowerGone, Via: ViaPush, Namespace: e.Namespace, Peer: e.Peer})
	case WatchSnapshot, WatchAdd, WatchRefresh:
		if p.snapshot == nil {
			p.cfg.On(FollowerEvent{Kind: FollowerNews, Via: ViaPush, Entries: e.Entries, Skipped: e.Skipped, At: now})
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
}
