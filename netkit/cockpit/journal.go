package cockpit

import (
	"slices"
	"sync"
	"time"

	"dibber/netkit/gossip"
	"dibber/netkit/punch"
	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"
	"dibber/netkit/replicate"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"
)

// kept is how many of the last refusals and meetings are shown.
const kept = 50

// Refusal is something that a role of the node did not do for a peer.
type Refusal struct {
	At     time.Time `json:"at"` // the last time
	Role   string    `json:"role"`
	Peer   string    `json:"peer"`
	Reason string    `json:"reason"` // a stable word, or the library's own
	Detail string    `json:"detail,omitempty"`
	// Times is how often in a row.
	Times int `json:"times"`
}

// How a Meeting is known.
const (
	// ByOffer is an offer of one peer to meet another, which this relay carried, and its answer.
	ByOffer = "offer"
	// ByCircuit is a circuit that its ends gave up while both stay connected with this relay: a conclusion.
	ByCircuit = "circuit"
	// ByItself is a punch of this node's own.
	ByItself = "own"
)

// Meeting is two peers that mean to connect directly, as far as this node sees it.
type Meeting struct {
	At   time.Time `json:"at"`
	From string    `json:"from"`
	To   string    `json:"to"`
	How  string    `json:"how"`
	// Outcome is answered for an offer, left-relay for a circuit, and of its own punches what punch.Report says.
	Outcome string `json:"outcome"`
	Reason  string `json:"reason,omitempty"` // of a failure
	// TookMS is how long the offer, the relayed connection or the punch lasted.
	TookMS float64 `json:"took_ms"`
}

// settle is how long after its end a circuit is judged: who goes for good closes the connection with the relay next.
const settle = 3 * time.Second

// given is a circuit that its ends gave up.
type given struct {
	at       time.Time
	src, dst peer.ID
	age      time.Duration
}

// journal remembers and counts what is told of but stands nowhere afterwards.
type journal struct {
	requests *prometheus.HistogramVec // by type
	opening  prometheus.Histogram
	punches  *prometheus.CounterVec // by outcome
	sessions *prometheus.CounterVec // by result
	entries  *prometheus.CounterVec // by direction
	payload  *prometheus.CounterVec // by direction
	rejected prometheus.Counter
	live     prometheus.Counter

	mu       sync.Mutex // guards following
	refusals []Refusal  // the last one last
	meetings []Meeting
	left     []given
}

// The names of what a journal counts.
const (
	nameRequests = "dibber_rendezvous_request_seconds"
	nameOpening  = "dibber_relay_circuit_open_seconds"
	namePunches  = "dibber_punches_total"
	nameSessions = "dibber_replicate_sessions_total"
	nameEntries  = "dibber_replicate_entries_total"
	namePayload  = "dibber_replicate_bytes_total"
	nameRejected = "dibber_gossip_rejected_total"
	nameLive     = "dibber_replicate_live_entries_total"
)

// buckets go from a lookup in memory to a disk that hangs.
func buckets() []float64 { return prometheus.ExponentialBuckets(0.0001, 4, 9) }

func newJournal(to prometheus.Registerer) *journal {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	j := &journal{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: nameRequests, Help: "How long the rendezvous point worked on requests that it granted, disk included.", Buckets: buckets(),
		}, []string{"type"}),
		opening: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: nameOpening, Help: "How long circuits took to open, the answer of the destination included.", Buckets: buckets(),
		}),
		punches:  counter(namePunches, "Hole punches of this node by outcome.", "outcome"),
		sessions: counter(nameSessions, "Sessions of replication that ended, by result.", "result"),
		entries:  counter(nameEntries, "Entries of logs that sessions replicated, by direction.", "direction"),
		payload:  counter(namePayload, "Bytes of entries that sessions replicated, by direction.", "direction"),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{Name: nameRejected, Help: "Messages of gossip that were not taken."}),
		live:     prometheus.NewCounter(prometheus.CounterOpts{Name: nameLive, Help: "Entries that came by gossip as they were signed."}),
	}
	to.MustRegister(j.requests, j.opening, j.punches, j.sessions, j.entries, j.payload, j.rejected, j.live)
	return j
}

// note takes what happened.
func (j *journal) note(now time.Time, e serve.Event, v *view) {
	switch {
	case e.Relayed != nil:
		j.noteRelay(now, *e.Relayed)
	case e.Rendezvous != nil:
		j.noteRendezvous(now, *e.Rendezvous)
	case e.Punch != nil && e.Punch.Report != nil:
		j.notePunch(now, *e.Punch.Report, v)
	case e.Replicated != nil:
		j.noteSession(now, *e.Replicated)
	case e.Lived != nil:
		j.live.Inc()
	case e.Gossip != nil && e.Gossip.Kind == gossip.Rejected:
		j.rejected.Inc()
		j.refuse(Refusal{At: now, Role: serve.RolePubsub, Peer: e.Gossip.Peer.String(), Reason: e.Gossip.Reason})
	}
}

