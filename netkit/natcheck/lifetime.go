package natcheck

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/nat"
	"dibber/netkit/vantage"
)

const (
	// lateGrace is how much later than asked for an answer may come.
	lateGrace = 2 * time.Second
	// lateCopies is how often each question is sent, for those that are lost.
	lateCopies = 5
)

// MaxLifetime is the longest that Config.Lifetime may be.
const MaxLifetime = vantage.MaxDelay

// lifetimeSteps are the times after which it is looked whether a mapping still lives.
func lifetimeSteps(most time.Duration) (steps []time.Duration) {
	for _, s := range []int{10, 15, 20, 30, 45, 60, 90, 120, 150, 180, 240, 300, 360, 480} {
		if step := time.Duration(s) * time.Second; step < most {
			steps = append(steps, step)
		}
	}
	return append(steps, most.Truncate(time.Second))
}

// reflects notes a reflector of a family; the first one counts.
func (c *check) reflects(at netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, taken := c.reflectors[familyOf(at.Addr())]; !taken {
		c.reflectors[familyOf(at.Addr())] = at
	}
}

// lifetimes finds out in each family that has a NAT how long it keeps a mapping that
// nothing is sent through. It takes as long as that, or Config.Lifetime.
func (c *check) lifetimes(ctx context.Context) {
	var all sync.WaitGroup
	for _, family := range []string{IP4, IP6} {
		c.mu.Lock()
		at, known := c.reflectors[family]
		p := nat.Classify(c.path(family, UDP))
		c.mu.Unlock()
		if known && p.NAT != nil && *p.NAT {
			all.Go(func() {
				found := c.lifetime(ctx, at)
				c.add(family, UDP, func(e *nat.Evidence) { e.Lifetime = found })
			})
		}
	}
	all.Wait()
}

// lifetime has a reflector answer at each step, each to a socket of its own that sends
// nothing meanwhile. It is nil where that was cut short, or the reflector answers at once
// only.
func (c *check) lifetime(ctx context.Context, to netip.AddrPort) *nat.Lifetime {
	steps := lifetimeSteps(c.cfg.Lifetime)
	lives := make([]*bool, len(steps))
	var all sync.WaitGroup
	for i, step := range steps {
		all.Go(func() { lives[i] = c.outlives(ctx, to, step) })
	}
	all.Wait()
	var out nat.Lifetime
	for i, step := range steps {
		switch {
		case lives[i] == nil:
		case *lives[i]:
			out.AtLeastS, out.LessThanS = new(step.Seconds()), nil
		case out.LessThanS == nil:
			out.LessThanS = new(step.Seconds())
		}
	}
	if out.AtLeastS == nil && out.LessThanS == nil || ctx.Err() != nil {
		return nil
	}
	return &out
}

// outlives reports whether an answer comes in that is sent so long after the last that
// was sent out; nil where the reflector did not answer an ask for an answer without delay.
func (c *check) outlives(ctx context.Context, to netip.AddrPort, after time.Duration) *bool {
	wild := netip.IPv6Unspecified()
	if to.Addr().Is4() {
		wild = netip.IPv4Unspecified()
	}
	conn, err := c.n.ListenUDP(netip.AddrPortFrom(wild, 0))
	if err != nil {
		return nil
	}
	sock := vantage.NewClient(conn)
	defer func() { _ = sock.Close() }() // nothing was to be written any more
	soon, late := newID(), newID()
	for range lateCopies {
		if sock.ReflectLater(soon, to, 0) != nil || sock.ReflectLater(late, to, after) != nil {
			return nil
		}
		host.Pause(ctx, pace)
	}
	over := time.NewTimer(after + lateGrace)
	defer over.Stop()
	answers := false
	for {
		select {
		case r := <-sock.Replies():
			if r.From != to {
				continue
			}
			if answers = answers || r.ID == soon; r.ID == late {
				return new(true)
			}
		case <-over.C:
			if !answers {
				return nil
			}
			return new(false)
		case <-ctx.Done():
			return nil
		}
	}
}
