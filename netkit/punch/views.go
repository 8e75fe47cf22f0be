package punch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
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

// merge adds the other side's view to the report: as it is, and its steps to the
// timeline. The clocks need not agree: each side counts from when it had the relayed
// connection.
func (r *run) merge(theirs View) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Other = &theirs
	r.report.Timeline = slices.Concat(r.report.Timeline, theirs.Timeline)
	slices.SortStableFunc(r.report.Timeline, func(a, b Step) int {
		if a.AtMS != b.AtMS {
			if a.AtMS < b.AtMS {
				return -1
			}
			return 1
		}
		return strings.Compare(string(a.Side), string(b.Side))
	})
}
