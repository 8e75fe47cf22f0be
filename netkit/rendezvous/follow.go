package rendezvous

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"

	"dibber/netkit/retry"
)

const (
	// fullEvery is how many questions make a round: the first asks for
	// everything, the others for news. News do not tell who has left.
	fullEvery = 10
	// pushAgain and pushSeldom are the ends of the exponential back-off after
	// which a server that would not push is tried again. Meanwhile it is asked.
	pushAgain  = 30 * time.Second
	pushSeldom = time.Hour
	// pushSoon is when a server that gave no answer is tried for the second time: it
	// may just have started, and take questions a moment before it pushes.
	pushSoon = time.Second
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
	// Timeout bounds each question and a snapshot; zero means 30 s. Connecting is
	// bounded by retry.Attempt as well.
	Timeout time.Duration
	// FirstRetry and LastRetry are the ends of the exponential back-off after
	// failures and lost streams; zero means those of package retry, with which a
	// server that returns is followed again within 10 s.
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
	// FollowerGone is a registration that ended, maybe one never told of. The
	// host's own is told of, too: also where a full answer lacks it that had it
	// before. (There are servers that never show the asker, who learns nothing by that.)
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
	// At is when the TTLs of Entries began to run, or earlier; of a registration that
	// is gone, when it was so.
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

	// own is set when the host's own registration was among the entries, and asked is
	// when everything was asked for.
	own   bool
	asked time.Time
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
	// shown is set while the server has the host's own registration, as far as it
	// has shown.
	shown bool
}

// NewFollower starts following a server from h.
func NewFollower(h host.Host, cfg FollowerConfig) (*Follower, error) {
	if len(cfg.Namespace) > maxNamespace {
		return nil, fmt.Errorf("follower: namespace must have at most %d bytes, it has %d", maxNamespace, len(cfg.Namespace))
	}
	if cfg.Server.ID == "" || cfg.Server.ID == h.ID() {
		return nil, errors.New("follower: server must be another peer")
	}
	cfg.Interval = cmp.Or(cfg.Interval, 10*time.Second)
	cfg.Timeout = cmp.Or(cfg.Timeout, 30*time.Second)
	cfg.Max = cmp.Or(cfg.Max, maxCollected)
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
	again := retry.Schedule{First: f.cfg.FirstRetry, Most: f.cfg.LastRetry}
	for {
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
		again.Begin(time.Now())
		synced, err := f.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		answered = err == nil
		timer.Reset(f.next(&again, synced, err))
	}
}

// next is how long until the next attempt after one that ended with err, and after a
// snapshot at synced, unless zero.
func (f *Follower) next(again *retry.Schedule, synced time.Time, err error) time.Duration {
	now := time.Now()
	if err == nil {
		again.Succeeded(now)
		if wait := time.Until(f.pushAfter); wait > 0 {
			return min(f.cfg.Interval, wait)
		}
		return f.cfg.Interval
	}
	var due time.Time
	switch {
	case denied(err):
		due = now.Add(f.cfg.Interval)
	case !synced.IsZero():
		again.Succeeded(synced)
		due = again.Lost(now)
	default:
		due = again.Failed(now)
	}
	f.cfg.On(FollowerEvent{Kind: FollowerFailed, Err: err, Next: due.Sub(now)})
	return due.Sub(now)
}

// tell hands over what was learned, and what that says of the host's own
// registration.
func (f *Follower) tell(e FollowerEvent) {
	self := f.host.ID()
	f.cfg.On(e)
	switch {
	case e.own:
		f.shown = true
	case e.Kind == FollowerGone && e.Peer == self:
		f.shown = false
	case e.Kind == FollowerAll && f.shown && f.cfg.Namespace != "":
		f.shown = false
		f.cfg.On(FollowerEvent{Kind: FollowerGone, Via: e.Via, Namespace: f.cfg.Namespace, Peer: self, At: e.asked})
	}
}

// denied reports whether a server has answered that it will not show what it is
// asked for, so that asking soon again is of no use.
func denied(err error) bool {
	var refused *StatusError
	return errors.As(err, &refused) && refused.Status != StatusUnavailable && refused.Status != StatusInternalError
}

// follow follows the push stream to its end, or else asks once. An error comes
// with when the stream's snapshot was complete; zero when it never was.
func (f *Follower) follow(ctx context.Context) (synced time.Time, err error) {
	if err := f.connect(ctx); err != nil {
		return synced, err
	}
	stood := f.host.Network().ConnsToPeer(f.cfg.Server.ID)
	if f.pushes() {
		synced, err := f.push(ctx)
		if !synced.IsZero() || ctx.Err() != nil {
			f.startOver()
			return synced, explain(f.host, stood, err)
		}
		f.unwilling++
		f.pushAfter = time.Now().Add(backoff(pushAgain, pushSeldom, f.unwilling, rand.Float64()))
		var answer *StatusError
		if f.unwilling == 1 && !errors.As(err, &answer) {
			f.pushAfter = time.Now().Add(pushSoon)
		}
	}
	if err := f.poll(ctx); err != nil {
		f.startOver()
		return synced, explain(f.host, stood, err)
	}
	return synced, nil
}

// startOver forgets what is known of the server: when it is back it may be
// another, or one that was started again.
func (f *Follower) startOver() { f.asked, f.unwilling, f.pushAfter = 0, 0, time.Time{} }

func (f *Follower) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, min(f.cfg.Timeout, retry.Attempt))
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
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "connected before"), f.cfg.Timeout)
	defer cancel()
	req := DiscoverRequest{Namespace: f.cfg.Namespace, Format: f.cfg.Format, Max: f.cfg.Max}
	if f.asked%fullEvery != 0 {
		req.Cookie = f.cookie
	}
	began := time.Now()
	page, err := DiscoverAll(ctx, f.host, f.cfg.Server, req)
	e := FollowerEvent{Kind: FollowerNews, Via: ViaPoll, Entries: page.Entries, Skipped: page.Skipped, At: began, Took: time.Since(began), own: page.own, asked: began}
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
	f.tell(e)
	return err
}
