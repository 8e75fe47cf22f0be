package rendezvous

import (
	"fmt"
	"sync"
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
const sweepEvery = 10 * time.Second

// ServerConfig sets up a [Server]. The zero value keeps registrations in
// memory and serves everyone.
type ServerConfig struct {
	// Limits are what the server allows; zero fields mean their defaults.
	Limits Limits
	// DB keeps registrations over restarts: a REGISTER is acknowledged only
	// once it is written there. Nil keeps them in memory only.
	DB DB
	// Allow decides who may use a namespace: an error refuses the REGISTER or
	// DISCOVER with E_NOT_AUTHORIZED and its text. A DISCOVER of all
	// namespaces asks for "", and then for each namespace it would show. Nil
	// allows everything. It must not block nor call the server.
	Allow func(p peer.ID, ns string) error
	// Rate and Burst limit the requests of each peer, a second and at once;
	// zero means 20 and 100. Above them the answer is E_UNAVAILABLE.
	Rate  float64
	Burst int
	// Timeout bounds each request; zero means 10 s.
	Timeout time.Duration
	// On is told of events, from several goroutines; nil tells nobody. It
	// must not block.
	On func(Event)
}

// Server is a rendezvous point: it serves [ProtocolID] on a host, over relayed
// connections too.
type Server struct {
	host    host.Host
	cfg     ServerConfig
	key     cookieKey
	service *wire.Service
	journal *journal // nil without a database

	mu  sync.Mutex // guards reg, and the order of what is recorded
	reg *registry

	stop    chan struct{}
	sweeper sync.WaitGroup
	close   sync.Once
}

// NewServer starts a server on h with the registrations cfg.DB holds.
func NewServer(h host.Host, cfg ServerConfig) (*Server, error) {
	limits, err := cfg.Limits.withDefaults()
	if err != nil {
		return nil, err
	}
	cfg.Limits = limits
	now := time.Now()
	s := &Server{host: h, cfg: cfg, reg: newRegistry(limits, now), stop: make(chan struct{})}
	if err := s.open(now); err != nil {
		return nil, err
	}
	s.service = wire.NewService(s.serviceConfig(), s.handle)
	h.SetStreamHandler(ProtocolID, s.service.Handle)
	s.sweeper.Go(s.sweepLoop)
	return s, nil
}

func (s *Server) serviceConfig() wire.ServiceConfig {
	return wire.ServiceConfig{
		Name:       ServiceName,
		MaxRequest: maxRequest,
		Timeout:    s.cfg.Timeout,
		Rate:       s.cfg.Rate,
		Burst:      s.cfg.Burst,
		Limited:    s.limited,
	}
}

// open loads the database and starts the journal.
func (s *Server) open(now time.Time) error {
	if s.cfg.DB == nil {
		s.key = newCookieKey()
		return nil
	}
	key, changes, err := load(s.cfg.DB, s.reg, now)
	if err != nil {
		return err
	}
	if err := s.cfg.DB.Write(changes); err != nil {
		return fmt.Errorf("start registry: %w", err)
	}
	s.key = key
	s.journal = startJournal(s.cfg.DB)
	return nil
}

// Close stops serving. Requests being answered are finished; registrations
// stay in the database, which the caller closes afterwards.
func (s *Server) Close() error {
	var err error
	s.close.Do(func() {
		s.host.RemoveStreamHandler(ProtocolID)
		err = s.service.Close()
		close(s.stop)
		s.sweeper.Wait()
		if s.journal != nil {
			s.journal.close()
		}
	})
	return err
}

// Limits returns what the server allows, defaults filled in.
func (s *Server) Limits() Limits { return s.cfg.Limits }

// Stats counts the live registrations.
func (s *Server) Stats() Stats {
	s.sweep(time.Now())
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{
		Namespaces:    len(s.reg.spaces),
		Registrations: len(s.reg.entries),
		Peers:         len(s.reg.peers),
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
	s.mu.Lock()
	expired := s.reg.sweep(now)
	if len(expired) > 0 && s.journal != nil {
		s.journal.record(nil, expired...)
	}
	s.mu.Unlock()
	for _, e := range expired {
		s.emit(Event{Kind: EventExpire, Peer: e.peer, Namespace: e.ns})
	}
	return len(expired) > 0
}
