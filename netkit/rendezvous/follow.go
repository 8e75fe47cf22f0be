package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
)

const (
	// fullEvery is how many questions make a round: the first asks for
	// everything, the others for news. News do not tell who has left.
	fullEvery = 10
	// pushAgain and pushSeldom are the ends of the exponential back-off after
	// which a server that would not push is tried again. Meanwhile it is asked.
	pushAgain  = 30 * time.Second
	pushSeldom = time.Hour
)

// FollowerConfig sets up a [Follower]. Server is required.
type FollowerConfig struct {
	// Server is whom to follow.
	Server peer.AddrInfo
	// Namespace to follow; empty follows all.
	Namespace string
	// Format chooses the flavours of records asked for; FormatAuto is both.
	Format Format
	// Interval is the time between two questions to a server that does not
	// push; zero means 10 s. Questions are for news, and every tenth is for
	// everything, which shows who has left.
	Interval time.Duration
	// Timeout bounds connecting, each question, and a snapshot; zero means
	// 30 s.
	Timeout time.Duration
	// FirstRetry and LastRetry are the ends of the exponential back-off after
	// failures and lost streams; zero means 1 s and 5 s, so that a server that
	// returns is followed again within 10 s.
	FirstRetry time.Duration
	LastRetry  time.Duration
	// Max is how many registrations one answer or snapshot may have; zero means
	// 10 000. A server that has more is asked rather than left to push.
	Max int
	// On is told of events, one at a time; nil tells nobody. While it blocks
	// nothing is read, and what the server then cannot send is shown by another
	// snapshot. It must not call Close.
	On func(FollowerEvent)
}

// FollowerEventKind says what a [Follower] reports.
type FollowerEventKind string

// What a follower reports.
const (
	// FollowerAll is everything there is: what is not among the entries is
	// gone.
	FollowerAll FollowerEventKind = "all"
	// FollowerNews is registrations that came or were renewed.
	FollowerNews FollowerEventKind = "news"
	// FollowerGone is a registration that ended, maybe one never told of.
	FollowerGone FollowerEventKind = "gone"
	// FollowerFailed is a server that could not be reached or did not answer.
	// What it said holds until its TTL.
	FollowerFailed FollowerEventKind = "failed"
)

// Via says how a follower learns what changes.
type Via string

// The ways to learn of changes.
const (
	// ViaPush is a server that tells, by [WatchProtocolID].
	ViaPush Via = "push"
	// ViaPoll is a server that is asked, by [ProtocolID].
	ViaPoll Via = "poll"
)

// FollowerEvent is something that a [Follower] learned.
type FollowerEvent struct {
	Kind FollowerEventKind
	// Via is how it was learned; empty for a failure.
	Via Via
	// Entries are registrations, the host's own left out, and Skipped is how
	// many more there were that were broken or not signed by their peer.
	Entries []Entry
	Skipped int
	// At is when the TTLs of Entries began to run, or earlier.
	At time.Time
	// Answer is set on an answer, to a question or for the first time to a
	// stream, and Took is how long it took; the rest is told unasked.
	Answer bool
	Took   time.Duration
	// Namespace and Peer are those of a registration that is gone.
	Namespace string
	Peer      peer.ID
	// Err is why it failed, and Next how long until the next attempt.
	Err  error
	Next time.Duration
}

// Follower keeps track of who is registered at a server: by its push stream
// where it has one, else by asking again and again. It comes back after the
// server or the connection was lost, and then begins with everything, so that
// who left meanwhile is known to be gone.
//
// A server that dies without a word is noticed when the connection ends; have
// that found out by others, since the stream says nothing while nothing changes.
type Follower struct {
	host   host.Host
	cfg    FollowerConfig
	events event.Subscription
	cancel context.CancelFunc
	loops  sync.WaitGroup
	close  sync.Once

	// learned is filled when identify told something new of the server.
	learned chan struct{}
	// cookie is that of the last answer, and asked counts the answers since
	// everything was last asked for.
	cookie []byte
	asked  int
	// pushAfter is when a server that would not push is tried again, and
	// unwilling how often it would not in a row.
	pushAfter time.Time
	unwilling int
}

