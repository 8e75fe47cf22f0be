package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"dibber/netkit/rendezvous"
)

// pace is how often a peer makes a request of each kind: as often as the server lets it.
const pace = 50 * time.Millisecond

// asking is how many of them do at the same time.
const asking = 32

// page is how many registrations are asked for at once.
const page = 10

// load is what the server is kept busy with. It returns how much was done.
type load struct {
	name string
	run  func(s *scene, ctx context.Context, d time.Duration) (float64, error)
}

func loads() []load {
	return []load{{"seconds of rest", (*scene).rest}, {"MB carried", (*scene).carry}, {"requests", (*scene).request}}
}

// rest asks for nothing beyond what the server holds.
func (s *scene) rest(ctx context.Context, d time.Duration) (float64, error) {
	return d.Seconds(), pause(ctx, d)
}

// carry has some circuits carry what they can.
func (s *scene) carry(_ context.Context, d time.Duration) (float64, error) {
	before, end := s.received.Load(), time.Now().Add(d)
	var sending sync.WaitGroup
	for _, st := range s.streams[:busy] {
		if err := st.SetWriteDeadline(end); err != nil {
			return 0, err
		}
		sending.Go(func() {
			data := make([]byte, chunk)
			for {
				if _, err := st.Write(data); err != nil {
					return // the deadline; what else there may be shows in what is received
				}
			}
		})
	}
	sending.Wait()
	done := s.received.Load() - before
	if time.Now().Before(end) || done == 0 {
		return 0, errors.New("the circuits ended")
	}
	return float64(done) / 1e6, nil
}

// request has all peers register again and look others up by turns.
func (s *scene) request(ctx context.Context, d time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var running sync.WaitGroup
	var done atomic.Int64
	var failed atomic.Pointer[error]
	for w := range asking {
		running.Go(func() {
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for ctx.Err() == nil {
				for i := w; i < len(s.peers); i += asking {
					if err := s.ask(ctx, i, &done); ctx.Err() == nil && err != nil {
						failed.Store(&err)
						return
					}
				}
				select {
				case <-ctx.Done():
				case <-tick.C:
				}
			}
		})
	}
	running.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(done.Load()), nil
}

// ask has a peer register again and look others up.
func (s *scene) ask(ctx context.Context, i int, done *atomic.Int64) error {
	h, ns := s.peers[i], namespace(i)
	if err := s.register(ctx, h, ns); err != nil {
		return err
	}
	done.Add(1)
	_, err := rendezvous.Discover(ctx, h, s.node.Info, rendezvous.DiscoverRequest{Namespace: ns, Limit: page, Format: rendezvous.FormatStandard})
	if err == nil {
		done.Add(1)
	}
	return err
}
