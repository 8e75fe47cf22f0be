// Package cockpit shows an operator over HTTP how a running node is: metrics in the text
// format of Prometheus, whether it lives and is ready, and a page that draws what goes on
// (the files of page/, fed by server-sent events as the HTML standard has them).
// It only tells: nothing that changes the node can be asked here, and no key is shown.
package cockpit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/serve"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/net/netutil"
)

// What is given to those who ask.
const (
	maxConns      = 128
	maxStreams    = 32 // pages that are open at once
	maxHeader     = 16 << 10
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	// answerTimeout is for a whole answer, and for each event of a stream. A profile says for how long it wants to run.
	answerTimeout = 30 * time.Second
	closeTimeout  = time.Second
)

// MinToken is the shortest token in bytes that is taken: one that cannot be guessed.
const MinToken = 16

var (
	// ErrNeedsToken means that others than this machine could ask, and nothing keeps them out.
	ErrNeedsToken = errors.New("an address beside loopback needs a token")
	// ErrShortToken means a token of fewer than MinToken bytes.
	ErrShortToken = fmt.Errorf("the token has fewer than %d bytes", MinToken)
)

// Config sets up a [Service].
type Config struct {
	// Addr is where to listen, as host:port: an IP address, localhost, or nothing for
	// every address of the machine. Port 0 takes any free one.
	Addr string
	// Token is what those who ask must show (RFC 6750); nil lets everybody on this
	// machine, and is an error where others could ask.
	Token []byte
	// Hosts are names and addresses that a request may be for, besides localhost and
	// the address that it came to: those of a proxy, say.
	Hosts []string
	// Redact shows neither who nor where anybody is, to nobody.
	Redact bool
	// Pprof serves profiles of the process below /debug/pprof/.
	Pprof bool
	// Version is that of the program.
	Version string
}

// Service answers over HTTP.
type Service struct {
	cfg      Config
	addr     netip.AddrPort
	hosts    map[string]bool
	registry *prometheus.Registry
	journal  *journal
	view     atomic.Pointer[view] // nil until Attach
	draining atomic.Bool
	started  time.Time

	server *http.Server
	hub    *hub
	ended  context.CancelFunc
	done   sync.WaitGroup
	failed error // of the goroutine
}

// view is a node and its roles.
type view struct {
	n *host.Node
	s *serve.Server
}

// New listens and answers, though until [Service.Attach] with no more than that the node
// is not ready. It fails with ErrNeedsToken, ErrShortToken, or an error of net.Listen.
func New(ctx context.Context, cfg Config) (*Service, error) {
	if cfg.Token == nil && !Loopback(cfg.Addr) {
		return nil, ErrNeedsToken
	}
	if cfg.Token != nil && len(cfg.Token) < MinToken {
		return nil, ErrShortToken
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Service{cfg: cfg, hosts: make(map[string]bool), registry: prometheus.NewRegistry(), started: time.Now(), ended: cancel}
	for _, name := range cfg.Hosts {
		s.hosts[hostName(name)] = true
	}
	if at, ok := l.Addr().(*net.TCPAddr); ok {
		s.addr = at.AddrPort()
	}
	s.journal = newJournal(s.registry)
	s.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newCollector(s),
	)
	s.hub = newHub(s)
	s.server = &http.Server{
		Handler: s.routes(), BaseContext: func(net.Listener) context.Context { return base },
		ReadTimeout: readTimeout, ReadHeaderTimeout: headerTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: maxHeader,
		// What strangers do wrong, they are told.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	s.done.Go(func() { s.hub.run(base) })
	s.done.Go(func() {
		if err := s.server.Serve(netutil.LimitListener(l, maxConns)); !errors.Is(err, http.ErrServerClosed) {
			s.failed = fmt.Errorf("http: %w", err)
		}
	})
	return s, nil
}

// Registerer is where others add what they count: libp2p, by host.Config.Metrics.
func (s *Service) Registerer() prometheus.Registerer { return s.registry }

// Attach shows a node and its roles from now on. The node is ready.
func (s *Service) Attach(n *host.Node, srv *serve.Server) { s.view.Store(&view{n, srv}) }

// Note takes what happened, as serve.Config.On is told. It does not block.
func (s *Service) Note(e serve.Event) { s.journal.note(time.Now(), e, s.view.Load()) }

// Drain says from now on that the node is about to end, and no longer ready.
func (s *Service) Drain() { s.draining.Store(true) }

// URL is that of the page.
func (s *Service) URL() string {
	at := s.addr
	if at.Addr().IsUnspecified() { // it can be reached there, too
		local := netip.IPv6Loopback()
		if at.Addr().Is4() {
			local = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		at = netip.AddrPortFrom(local, at.Port())
	}
	return "http://" + netip.AddrPortFrom(at.Addr().Unmap(), at.Port()).String() + "/"
}

// Close stops answering, within a second.
func (s *Service) Close() error {
	s.ended()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := s.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.server.Close()
	}
	s.done.Wait()
	return errors.Join(err, s.failed)
}
