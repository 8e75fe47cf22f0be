package route

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"math"
	"math/bits"
	"sync"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	kb "github.com/libp2p/go-libp2p-kbucket"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Outcome is how a request to a peer ended.
type Outcome string

// The outcomes.
const (
	Answered    Outcome = "answered"
	Unreachable Outcome = "unreachable" // it could not be dialled
	NoDHT       Outcome = "no_dht"      // it does not speak the protocol
	Rejected    Outcome = "refused"     // it reset the stream
	TimedOut    Outcome = "timeout"     // it did not answer in time
	Cancelled   Outcome = "cancelled"   // the lookup had ended before
	Failed      Outcome = "failed"      // anything else
)

// Step is one request of a lookup, or a dial that failed.
type Step struct {
	N       int     `json:"n"` // from 1, by their ends
	Peer    peer.ID `json:"peer"`
	Addr    *string `json:"addr"`    // where it was reached; null: it was not
	Request *string `json:"request"` // find_node, get_value, put_value, get_providers or add_provider; null: it came to none
	// Hop is how many peers stand between this node's own table, which is hop 1, and the news of this peer.
	Hop    int      `json:"hop"`
	ToldBy *peer.ID `json:"told_by"` // who named it first; null: the own table
	// Distance is the exclusive or of the keys (SHA-256) of peer and target in hex, CommonBits how many zero bits it begins with.
	Distance   string   `json:"distance"`
	CommonBits int      `json:"common_bits"`
	StartMS    float64  `json:"start_ms"` // since the lookup began
	DialMS     *float64 `json:"dial_ms"`  // null: it was connected, or the dial was another step's
	QueryMS    *float64 `json:"query_ms"` // from the request to the end of the answer; null: no request
	RTTms      *float64 `json:"rtt_ms"`   // from the request to the first byte of the answer; null: no answer
	Outcome    Outcome  `json:"outcome"`
	Closer     *int     `json:"closer"`    // peers named; null: no answer
	Providers  *int     `json:"providers"` // providers named; null: not asked for
	Record     *bool    `json:"record"`    // whether it had the record; null: not asked for
	Error      *string  `json:"error"`
}

// Lookup sums up a lookup.
type Lookup struct {
	Asked    int     `json:"asked"`    // peers that were asked something
	Answered int     `json:"answered"` // of them
	Failed   int     `json:"failed"`   // peers that could not be reached, refused or did not answer
	Hops     int     `json:"hops"`     // the largest hop of a peer that answered
	MS       float64 `json:"ms"`
	DialMS   float64 `json:"dial_ms"`  // of all dials added up, many of which ran at once
	QueryMS  float64 `json:"query_ms"` // of all requests added up
	Steps    []Step  `json:"-"`        // in the order in which they ended
}

// trace collects the steps of one lookup. A nil trace collects nothing.
type trace struct {
	target kb.ID
	began  time.Time
	on     func(Step)
	spare  peer.ID // who is not to be dialled; empty: all may be

	mu    sync.Mutex
	steps []Step
	dials map[peer.ID]dialled
	hops  map[peer.ID]hop // of peers that were named
}

// dialled is a dial that no request has followed yet.
type dialled struct{ began, ended time.Time }

// hop is how a peer came into the lookup.
type hop struct {
	n      int
	toldBy peer.ID
}

type traceKey struct{}

// traceOf is the trace of a context; nil for none.
func traceOf(ctx context.Context) *trace {
	t, _ := ctx.Value(traceKey{}).(*trace)
	return t
}

// trace begins one for a lookup of key; on is told of each step, one at a time, unless it is nil.
func (s *Service) trace(ctx context.Context, key string, on func(Step)) (context.Context, *trace) {
	if on == nil {
		on = func(Step) {}
	}
	t := &trace{target: kb.ConvertKey(key), began: time.Now(), on: on, dials: make(map[peer.ID]dialled), hops: make(map[peer.ID]hop)}
	return context.WithValue(ctx, traceKey{}, t), t
}

// spares reports whether a peer is not to be dialled.
func (t *trace) spares(p peer.ID) bool { return t != nil && p == t.spare }

// named reports whether anybody named a peer.
func (t *trace) named(p peer.ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, is := t.hops[p]
	return is
}

// dialled notes the end of a dial. One that succeeded is told with the request that follows it.
func (t *trace) dialled(p peer.ID, _ network.Conn, began, ended time.Time, err error) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.dials[p] = dialled{began, ended}
		return
	}
	st := t.step(p, began)
	st.DialMS, st.Error = new(ms(ended.Sub(began))), new(err.Error())
	st.Outcome = Unreachable
	if errors.Is(err, context.Canceled) {
		st.Outcome = Cancelled
	}
	t.add(st)
}

