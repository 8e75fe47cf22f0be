package p2panda

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// ErrSilent is returned for a peer that announces nothing: it holds the protocol's streams open and does not speak it.
var ErrSilent = errors.New("peer announced nothing")

// ErrNotKept is returned for a peer that again and again has not kept what it was sent. There is no message in which it could say why.
var ErrNotKept = errors.New("peer does not keep what it is sent")

// maxAgain is how often the same is sent in one synchronisation.
const maxAgain = 3

// silence is how long a peer may take to announce, which it does as soon as it is connected.
const silence = 15 * time.Second

// settle is how long a node may take to put a new schema together and to announce it: it looks every 5 s.
const settle = 20 * time.Second

// Result is what became of a synchronisation.
type Result struct {
	Peer peer.ID `json:"peer"`
	// Relayed says that the last session went through a relay.
	Relayed bool `json:"relayed"`
	// Schemas are those that both sides exchange.
	Schemas []string `json:"schemas"`
	// Unannounced are schemas of documents here that the peer does not announce, so that it was not sent them.
	Unannounced []string `json:"unannounced"`
	// Sessions is how many there were.
	Sessions int `json:"sessions"`
	// Sent and Received count entries that the other side lacked, Refused those that broke a rule, Barred those that Config.Admit kept
	// out, both in the last session that had any.
	Sent     int `json:"sent"`
	Received int `json:"received"`
	Refused  int `json:"refused"`
	Barred   int `json:"barred"`
}

func (r *Result) add(s *Session) {
	r.Sessions++
	r.Sent, r.Received = r.Sent+s.Sent, r.Received+s.Received
	if s.Refused+s.Barred > 0 { // they come again every time
		r.Refused, r.Barred = s.Refused, s.Barred
	}
}

// refused says whether a session went on to its end but for entries that were not taken.
func refused(err error) bool { return errors.Is(err, ErrRefused) || errors.Is(err, ErrNotAdmitted) }

// progress is a synchronisation on its way, by the lock of the service.
type progress struct {
	result  Result
	theirs  []string
	heard   bool
	quiet   bool      // the last session was about everything and had nothing to exchange
	again   int       // sessions in a row in which the same number of entries was sent and nothing came
	last    int       // how many that was
	moved   time.Time // when something was sent last
	err     error
	changed chan struct{}
}

// note takes in an event of the peer, with which these schemas are exchanged.
func (p *progress) note(e *Event, all []string) {
	switch {
	case e.Session != nil:
		s := e.Session
		p.result.add(s)
		p.result.Relayed = e.Relayed
		p.quiet = slices.Equal(s.Schemas, all) && s.Sent == 0 && s.Received == 0 && (s.Err == nil || refused(s.Err))
		if s.Sent == 0 || s.Sent != p.last || s.Received > 0 {
			p.again = 0
		}
		if p.last = s.Sent; s.Sent > 0 {
			p.moved = time.Now()
			p.again++
		}
		if refused(s.Err) {
			p.err = s.Err
		}
	case e.Closed != nil:
		p.err = errors.Join(p.err, e.Closed)
	default:
		p.theirs, p.heard, p.quiet = e.Announced, true, false
	}
	select {
	case p.changed <- struct{}{}:
	default: // a look is due already
	}
}

// Sync waits until nothing is left to exchange with a connected peer: a session has passed in which neither side lacked anything, so that
// what was sent is known to have been kept. After definitions of schemas were sent it waits for the peer to announce them. The
// error wraps [ErrUnsupported], [ErrSilent], [ErrNotKept], [ErrRefused], [ErrNotAdmitted] or [ErrStuck]; the result says how far it came.
func (s *Service) Sync(ctx context.Context, p peer.ID) (Result, error) {
	pr := &progress{result: Result{Peer: p}, changed: make(chan struct{}, 1)}
	if err := s.begin(p, pr); err != nil {
		return pr.result, err
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.syncs, p)
	}()
	began := time.Now()
	for {
		if result, done, err := s.look(pr, began); done {
			return result, err
		}
		look := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
			look.Stop()
			s.mu.Lock()
			defer s.mu.Unlock()
			return pr.result, fmt.Errorf("sync with %s: %w", p, context.Cause(ctx))
		case <-pr.changed:
			look.Stop()
		case <-look.C:
		}
	}
}

// begin registers a synchronisation, by which sessions follow one another without a pause.
func (s *Service) begin(p peer.ID, pr *progress) error {
	conns := s.node.Conns(p)
	for _, conn := range conns {
		s.channel(conn)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.syncs[p] != nil {
		return fmt.Errorf("sync with %s: it is on its way already", p)
	}
	s.syncs[p] = pr
	for _, c := range s.channels {
		if c.conn.RemotePeer() != p {
			continue
		}
		// What has been exchanged since the connection opened is part of it.
		for _, one := range c.told {
			pr.note(&Event{Session: &one, Relayed: c.relayed}, nil)
		}
		c.mu.Lock()
		if c.link.theirs != nil {
			pr.theirs, pr.heard = c.link.theirs.Schemas, true
		}
		c.mu.Unlock()
		c.nudge()
	}
	return nil
}

// look says whether a synchronisation is over.
func (s *Service) look(pr *progress, began time.Time) (_ Result, done bool, _ error) {
	own := s.replica.own()
	s.mu.Lock()
	defer s.mu.Unlock()
	p := pr.result.Peer
	fail := func(err error) (Result, bool, error) {
		return pr.result, true, fmt.Errorf("sync with %s: %w", p, err)
	}
	alive := false
	for _, c := range s.channels {
		alive = alive || c.conn.RemotePeer() == p // until it has told why it ended
	}
	if pr.heard {
		pr.result.Schemas = s.replica.target(pr.theirs)
		pr.result.Unannounced = slices.DeleteFunc(own, func(id string) bool { return slices.Contains(pr.theirs, id) })
	}
	waits := len(pr.result.Unannounced) > 0 && !pr.moved.IsZero() && time.Since(pr.moved) < settle
	switch {
	case pr.again >= maxAgain:
		return fail(ErrNotKept)
	case pr.heard && !waits && (pr.quiet || len(pr.result.Schemas) == 0):
		if pr.result.Refused+pr.result.Barred > 0 {
			return fail(pr.err)
		}
		return pr.result, true, nil
	case !alive && pr.err == nil:
		return fail(ErrLost)
	case !alive:
		return fail(pr.err)
	case !pr.heard && time.Since(began) >= silence:
		return fail(ErrSilent)
	}
	return pr.result, false, nil
}
