package join

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/invite"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

const (
	// perSecond and atOnce are how many tokens of all peers together are looked at: a signature costs more than its bytes, and
	// peer ids cost nothing.
	perSecond = 20
	atOnce    = 40
	// look is how often the book is looked at for what its operator did.
	look = time.Second
)

// Config says what a Service does.
type Config struct {
	// Book is where the node's invitations are.
	Book invite.Book
	// On is told of each peer that came, and of each token that was refused, with the reason; nil tells nobody. It must not block.
	On func(Event)
}

// Event is a token that was shown.
type Event struct {
	Peer  peer.ID
	ID    *invite.ID // nil: it could not be read
	Until time.Time  // of one that was taken
	Err   error      // why it was refused; nil: it was taken
}

// Service lets in who shows a token of the node's, until that ends or is revoked.
type Service struct {
	n    *host.Node
	cfg  Config
	wire *wire.Service
	rate *rate.Limiter
	stop context.CancelFunc
	done sync.WaitGroup

	mu    sync.Mutex // guards following, and the book's guests
	marks mark       // the book when it was last read
	live  bool       // it has a token whose time is not over: who shows a revoked one is told so
	soon  time.Time  // when the next of its tokens ends
}

// mark is what tells a folder that was changed from one that was not.
type mark struct {
	at time.Time
	ok bool
}

// New takes tokens on n until Close. It fails where the book cannot be read: who was let in is not shut out by mistake.
func New(n *host.Node, cfg Config) (*Service, error) {
	s := &Service{n: n, cfg: cfg, rate: rate.NewLimiter(perSecond, atOnce)}
	if err := s.refresh(true); err != nil {
		return nil, err
	}
	s.wire = wire.NewService(wire.ServiceConfig{
		Name: "dibber/join", MaxRequest: invite.MaxToken, MaxReply: maxReply, MaxStreams: 32, Timeout: 10 * time.Second,
		Screen: func(wire.Request) ([]byte, bool) { return []byte{busy}, !s.rate.Allow() },
	}, s.answer)
	n.SetStreamHandler(Protocol, s.wire.Handle)
	n.SetDoor(&host.Door{Protocol: Protocol, Handle: func(st network.Stream) { s.wire.Handle(st) }, Open: s.open})
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.done.Go(func() { s.watch(ctx) })
	return s, nil
}

// Close takes no more tokens. Who was let in stays so.
func (s *Service) Close() error {
	s.n.SetDoor(nil)
	s.n.RemoveStreamHandler(Protocol)
	s.stop()
	s.done.Wait()
	return s.wire.Close()
}

// open reports whether strangers may come: there is a token that they may have.
func (s *Service) open() bool {
	_ = s.refresh(false) // what could not be read is as it was
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live
}

// watch goes by what the operator does.
func (s *Service) watch(ctx context.Context) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = s.refresh(false) // what could not be read is as it was
		}
	}
}

// refresh reads the book, if it was changed or a token has ended since, and lets in whom that names.
func (s *Service) refresh(always bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	seen := mark{ok: true}
	if info, err := os.Stat(s.cfg.Book.Dir); err == nil {
		seen.at = info.ModTime()
	}
	if !always && seen == s.marks && (s.soon.IsZero() || now.Before(s.soon)) {
		return nil
	}
	list, err := s.cfg.Book.List()
	if err != nil {
		return err
	}
	guests := make(map[peer.ID]time.Time)
	s.marks, s.live, s.soon = seen, false, time.Time{}
	for _, e := range list {
		if !now.Before(e.Expires) {
			continue
		}
		if s.live = true; s.soon.IsZero() { // the list is in the order of their ends
			s.soon = e.Expires
		}
		if e.Revoked != nil {
			continue
		}
		for _, p := range e.Guests {
			if guests[p].Before(e.Expires) {
				guests[p] = e.Expires
			}
		}
	}
	s.n.SetGuests(guests)
	return nil
}

// answer looks at a token, what costs least first.
func (s *Service) answer(_ context.Context, req wire.Request) ([]byte, error) {
	t, err := invite.Open(req.Body)
	event := Event{Peer: req.Peer}
	if err == nil {
		event.ID = &t.ID
		err = s.admit(t, req.Peer)
	}
	event.Until, event.Err = t.Expires, err
	if s.cfg.On != nil {
		s.cfg.On(event)
	}
	if err == nil {
		return binary.BigEndian.AppendUint64([]byte{taken}, uint64(t.Expires.Unix())), nil
	}
	for status, known := range statuses() {
		if errors.Is(err, known) {
			return []byte{status}, nil
		}
	}
	return []byte{busy}, nil // the book could not be written, which is nothing of the peer's
}

func (s *Service) admit(t invite.Token, p peer.ID) error {
	now := time.Now()
	if t.Peer != s.n.ID() {
		return fmt.Errorf("%w: %s", ErrForeign, t.Peer)
	}
	if err := t.InTime(now); err != nil {
		return err
	}
	s.mu.Lock()
	_, err := s.cfg.Book.Guest(t.ID, p, now)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.refresh(true)
}
