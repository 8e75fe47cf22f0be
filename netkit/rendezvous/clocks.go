package rendezvous

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"
)

const (
	// spaceServer is a server's clock, unix time in milliseconds, written every so often.
	spaceServer = "server/"
	clockEvery  = 2 * time.Second
	// clockApart is how far two clocks may be apart.
	clockApart = time.Second
	// clockTold is how long what a server told counts.
	clockTold = 5 * clockEvery
)

// clocks compares this server's clock with those of the others. What another one wrote comes late,
// never early: a time of the future proves a difference. Of two servers the one that is behind
// sees it; what it would count wrong is how long registrations of the other last, so that one stops.
type clocks struct {
	name string // of this server

	mu    sync.Mutex
	ahead time.Duration // of the clock of another one that is farthest ahead
	told  time.Time
}

// heard takes note of another server's clock.
func (c *clocks) heard(name string, value []byte, now time.Time) {
	ms, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || name == c.name {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ahead := time.UnixMilli(ms).Sub(now.Round(0))
	if ahead > c.ahead || now.Sub(c.told) > clockTold {
		c.ahead, c.told = ahead, now
	}
}

// check refuses when another server's clock is too far ahead of this one's.
func (c *clocks) check() *StatusError {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ahead > clockApart && time.Since(c.told) <= clockTold {
		return refusal(reasonClock, "clock is %d ms behind that of another server", c.ahead.Milliseconds())
	}
	return nil
}

// beat tells the other servers this one's clock, until the context ends, and notes whether it could.
func (b *shared) beat(ctx context.Context) {
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		now := time.Now()
		put := SpacePut{Key: spaceServer + b.clocks.name, Value: strconv.AppendInt(nil, now.UnixMilli(), 10), Expires: now.Add(time.Minute)}
		_, _, err := b.space.Commit(ctx, SpaceWrite{Puts: []SpacePut{put}})
		if ctx.Err() != nil {
			return
		}
		b.health.note(func(h *health) {
			h.wrote, h.clock = err, nil
			if why := b.clocks.check(); why != nil {
				h.clock = errors.New(why.Text)
			}
		})
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