// NewFollower starts following a server from h.
func NewFollower(h host.Host, cfg FollowerConfig) (*Follower, error) {
	if len(cfg.Namespace) > maxNamespace {
		return nil, fmt.Errorf("follower: namespace must have at most %d bytes, it has %d", maxNamespace, len(cfg.Namespace))
	}
	if cfg.Server.ID == "" || cfg.Server.ID == h.ID() {
		return nil, errors.New("follower: server must be another peer")
	}
	setDefault(&cfg.Interval, 10*time.Second)
	setDefault(&cfg.Timeout, 30*time.Second)
	setDefault(&cfg.FirstRetry, time.Second)
	setDefault(&cfg.LastRetry, 5*time.Second)
	setDefault(&cfg.Max, maxCollected)
	if cfg.On == nil {
		cfg.On = func(FollowerEvent) {}
	}
	events, err := h.EventBus().Subscribe([]any{
		new(event.EvtPeerProtocolsUpdated),
		new(event.EvtPeerIdentificationCompleted),
	}, eventbus.Name("rendezvous"), eventbus.BufSize(64))
	if err != nil {
		return nil, fmt.Errorf("follower: %w", err)
	}
	f := &Follower{host: h, cfg: cfg, events: events, learned: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	h.ConnManager().Protect(cfg.Server.ID, f.protectTag())
	f.loops.Go(f.listen)
	f.loops.Go(func() { f.run(ctx) })
	return f, nil
}

func (f *Follower) protectTag() string { return "rendezvous-follower/" + f.cfg.Namespace }

// Close stops the follower.
func (f *Follower) Close() error {
	var err error
	f.close.Do(func() {
		f.cancel()
		err = f.events.Close()
		f.loops.Wait()
		f.host.ConnManager().Unprotect(f.cfg.Server.ID, f.protectTag())
	})
	return err
}

// listen hears what identify tells of the server.
func (f *Follower) listen() {
	for e := range f.events.Out() {
		var of peer.ID
		switch e := e.(type) {
		case event.EvtPeerProtocolsUpdated:
			of = e.Peer
		case event.EvtPeerIdentificationCompleted:
			of = e.Peer
		}
		if of != f.cfg.Server.ID {
			continue
		}
		select {
		case f.learned <- struct{}{}:
		default:
		}
	}
}

// run follows until ctx ends.
func (f *Follower) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	answered := false
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-f.learned:
			// A server that was asked because it had not started to push yet.
			if !answered || !f.pushes() {
				continue
			}
		}
		held, err := f.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if answered = err == nil; answered || held > stable {
			failures = 0
		}
		wait := f.cfg.Interval
		if again := time.Until(f.pushAfter); answered && again > 0 {
			wait = min(wait, again)
		}
		if err != nil {
			failures++
			if !denied(err) {
				wait = backoff(f.cfg.FirstRetry, f.cfg.LastRetry, failures, rand.Float64())
			}
			f.cfg.On(FollowerEvent{Kind: FollowerFailed, Err: err, Next: wait})
		}
		timer.Reset(wait)
	}
}

// denied reports whether a server has answered that it will not show what it is
// asked for, so that asking soon again is of no use.
func denied(err error) bool {
	var refused *StatusError
	return errors.As(err, &refused) && refused.Status != StatusUnavailable && refused.Status != StatusInternalError
}

// follow follows the push stream to its end, or else asks once. An error comes
// with how long the stream had held.
func (f *Follower) follow(ctx context.Context) (held time.Duration, err error) {
	if err := f.connect(ctx); err != nil {
		return 0, err
	}
	if f.pushes() {
		synced, err := f.push(ctx)
		if !synced.IsZero() || ctx.Err() != nil {
			f.startOver()
			return time.Since(synced), err
		}
		f.unwilling++
		f.pushAfter = time.Now().Add(backoff(pushAgain, pushSeldom, f.unwilling, rand.Float64()))
	}
	if err := f.poll(ctx); err != nil {
		f.startOver()
		return 0, err
	}
	return 0, nil
}

// startOver forgets what is known of the server: when it is back it may be
// another, or one that was started again.
func (f *Follower) startOver() { f.asked, f.unwilling, f.pushAfter = 0, 0, time.Time{} }

func (f *Follower) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	return connect(ctx, f.host, f.cfg.Server)
}

// pushes reports whether to try the push stream. That the connected server
// lacks it is mostly known by identify, and costs nothing.
func (f *Follower) pushes() bool {
	if time.Now().Before(f.pushAfter) {
		return false
	}
	known, err := f.host.Peerstore().GetProtocols(f.cfg.Server.ID)
	return err != nil || len(known) == 0 || slices.Contains(known, WatchProtocolID)
}

// poll asks once.
func (f *Follower) poll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	req := DiscoverRequest{Namespace: f.cfg.Namespace, Format: f.cfg.Format, Max: f.cfg.Max}
	if f.asked%fullEvery != 0 {
		req.Cookie = f.cookie
	}
	began := time.Now()
	page, err := DiscoverAll(ctx, f.host, f.cfg.Server, req)
	e := FollowerEvent{Kind: FollowerNews, Via: ViaPoll, Entries: page.Entries, Skipped: page.Skipped, At: began, Took: time.Since(began)}
	switch {
	case err == nil:
		f.cookie, e.Answer = page.Cookie, true
		f.asked++
		if req.Cookie == nil && len(page.Entries) < req.Max {
			e.Kind = FollowerAll
		}
	case len(page.Entries) == 0:
		return err
	}
	f.cfg.On(e)
	return err
}
