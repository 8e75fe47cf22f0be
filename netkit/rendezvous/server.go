package rendezvous

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"dibber/netkit/wire"
)

// ServiceName is what streams of the protocol are counted under at the
// resource manager.
const ServiceName = "dibber.rendezvous"

// maxRequest is the largest request in bytes. It is more than two records and
// a namespace need, so that a record that is too large is refused with its
// status rather than with a reset.
const maxRequest = 20 << 10

// sweepEvery is how often expired registrations are dropped. Answers do not
// depend on it: they leave out what has expired.
const sweepEvery = wheelTick

// ServerConfig sets up a [Server]. The zero value keeps registrations in
// memory and serves everyone.
type ServerConfig struct {
	// Limits are what the server allows; zero fields mean their defaults.
	Limits Limits
	// DB keeps registrations over restarts: a REGISTER is acknowledged only
	// once it is written there. Nil keeps them in memory only.
	DB DB
	// Space takes the place of DB: the server is one of several that keep their registrations in
	// it together. Each shows what any of them acknowledged, takes the cookies of any, and refuses
	// with E_UNAVAILABLE while it cannot know what the others did. What a peer may hold is counted
	// over all of them; the rates of requests each counts by itself. Their clocks must not be more
	// than a second apart; one that is behind refuses. A space that is away may come later: see
	// [Server.Sharing].
	Space Space
	// Allow decides who may use a namespace: an error refuses the REGISTER or
	// DISCOVER with E_NOT_AUTHORIZED and its text. A DISCOVER of all
	// namespaces asks for "", and then for each namespace it would show. Nil
	// allows everything. It must not block nor call the server.
	Allow func(p peer.ID, ns string) error
	// Timeout bounds each request; zero means 10 s.
	Timeout time.Duration
	// Abused is told of a peer that again and again breaks the protocol, or
	// comes with cookies or records that are not its own; nil tells nobody.
	// See [wire.ServiceConfig]. It is to disconnect the peer.
	Abused func(p peer.ID)
	// On is told of events, from several goroutines; nil tells nobody. It
	// must not block.
	On func(Event)
}

// Server is a rendezvous point: it serves [ProtocolID] on a host, over relayed
// connections too.
type Server struct {
	host    host.Host
	cfg     ServerConfig
	key     atomic.Pointer[cookieKey]
	service *wire.Service
	watch   *watchService
	reg     *registry
	backend backend

	registers, discovers rates
	counters             counters

	stop    chan struct{}
	sweeper sync.WaitGroup
	close   sync.Once
}

// rates are the token buckets of a kind of request.
type rates struct {
	peers    *buckets[peer.ID]
	prefixes *buckets[prefix]
}

func newRates() rates {
	return rates{peers: newBuckets[peer.ID](bucketKeys), prefixes: newBuckets[prefix](bucketKeys)}
}

// NewServer starts a server on h with the registrations cfg.DB holds.
func NewServer(h host.Host, cfg ServerConfig) (*Server, error) {
	limits, err := cfg.Limits.WithDefaults()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	s := &Server{
		host: h, cfg: cfg, reg: newRegistry(limits, now), stop: make(chan struct{}),
		registers: newRates(), discovers: newRates(),
	}
	s.watch = newWatchService(s)
	if err := s.open(now); err != nil {
		return nil, err
	}
	s.service = wire.NewService(s.serviceConfig(), s.handle)
	h.SetStreamHandler(ProtocolID, s.service.Handle)
	h.SetStreamHandler(WatchProtocolID, s.watch.handle)
	s.sweeper.Go(s.sweepLoop)
	return s, nil
}

func (s *Server) serviceConfig() wire.ServiceConfig {
	return wire.ServiceConfig{
		Name:       ServiceName,
		MaxRequest: maxRequest,
		Timeout:    s.cfg.Timeout,
		Screen:     s.screen,
		Abused:     s.cfg.Abused,
	}
}

// open loads the database and starts the journal.
func (s *Server) open(now time.Time) error {
	if s.cfg.Space != nil {
		s.reg.publish = s.changed
		b, err := openShared(s.cfg.Space, s.reg, &s.key, s.sharing)
		s.backend = b
		return err
	}
	if s.cfg.DB == nil {
		s.key.Store(new(newCookieKey()))
		s.backend, s.reg.publish = &embedded{reg: s.reg}, s.changed
		return nil
	}
	key, changes, err := load(s.cfg.DB, s.reg, now)
	if err != nil {
		return err
	}
	if err := s.cfg.DB.Write(changes); err != nil {
		return fmt.Errorf("start registry: %w", err)
	}
	s.key.Store(&key)
	s.reg.publish = s.changed
	s.backend = &embedded{reg: s.reg, journal: startJournal(s.cfg.DB, s.reg)}
	return nil
}

// Close stops serving. Requests being answered are finished; registrations
// stay in the database, which the caller closes afterwards.
func (s *Server) Close() error {
	var err error
	s.close.Do(func() {
		s.host.RemoveStreamHandler(ProtocolID)
		s.host.RemoveStreamHandler(WatchProtocolID)
		s.watch.close()
		err = s.service.Close()
		close(s.stop)
		s.sweeper.Wait()
		s.backend.close()
	})
	return err
}

// Limits returns what the server allows, defaults filled in.
func (s *Server) Limits() Limits { return *s.reg.limits.Load() }

// SetLimits changes what the server allows from now on; zero fields mean their
// defaults. What is registered stays, save what is above a lower Total: that
// goes as it would to make room. An error leaves the limits as they were.
func (s *Server) SetLimits(l Limits) error {
	l, err := l.WithDefaults()
	if err != nil {
		return err
	}
	s.reg.limits.Store(&l)
	if s.cfg.Space == nil { // otherwise what there is is for all servers to decide
		s.tellGone(s.reg.trim(time.Now()))
	}
	return nil
}

// Stats counts the live registrations, and what was done since the start.
func (s *Server) Stats() Stats {
	s.sweep(time.Now())
	out := s.counters.stats()
	out.Namespaces, out.Registrations, out.Peers = s.reg.counts()
	out.Watchers = s.watch.count()
	return out
}

// changed counts a change of the registry and tells the watchers.
func (s *Server) changed(c *change) {
	s.counters.change(c.kind)
	s.watch.publish(c)
}

// tellGone reports registrations that ended without their peers.
func (s *Server) tellGone(gone []*change) {
	for _, c := range gone {
		kind := EventExpire
		if c.kind == changeEvict {
			kind = EventEvict
		}
		s.emit(Event{Kind: kind, Peer: c.e.owner.id, Namespace: c.e.space.ns})
	}
}

func (s *Server) emit(e Event) {
	if s.cfg.On != nil {
		s.cfg.On(e)
	}
}

func (s *Server) sweepLoop() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.sweep(time.Now())
		case <-s.stop:
			return
		}
	}
}

// sweep drops and reports what has expired. Nobody waits for its write: an
// expired entry that is still on disk is dropped at the next start.
func (s *Server) sweep(now time.Time) (dropped bool) {
	expired := s.reg.sweep(now)
	s.tellGone(expired)
	return len(expired) > 0
}
