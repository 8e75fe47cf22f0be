package route

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/retry"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
)

// ErrNoBoot means that there is nobody to begin with: no peer to boot from is named, and none is in the table.
var ErrNoBoot = errors.New("no peer of the network is known")

// JoinError is why none of the peers to boot from could be joined.
type JoinError struct {
	Errs []error // one a peer; *host.DialError, or wrapping ErrNoDHT, ErrRefused or context.DeadlineExceeded
}

func (e *JoinError) Error() string {
	var all []string
	for _, err := range e.Errs {
		all = append(all, err.Error())
	}
	return "join the network: " + strings.Join(all, "; ")
}

// Unwrap returns the errors of the peers.
func (e *JoinError) Unwrap() []error { return e.Errs }

// joinGrace is how much longer than the first the other peers to boot from may take to be waited for.
const joinGrace = 100 * time.Millisecond

// joining is how many peers to boot from are dialled at once.
const joining = 2

// isClosed reports whether a channel is.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Join connects to peers of Config.Boot, two at a time in a random order, and returns when somebody is in the table. It waits
// twice as long as the first took for the second. Errors are ErrNoBoot, *JoinError or ctx's.
func (s *Service) Join(ctx context.Context) error { return s.JoinBy(ctx, s.cfg.Boot) }

// JoinBy is Join with other peers than those of Config.Boot.
func (s *Service) JoinBy(ctx context.Context, boot []peer.AddrInfo) error {
	if s.dht.RoutingTable().Size() > 0 {
		return nil
	}
	if len(boot) == 0 {
		return ErrNoBoot
	}
	within, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	errs := make([]error, len(boot))
	first := make(chan struct{})
	began := time.Now()
	var once sync.Once
	var all sync.WaitGroup
	slots := make(chan struct{}, joining)
	for i, at := range rand.Perm(len(boot)) {
		b := boot[at]
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if within.Err() == nil && isClosed(first) {
				return // others may need the room more
			}
			err := s.admit(within, b)
			if err == nil {
				once.Do(func() { close(first) })
			} else if within.Err() != nil && ctx.Err() == nil {
				err = fmt.Errorf("%s did not answer within %s: %w", b.ID, s.cfg.Timeout, err)
			}
			errs[i] = err
		})
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	select {
	case <-first:
		rest := time.NewTimer(time.Since(began) + joinGrace)
		defer rest.Stop()
		select {
		case <-ended:
		case <-rest.C:
			cancel()
		}
	case <-ended:
	}
	<-ended
	if s.dht.RoutingTable().Size() > 0 {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	failed := slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(failed) == 0 {
		failed = []error{errors.New("those that answered have left the table again")}
	}
	return &JoinError{failed}
}

// admit dials a peer, asks it something and puts it into the table.
func (s *Service) admit(ctx context.Context, p peer.AddrInfo) error {
	if p.ID == s.n.ID() {
		return fmt.Errorf("%s is this node itself", p.ID)
	}
	if _, err := s.n.Dial(ctx, p.ID, p.Addrs); err != nil {
		return err
	}
	if err := s.dht.Ping(ctx, p.ID); err != nil {
		return fmt.Errorf("ask %s: %w", p.ID, err)
	}
	if _, err := s.dht.RoutingTable().TryAddPeer(p.ID, true, false); err != nil {
		return fmt.Errorf("put %s into the table: %w", p.ID, err)
	}
	return nil
}

// joinAgain is how long a node that could not join waits at most before it tries again: those to boot from may be full.
const joinAgain = 5 * time.Second

// lookAtTable is how often the table is looked at by a node that somebody told nothing.
const lookAtTable = 5 * time.Second

// keepJoined joins, and again whenever the table has become empty.
func (s *Service) keepJoined(ctx context.Context) {
	again := retry.Schedule{Most: joinAgain}
	next := time.Now()
	for ctx.Err() == nil {
		size := s.dht.RoutingTable().Size()
		now := time.Now()
		switch {
		case size > 0 && !s.joined.Swap(true):
			s.tell(Event{Kind: Joined, Table: size})
			again.Succeeded(now)
			select {
			case s.walk <- struct{}{}:
			default:
			}
		case size == 0 && s.joined.Swap(false):
			s.tell(Event{Kind: Alone})
			next = again.Lost(now)
		}
		wait := lookAtTable
		if size == 0 && len(s.cfg.Boot) > 0 {
			if !now.Before(next) {
				again.Begin(now)
				err := s.Join(ctx)
				if err == nil {
					continue
				}
				if ctx.Err() == nil {
					s.tell(Event{Kind: BootFailed, Err: err})
				}
				next = again.Failed(time.Now())
			}
			wait = min(wait, time.Until(next))
		}
		host.Pause(ctx, max(wait, 0))
	}
}

// keepWalking looks for random peers, so that the table is full of those that live: at once after joining, and then at
// the pace of Config.Walk.
func (s *Service) keepWalking(ctx context.Context) {
	next := time.NewTimer(s.cfg.Walk)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.walk:
		case <-next.C:
		}
		next.Reset(s.cfg.Walk)
		if s.dht.RoutingTable().Size() == 0 {
			continue
		}
		_, l, err := s.Walk(ctx, nil)
		if ctx.Err() == nil {
			s.tell(Event{Kind: Walked, Walk: &l, Err: err, Table: s.dht.RoutingTable().Size()})
		}
	}
}

// randomKey is a peer id that nobody has.
func randomKey() (peer.ID, error) {
	b := make([]byte, 32)
	if _, err := crand.Read(b); err != nil {
		return "", fmt.Errorf("random key: %w", err)
	}
	mh, err := multihash.Encode(b, multihash.SHA2_256)
	return peer.ID(mh), err
}
