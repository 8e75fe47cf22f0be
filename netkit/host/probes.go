package host

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// ProbesPerMinute is how many packets a node sends within a minute to ports of one
	// address where it does not know anybody to listen (an IPv6 /56 counts as one).
	ProbesPerMinute = 2048
	// ProbesPerSecond is how many of them it sends to all addresses together.
	ProbesPerSecond = 1000
	// probesAtOnce is how many may leave together.
	probesAtOnce = 8
	// probedKeys is how many addresses may be probed within a minute.
	probedKeys = 256
)

// ErrProbesSpent means that an address has been sent as many probes as it may.
var ErrProbesSpent = errors.New("no more probes for this address within the minute")

// probeBudget counts the probes of one node, whoever sends them.
type probeBudget struct {
	once sync.Once
	rate *rate.Limiter

	mu   sync.Mutex // guards following
	sent map[netip.Prefix]*probesSent
	// began is when the first was counted. Seconds are counted from there, since the wall clock may be set.
	began time.Time
}

// probesSent counts by second, each in the place of its number modulo their count: one
// more than a minute has, since the first and the last are not whole.
type probesSent [61]struct {
	second int64
	count  int
}

func (p *probesSent) total(now int64) (n int) {
	for _, s := range p {
		if s.second > now-int64(len(p)) {
			n += s.count
		}
	}
	return n
}

// AwaitProbe returns when one more probe may be sent to an address. It fails with
// ErrProbesSpent, or as ctx does.
func (n *Node) AwaitProbe(ctx context.Context, to netip.Addr) error {
	b := &n.probes
	b.once.Do(func() { b.rate = rate.NewLimiter(ProbesPerSecond, probesAtOnce) })
	if err := b.rate.Wait(ctx); err != nil {
		return err
	}
	return b.take(time.Now(), sourceOf(to), 1)
}

// ProbesOfDial is how many probes a dial counts as that a stranger may have brought about:
// the packets of a handshake that nobody answers.
const ProbesOfDial = 64

// SpendDial counts a dial at an address as probes, without waiting. It fails with
// ErrProbesSpent.
func (n *Node) SpendDial(to netip.Addr) error {
	return n.probes.take(time.Now(), sourceOf(to), ProbesOfDial)
}

// RefundDial takes back one SpendDial of an address at which the dial, or the peer's own,
// was answered: its packets were wanted there.
func (n *Node) RefundDial(to netip.Addr) {
	n.probes.give(sourceOf(to), ProbesOfDial)
}

// give takes back what was counted, the latest first.
func (b *probeBudget) give(to netip.Prefix, count int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.sent[to]
	for count > 0 && p != nil {
		latest := -1
		for i, s := range p {
			if s.count > 0 && (latest < 0 || s.second > p[latest].second) {
				latest = i
			}
		}
		if latest < 0 {
			return
		}
		less := min(count, p[latest].count)
		p[latest].count -= less
		count -= less
	}
}

func (b *probeBudget) take(at time.Time, to netip.Prefix, count int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sent == nil {
		b.sent, b.began = make(map[netip.Prefix]*probesSent), at
	}
	now := max(0, int64(at.Sub(b.began)/time.Second)) // who read the clock before the first may come after it
	p := b.sent[to]
	if p == nil {
		if !b.makeRoom(now) {
			return ErrProbesSpent
		}
		p = new(probesSent)
		b.sent[to] = p
	}
	if p.total(now)+count > ProbesPerMinute {
		return ErrProbesSpent
	}
	s := &p[now%int64(len(p))]
	if s.second != now {
		s.second, s.count = now, 0
	}
	s.count += count
	return nil
}

// makeRoom forgets addresses that were not probed for a minute; false if there are
// too many others.
func (b *probeBudget) makeRoom(now int64) bool {
	if len(b.sent) < probedKeys {
		return true
	}
	for to, p := range b.sent {
		if p.total(now) == 0 {
			delete(b.sent, to)
		}
	}
	return len(b.sent) < probedKeys
}
