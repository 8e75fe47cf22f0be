package serve_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// meetings is how many others a private host tries to reach at a checkpoint.
const meetings = 4

// meeting is how many of them try at once, and rest how long the network has then to close connections that are beyond its limit:
// a relay that has no room for one more cannot connect anybody.
func (c *crowd) meeting() int { return c.size / 4 }

const rest = 10 * time.Second

// meet has private hosts reach others by their peer ids alone.
func (c *crowd) meet(out *look) {
	shut := slices.DeleteFunc(slices.Clone(c.all), func(m member) bool { return m.public })
	var met, unknown atomic.Int64
	for left := meetings * len(shut); left > 0; left -= c.meeting() {
		var all sync.WaitGroup
		for range min(left, c.meeting()) {
			from, to := shut[c.rng.IntN(len(shut))], shut[c.rng.IntN(len(shut))]
			if from.ID() == to.ID() {
				continue
			}
			out.Looked++
			all.Go(func() {
				switch known, err := c.reaches(from, to); {
				case err == nil:
					met.Add(1)
				case !known:
					unknown.Add(1)
				}
			})
		}
		all.Wait()
		time.Sleep(rest)
	}
	out.Found, out.Unknown = int(met.Load()), int(unknown.Load())
}

// reaches has one host look for another one and connect with it for a moment. It is known if its addresses were found.
func (c *crowd) reaches(from, to member) (known bool, err error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	found, _, err := from.s.Route().FindPeer(ctx, to.ID(), nil)
	if err != nil {
		return false, err
	}
	if _, err := from.Dial(ctx, to.ID(), found.Addrs); err != nil {
		return true, err
	}
	_ = from.Network().ClosePeer(to.ID())
	return true, nil
}
