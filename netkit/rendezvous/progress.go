package rendezvous

import (
	"context"
	"fmt"
	"sync"
)

// progress is how far a replica has come, and who waits for it to come farther. Its zero value has
// come nowhere.
type progress struct {
	mu      sync.Mutex
	reached uint64
	moved   chan struct{} // closed with the next step; nil when nobody waits
}

func (p *progress) reach(revision uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reached = max(p.reached, revision)
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

// await returns once a revision is reached.
func (p *progress) await(ctx context.Context, revision uint64) error {
	for {
		p.mu.Lock()
		if p.reached >= revision {
			p.mu.Unlock()
			return nil
		}
		if p.moved == nil {
			p.moved = make(chan struct{})
		}
		moved := p.moved
		p.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("await revision %d: %w", revision, ctx.Err())
		}
	}
}

// barrier asks a space for its head, once for all who ask while the last answer is awaited. Its
// zero value is ready.
type barrier struct {
	mu      sync.Mutex
	next    *round
	running bool
}

// round is one question. It is asked after everybody who waits for it came.
type round struct {
	done     chan struct{}
	revision uint64
	err      error
}

// head returns the revision of the space's last change, not older than the call.
func (b *barrier) head(ctx context.Context, space Space, running *sync.WaitGroup) (uint64, error) {
	b.mu.Lock()
	if b.next == nil {
		b.next = &round{done: make(chan struct{})}
	}
	r := b.next
	if !b.running {
		b.running = true
		running.Go(func() { b.ask(space) })
	}
	b.mu.Unlock()
	select {
	case <-r.done:
		return r.revision, r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// headTries is how often a space is asked: one member of it may be away, and another one not.
const headTries = 2

// ask answers rounds until nobody waits. A space bounds its own requests.
func (b *barrier) ask(space Space) {
	for {
		b.mu.Lock()
		r := b.next
		b.next = nil
		b.running = r != nil
		b.mu.Unlock()
		if r == nil {
			return
		}
		for range headTries {
			if _, r.revision, r.err = space.Get(context.Background(), spaceHead); r.err == nil {
				break
			}
		}
		close(r.done)
	}
}