// query is one request and its end.
type query struct {
	peer                peer.ID
	conn                network.Conn // nil: it could not be dialled
	request             string
	began, first, ended time.Time
	answer              *pb.Message // nil: none was to come
	err                 error
}

// asked notes the end of a request.
func (t *trace) asked(q query) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	began := q.began
	d, fresh := t.dials[q.peer]
	if fresh {
		began = d.began
		delete(t.dials, q.peer)
	}
	st := t.step(q.peer, began)
	st.Request, st.QueryMS = &q.request, new(ms(q.ended.Sub(q.began)))
	if fresh {
		st.DialMS = new(ms(d.ended.Sub(d.began)))
	}
	if q.conn != nil {
		st.Addr = new(q.conn.RemoteMultiaddr().String())
	}
	if !q.first.IsZero() {
		st.RTTms = new(ms(q.first.Sub(q.began)))
	}
	st.Outcome = outcomeOf(q)
	if q.err != nil {
		st.Error = new(q.err.Error())
	} else if q.answer != nil {
		t.heard(&st, q)
	}
	t.add(st)
}

// outcomeOf gives the error of a request its class.
func outcomeOf(q query) Outcome {
	switch {
	case q.err == nil:
		return Answered
	case errors.Is(q.err, ErrNoDHT):
		return NoDHT
	case errors.Is(q.err, ErrRefused):
		return Rejected
	case errors.Is(q.err, context.Canceled):
		return Cancelled
	case errors.Is(q.err, context.DeadlineExceeded):
		return TimedOut
	case q.conn == nil:
		return Unreachable
	}
	return Failed
}

// heard takes what an answer says. The caller holds t.mu.
func (t *trace) heard(st *Step, q query) {
	closer := q.answer.GetCloserPeers()
	st.Closer = new(len(closer))
	switch q.request {
	case "get_providers":
		st.Providers = new(len(q.answer.GetProviderPeers()))
	case "get_value":
		st.Record = new(q.answer.GetRecord() != nil)
	}
	for _, c := range closer {
		id := peer.ID(c.GetId())
		if _, known := t.hops[id]; !known && id != q.peer {
			t.hops[id] = hop{st.Hop + 1, q.peer}
		}
	}
}

// step begins the account of one. The caller holds t.mu.
func (t *trace) step(p peer.ID, began time.Time) Step {
	h, told := t.hops[p]
	if !told {
		h = hop{n: 1}
		t.hops[p] = h
	}
	st := Step{Peer: p, Hop: h.n, StartMS: ms(began.Sub(t.began))}
	if h.toldBy != "" {
		st.ToldBy = &h.toldBy
	}
	st.Distance, st.CommonBits = distance(p, t.target)
	return st
}

func (t *trace) add(st Step) {
	st.N = len(t.steps) + 1
	t.steps = append(t.steps, st)
	t.on(st)
}

// end sums up.
func (t *trace) end() Lookup {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := Lookup{MS: ms(time.Since(t.began)), Steps: t.steps}
	asked, answered, failed := make(map[peer.ID]bool), make(map[peer.ID]bool), make(map[peer.ID]bool)
	for _, st := range t.steps {
		if st.Request != nil {
			asked[st.Peer] = true
		}
		switch st.Outcome {
		case Answered:
			answered[st.Peer] = true
			out.Hops = max(out.Hops, st.Hop)
		case Cancelled:
		default:
			failed[st.Peer] = true
		}
		out.DialMS += orZero(st.DialMS)
		out.QueryMS += orZero(st.QueryMS)
	}
	out.DialMS, out.QueryMS = math.Round(out.DialMS*1000)/1000, math.Round(out.QueryMS*1000)/1000
	out.Asked, out.Answered, out.Failed = len(asked), len(answered), len(failed)
	return out
}

func orZero(p *float64) float64 {
	if p == nil {
		return 0
	}
	return *p
}

// distance is the exclusive or of the keys of a peer and a target, and how many zero bits it begins with.
func distance(p peer.ID, target kb.ID) (xor string, common int) {
	own := kb.ConvertPeerID(p)
	out := make([]byte, len(own))
	for i := range own {
		out[i] = own[i] ^ target[i]
	}
	for _, b := range out {
		if b != 0 {
			common += bits.LeadingZeros8(b)
			break
		}
		common += 8
	}
	return hex.EncodeToString(out), common
}

// ms is d in milliseconds with microsecond precision.
func ms(d time.Duration) float64 { return math.Round(float64(d)/float64(time.Microsecond)) / 1000 }

// CompareDistance is negative if the key of a is closer than that of b to the key of target, positive if it is farther.
func CompareDistance(target, a, b peer.ID) int {
	to := kb.ConvertPeerID(target)
	x, _ := distance(a, to)
	y, _ := distance(b, to)
	return cmp.Compare(x, y)
}
