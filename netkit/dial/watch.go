package dial

import (
	"math"
	"slices"
	"time"

	"dibber/netkit/ping"
)

// None is the word for the path while there is no connection.
const None = "none"

// The words of Change.Cause: why a path was lost, then why there is another one.
const (
	CauseSilent     = "silent"      // the peer did not answer any more
	CauseMoved      = "moved"       // the address of this host changed, its own or that of the NAT before it
	CausePeerClosed = "peer-closed" // the peer closed the connection
	CausePeerForgot = "peer-forgot" // the peer knew nothing of the connection any more, as after a restart
	CauseRelayLimit = "relay-limit" // the relay's time or bytes were used up
	CauseRelayEnded = "relay-ended" // the relay ended the connection before, as its operator may
	CauseError      = "error"       // another error; Detail has its text
	CauseUpgraded   = "upgraded"    // a direct connection came about beside the relayed one
	CauseRedialled  = "redialled"   // this host dialled again
	CauseCalled     = "called"      // the peer dialled this host
)

// Change is a switch from one path to another.
type Change struct {
	AtMS   float64  `json:"at_ms"` // after the start of the dial
	From   string   `json:"from"`  // direct, relayed, punched or none
	To     string   `json:"to"`
	Addr   string   `json:"addr"`    // of the peer on the new path; on the old one when there is no new one
	Cause  *string  `json:"cause"`   // null: not known
	Detail *string  `json:"detail"`  // the error behind the cause; null: there is none
	DownMS *float64 `json:"down_ms"` // how long no path worked until then; null: none works yet
}

// PathStats sums up one kind of path.
type PathStats struct {
	Path     string   `json:"path"`
	UpMS     float64  `json:"up_ms"` // how long it was in use
	Sent     int      `json:"sent"`  // pings, one a second
	Received int      `json:"received"`
	Loss     *float64 `json:"loss"`   // share of pings that stayed without an answer; null: none was sent
	P50      *float64 `json:"p50_ms"` // of the last 3600 round trips, as the 95th percentile; null: no ping was answered
	P95      *float64 `json:"p95_ms"`
	Max      *float64 `json:"max_ms"` // of all round trips
}

const (
	// keptRTTs is of how many round trips percentiles are made: an hour's.
	keptRTTs = 3600
	// keptChanges is how many changes are kept, the newest: a path that comes and
	// goes for weeks is to need no more memory for it.
	keptChanges = 1000
)

// cause is why a path changed; the zero value is not known.
type cause struct{ word, detail string }

// ladder keeps the record of the paths to one peer. It does no I/O and is told the
// time.
type ladder struct {
	start   time.Time // of the dial
	path    string    // of now
	addr    string
	since   time.Time // when that came about
	mute    time.Time // when the first of the pings was sent that had no answer since one had; zero: none
	lost    string    // the path before none
	down    time.Time // since when no path works; of none only
	changes []Change
	omitted int // changes that are not kept
	stats   []*tally
}

// tally are the pings on one kind of path.
type tally struct {
	path           string
	up             time.Duration // not counting the time since it was taken last
	sent, received int
	rtts           []float64 // the last ones; a ring once it is full
	most           float64
}

// newLadder begins the record with the path of now.
func newLadder(start, now time.Time, path, addr string) *ladder {
	return &ladder{start: start, path: path, addr: addr, since: now}
}

// of is the tally of a path.
func (l *ladder) of(path string) *tally {
	i := slices.IndexFunc(l.stats, func(t *tally) bool { return t.path == path })
	if i < 0 {
		i = len(l.stats)
		l.stats = append(l.stats, &tally{path: path})
	}
	return l.stats[i]
}

// pinged takes note of a ping that was sent over a path, and of its round trip time;
// nil: no answer came.
func (l *ladder) pinged(sent time.Time, path string, rtt *float64) {
	t := l.of(path)
	t.sent++
	if rtt != nil {
		if t.received++; len(t.rtts) < keptRTTs {
			t.rtts = append(t.rtts, *rtt)
		} else {
			t.rtts[(t.received-1)%keptRTTs] = *rtt
		}
		t.most = max(t.most, *rtt)
	}
	switch {
	case l.path == None && path == l.lost && rtt == nil && sent.Before(l.down):
		l.down = sent // told of after the loss, but sent before
	case path != l.path || sent.Before(l.since):
	case rtt != nil:
		l.mute = time.Time{}
	case l.mute.IsZero():
		l.mute = sent
	}
}

// move takes note that another path is in use since a moment, or none; nil if it is
// the same as before. No path works from the first ping without an answer, or else
// from the loss, until the next one stands.
func (l *ladder) move(at time.Time, path, addr string, why cause) *Change {
	if path == l.path && (addr == l.addr || path == None) {
		return nil
	}
	c := Change{AtMS: *ms(l.start, at), From: l.path, To: path, Addr: addr, Cause: optional(why.word), Detail: optional(why.detail)}
	if l.path != None {
		l.of(l.path).up += at.Sub(l.since)
		l.lost, l.down = l.path, at
		if !l.mute.IsZero() {
			l.down = l.mute
		}
	}
	if path == None {
		c.Addr = l.addr
	} else {
		c.DownMS = new(ping.Milliseconds(max(0, at.Sub(l.down))))
	}
	l.path, l.addr, l.since, l.mute = path, c.Addr, at, time.Time{}
	if l.changes = append(l.changes, c); len(l.changes) > keptChanges {
		l.changes = slices.Delete(l.changes, 0, 1)
		l.omitted++
	}
	return &c
}

// paths sums up what is known at a moment, in the order in which the paths were
// first used.
func (l *ladder) paths(now time.Time) []PathStats {
	if l.path != None {
		l.of(l.path) // also one that was never pinged
	}
	out := []PathStats{}
	for _, t := range l.stats {
		s := PathStats{Path: t.path, Sent: t.sent, Received: t.received}
		up := t.up
		if t.path == l.path {
			up += now.Sub(l.since)
		}
		s.UpMS = ping.Milliseconds(up)
		if t.sent > 0 {
			s.Loss = new(float64(t.sent-t.received) / float64(t.sent))
		}
		if t.received > 0 {
			sorted := slices.Sorted(slices.Values(t.rtts))
			s.P50, s.P95, s.Max = new(rank(sorted, 0.5)), new(rank(sorted, 0.95)), new(t.most)
		}
		out = append(out, s)
	}
	return out
}

// rank is the nearest-rank percentile of sorted values, of which there is one.
func rank(sorted []float64, share float64) float64 {
	return sorted[int(math.Ceil(share*float64(len(sorted))))-1]
}
