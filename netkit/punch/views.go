package punch

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/protocol"
)

// ViewsProtocol is how two hosts of ours tell each other what they saw of a punch,
// so that both have the same report: one request and one reply, each a View as
// JSON. DCUtR knows nothing like it.
const ViewsProtocol protocol.ID = "/dibber/punch/1.0.0"

const (
	// maxView is the largest report taken, in bytes.
	maxView = 32 << 10
	// viewTimeout is how long to wait for the other side's report, which it has at
	// about the same time.
	viewTimeout = 3 * time.Second
	// callTimeout is how long a peer that made an offer in vain may take to call through
	// the relay, and tellTimeout how long it may take then to tell what it saw.
	callTimeout = 5 * time.Second
	tellTimeout = 2 * time.Second
)

var errNoRun = errors.New("no such run")

// serveViews answers the other side's report with this side's.
func (s *Service) serveViews() *wire.Service {
	return wire.NewService(wire.ServiceConfig{
		Name: string(ViewsProtocol), MaxRequest: maxView, MaxReply: maxView, Timeout: 2 * viewTimeout,
		Rate: requestsPerSecond, Burst: requestBurst,
	}, s.takeView)
}

func (s *Service) takeView(ctx context.Context, req wire.Request) ([]byte, error) {
	theirs, err := parseView(req.Body)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	r := s.runs[req.Peer]
	s.mu.Unlock()
	if r == nil || r.role != Responder || r.id() != theirs.Run {
		return nil, errNoRun
	}
	ctx, cancel := context.WithTimeout(ctx, viewTimeout)
	defer cancel()
	select {
	case <-r.settled:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	own, err := json.Marshal(r.own().View)
	if err != nil {
		return nil, fmt.Errorf("encode report: %w", err)
	}
	select {
	case r.theirs <- theirs:
	default: // told before
	}
	return own, nil
}

// parseView reads what the other side reports. Its text is shown to people.
func parseView(raw []byte) (v View, err error) {
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, fmt.Errorf("%w: report: %w", errProtocol, err)
	}
	if len(v.Run) != 2*runBytes {
		return v, fmt.Errorf("%w: report of run %q", errProtocol, v.Run)
	}
	return v, nil
}

// exchangeViews gets the other side's report and gives it this side's. A peer that
// is not one of ours has none.
func (s *Service) exchangeViews(r *run) {
	ctx, cancel := context.WithTimeout(s.ctx, 2*viewTimeout)
	defer cancel()
	if r.role == Responder {
		if !r.shared() {
			return
		}
		if _, ok := s.direct(r.peer); !ok && r.relayed == nil {
			s.awaitCall(ctx, r)
			return
		}
		select {
		case theirs := <-r.theirs:
			r.merge(theirs)
		case <-ctx.Done():
		}
		return
	}
	conns := s.n.Conns(r.peer)
	if len(conns) == 0 || len(r.own().Attempts) == 0 {
		return // nobody to tell, or nothing
	}
	own, err := json.Marshal(r.own().View)
	if err != nil {
		return
	}
	st, err := s.n.OpenStream(ctx, conns[0], ViewsProtocol)
	if err != nil {
		return
	}
	reply, err := wire.Exchange(ctx, st, own, maxView)
	if err != nil {
		return
	}
	if theirs, err := parseView(reply); err == nil && theirs.Run == r.id() {
		r.merge(theirs)
	}
}

// awaitCall waits for the view of a peer that has to call through the relay first. One
// that took the run for another end, as when it got no answer, does not tell.
func (s *Service) awaitCall(ctx context.Context, r *run) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	changed, stop := s.n.Changes(r.peer)
	defer stop()
	var late <-chan time.Time
	for {
		if late == nil && len(s.n.Conns(r.peer)) > 0 {
			late = time.After(tellTimeout)
		}
		select {
		case theirs := <-r.theirs:
			r.merge(theirs)
			return
		case <-changed:
		case <-late:
			return
		case <-ctx.Done():
			return
		}
	}
}

// merge adds the other side's view to the report: as it is, and its steps to the
// timeline, by this side's clock. Whose steps they are is not the other side's to say.
func (r *run) merge(theirs View) {
	r.mu.Lock()
	defer r.mu.Unlock()
	other := Initiator
	if r.role == Initiator {
		other = Responder
	}
	theirs.Role = other
	for i := range theirs.Timeline {
		theirs.Timeline[i].Side = other
	}
	r.report.Other = &theirs
	ahead := aheadOf(r.report.Timeline, theirs.Timeline)
	for _, step := range theirs.Timeline {
		step.AtMS -= ahead
		r.report.Timeline = append(r.report.Timeline, step)
	}
	slices.SortStableFunc(r.report.Timeline, func(a, b Step) int { return cmp.Compare(a.AtMS, b.AtMS) })
}

// aheadOf is by how many milliseconds the other side's clock is ahead of this side's, each
// of which begins with what its side saw of the run first. Messages that went both ways
// tell it, as they do in NTP (RFC 5905 section 8), if they take as long there as back; of
// those that went one way, the quickest would have taken no time.
func aheadOf(own, theirs []Step) float64 {
	there, here := quickest(own, theirs), quickest(theirs, own)
	switch {
	case math.IsInf(there, 1) && math.IsInf(here, 1):
		return 0
	case math.IsInf(there, 1):
		return -here
	case math.IsInf(here, 1):
		return there
	}
	return (there - here) / 2
}

// quickest is the least time, by two clocks, that a message of one side took to the other:
// of each kind the first sent is the first received. It is infinite without any.
func quickest(from, to []Step) float64 {
	least := math.Inf(1)
	for _, message := range []string{"offer", "answer", "connect", "sync"} {
		var sent, received []float64
		for _, s := range from {
			if s.Event == message+".sent" {
				sent = append(sent, s.AtMS)
			}
		}
		for _, s := range to {
			if s.Event == message+".received" {
				received = append(received, s.AtMS)
			}
		}
		for i := range min(len(sent), len(received)) {
			least = min(least, received[i]-sent[i])
		}
	}
	return least
}