func (j *journal) noteRelay(now time.Time, e relay.Event) {
	switch e.Kind {
	case relay.EventReservationRefused, relay.EventCircuitRefused, relay.EventRefused:
		j.refuse(Refusal{At: now, Role: serve.RoleRelay, Peer: e.Peer.String(), Reason: string(e.Reason)})
	case relay.EventCircuitOpened:
		j.opening.Observe(e.Took.Seconds())
	case relay.EventOfferCarried:
		j.meet(Meeting{At: now, From: e.Peer.String(), To: e.Destination.String(), How: ByOffer, Outcome: "answered", TookMS: millis(e.Took)})
	case relay.EventCircuitClosed:
		if e.Reason == relay.ReasonFinished || e.Reason == relay.ReasonSourceGone || e.Reason == relay.ReasonDestinationGone {
			j.mu.Lock()
			j.left = last(append(j.left, given{now, e.Peer, e.Destination, e.Age}))
			j.mu.Unlock()
		}
	default: // of reservations there is a list
	}
}

func (j *journal) noteRendezvous(now time.Time, e rendezvous.Event) {
	switch e.Kind {
	case rendezvous.EventRefused:
		j.refuse(Refusal{At: now, Role: serve.RoleRendezvous, Peer: e.Peer.String(), Reason: e.Status.String(), Detail: e.Text})
	case rendezvous.EventRegister, rendezvous.EventRefresh, rendezvous.EventDiscover:
		j.requests.WithLabelValues(string(e.Kind)).Observe(e.Took.Seconds())
	default: // nobody waited for it
	}
}

func (j *journal) notePunch(now time.Time, r punch.Report, v *view) {
	j.punches.WithLabelValues(r.Outcome).Inc()
	m := Meeting{At: now, To: r.Peer.String(), How: ByItself, Outcome: r.Outcome, TookMS: millis(now.Sub(r.Started))}
	if v != nil {
		m.From = v.n.ID().String()
	}
	if r.Role == punch.Responder {
		m.From, m.To = m.To, m.From
	}
	if r.Reason != nil {
		m.Reason = *r.Reason
	}
	j.meet(m)
}

func (j *journal) noteSession(now time.Time, e replicate.Event) {
	result := "converged"
	switch {
	case e.Err != nil:
		result = "failed"
		j.refuse(Refusal{At: now, Role: serve.RoleReplicate, Peer: e.Peer.String(), Reason: "session failed", Detail: e.Err.Error()})
	case !e.Result.Converged:
		result = "differs"
	}
	j.sessions.WithLabelValues(result).Inc()
	for direction, n := range map[string]replicate.Count{"pulled": e.Result.Pulled, "pushed": e.Result.Pushed} {
		j.entries.WithLabelValues(direction).Add(float64(n.Entries))
		j.payload.WithLabelValues(direction).Add(float64(n.Bytes))
	}
}

// refuse adds a refusal, or counts one more of the last.
func (j *journal) refuse(r Refusal) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r.Times = 1
	if n := len(j.refusals) - 1; n >= 0 {
		if was := j.refusals[n]; was.Role == r.Role && was.Peer == r.Peer && was.Reason == r.Reason {
			r.Times += was.Times
			j.refusals = j.refusals[:n]
		}
	}
	j.refusals = last(append(j.refusals, r))
}

func (j *journal) meet(m Meeting) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.meetings = last(append(j.meetings, m))
}

// last keeps the last of a list.
func last[T any](list []T) []T {
	if len(list) > kept {
		list = slices.Clone(list[len(list)-kept:])
	}
	return list
}

// settled judges the circuits that were given up long enough ago, by who is still connected.
func (j *journal) settled(now time.Time, connected func(peer.ID) bool) {
	j.mu.Lock()
	var due []given
	j.left = slices.DeleteFunc(j.left, func(g given) bool {
		if now.Sub(g.at) < settle {
			return false
		}
		due = append(due, g)
		return true
	})
	j.mu.Unlock()
	for _, g := range due {
		if connected(g.src) && connected(g.dst) {
			j.meet(Meeting{At: g.at, From: g.src.String(), To: g.dst.String(), How: ByCircuit, Outcome: "left-relay", TookMS: millis(g.age)})
		}
	}
}

// lists are the last refusals and meetings, the latest first.
func (j *journal) lists() (refusals []Refusal, meetings []Meeting) {
	j.mu.Lock()
	defer j.mu.Unlock()
	refusals, meetings = slices.Clone(j.refusals), slices.Clone(j.meetings)
	slices.Reverse(refusals)
	slices.Reverse(meetings)
	return refusals, meetings
}

// millis is a duration in documents.
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
