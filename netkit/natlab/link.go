package natlab

import (
	"math/rand/v2"
	"time"
)

// DefaultLatency is the latency of links to the internet that name none: 10 ms
// one way between two machines, 20 ms there and back.
const DefaultLatency = 5 * time.Millisecond

// LinkConfig describes the link of a machine or router to the network it stands
// in. The zero value is a perfect link of DefaultLatency on the internet and of
// none in a LAN.
type LinkConfig struct {
	Latency time.Duration // one way; 0 means DefaultLatency on the internet and none in a LAN, negative means none
	Loss    float64       // share of packets lost in each direction, 0 to 1
	Rate    int           // bits a second in each direction; 0 means unlimited
	Queue   time.Duration // how long a packet may wait for its turn on a link with a Rate before it is dropped; 0 means 100 ms
}

const defaultQueue = 100 * time.Millisecond

// Link joins a machine or router to its network. It can be changed while packets
// are under way: what has left keeps its arrival time.
type Link struct {
	lab  *Lab
	name string

	cfg LinkConfig // guarded by lab.mu, as the following
	cut bool
	dir [2]direction
}

// direction is one way of a link.
type direction struct {
	rng  *rand.Rand
	busy time.Time // until when earlier packets occupy a link with a Rate
}

const (
	up   = iota // towards the network
	down        // from the network
)

// newLink makes the link of something that stands in n. The caller holds lab.mu.
func newLink(n *Network, name string, c LinkConfig) *Link {
	switch {
	case c.Latency < 0:
		c.Latency = 0
	case c.Latency == 0 && n.gateway == nil:
		c.Latency = DefaultLatency
	}
	if c.Queue == 0 {
		c.Queue = defaultQueue
	}
	l := &Link{lab: n.lab, name: name, cfg: c}
	for i := range l.dir {
		l.dir[i].rng = n.lab.rng()
	}
	return l
}

// Cut makes the link lose every packet from now on.
func (l *Link) Cut() { l.set(func() { l.cut = true }) }

// Restore undoes Cut.
func (l *Link) Restore() { l.set(func() { l.cut = false }) }

// SetLatency changes the latency, one way.
func (l *Link) SetLatency(d time.Duration) { l.set(func() { l.cfg.Latency = max(d, 0) }) }

// SetLoss changes the share of packets lost in each direction, 0 to 1.
func (l *Link) SetLoss(share float64) { l.set(func() { l.cfg.Loss = share }) }

func (l *Link) set(f func()) {
	l.lab.mu.Lock()
	defer l.lab.mu.Unlock()
	f()
}

// cross takes a packet over the link and calls next when it has arrived. The
// caller holds lab.mu.
func (l *Link) cross(now time.Time, way int, p packet, next func(now time.Time)) {
	d := &l.dir[way]
	lost := d.rng.Float64() < l.cfg.Loss // drawn for every packet, so that a cut does not shift later losses
	switch {
	case l.cut:
		l.lab.note(now, l.name, "lost: link is cut", p)
		return
	case lost:
		l.lab.note(now, l.name, "lost", p)
		return
	}
	wait, ok := d.reserve(now, p.size(), l.cfg)
	if !ok {
		l.lab.note(now, l.name, "lost: queue is full", p)
		return
	}
	l.lab.after(now, wait+l.cfg.Latency, next)
}

// reserve returns how long a packet takes to get onto the wire, its own length
// included; false when it would wait longer than the queue allows.
func (d *direction) reserve(now time.Time, size int, c LinkConfig) (time.Duration, bool) {
	if c.Rate == 0 {
		return 0, true
	}
	wait := max(d.busy.Sub(now), 0)
	if wait > c.Queue {
		return 0, false
	}
	wait += time.Duration(size) * 8 * time.Second / time.Duration(c.Rate)
	d.busy = now.Add(wait)
	return wait, true
}
