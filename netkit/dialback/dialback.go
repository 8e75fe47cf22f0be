// Package dialback tells peers whether they can be reached, by dialling them
// back: AutoNAT v1 (libp2p/specs autonat/autonat-v1.md) and AutoNAT v2
// (autonat/autonat-v2.md).
package dialback

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"dibber/netkit/host"

	"github.com/libp2p/go-libp2p/core/event"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/autonat"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
)

// Config bounds how many dial-backs are made. Zero fields take their default.
type Config struct {
	// PerMinute is the most dial-backs a minute; 0 means 60.
	PerMinute int
	// PerPeerPerMinute is the most for one peer a minute; 0 means 12.
	PerPeerPerMinute int
}

const (
	defaultPerMinute        = 60
	defaultPerPeerPerMinute = 12
	// dataPerMinute is how many of v2's requests a minute may be such that cost the
	// asker 30 to 100 KB, so that nobody aims dial-backs at a third party for free.
	dataPerMinute = 12
	// parallelPerPeer is how many requests of one peer v2 answers at once.
	parallelPerPeer = 2
)

// WithDefaults returns c with every zero field filled.
func (c Config) WithDefaults() Config {
	if c.PerMinute == 0 {
		c.PerMinute = defaultPerMinute
	}
	if c.PerPeerPerMinute == 0 {
		c.PerPeerPerMinute = defaultPerPeerPerMinute
	}
	return c
}

// Server answers AutoNAT requests of both versions.
type Server struct {
	cfg    Config
	v1     autonat.AutoNAT
	v2     *autonatv2.AutoNAT
	dialer [2]corehost.Host // v1 and v2 each own one: v1 clears its peerstore after a dial
	asked  atomic.Uint64
}

// New starts answering on n. Each dial-back leaves from a host of its own, so
// that neither an open connection nor a mapped port makes a peer look reachable.
func New(n *host.Node, cfg Config) (*Server, error) {
	s := &Server{cfg: cfg.WithDefaults()}
	for i := range s.dialer {
		d, err := n.Dialer()
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.dialer[i] = d
	}
	var err error
	s.v1, err = autonat.New(quietHost{counting{n, &s.asked}, eventbus.NewBus()},
		autonat.EnableService(s.dialer[0].Network()),
		autonat.WithReachability(network.ReachabilityPublic),
		autonat.WithThrottling(s.cfg.PerMinute, time.Minute),
		autonat.WithPeerThrottling(s.cfg.PerPeerPerMinute))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("autonat v1: %w", err), s.Close())
	}
	s.v2, err = autonatv2.New(s.dialer[1],
		autonatv2.WithServerRateLimit(s.cfg.PerMinute, s.cfg.PerPeerPerMinute, dataPerMinute, parallelPerPeer))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("autonat v2: %w", err), s.Close())
	}
	if err := s.v2.Start(serverOnly{counting{n, &s.asked}}); err != nil {
		return nil, errors.Join(fmt.Errorf("autonat v2: %w", err), s.Close())
	}
	return s, nil
}

// Limits returns the limits in force.
func (s *Server) Limits() Config { return s.cfg }

// Asked is how many requests of either version have come since the start.
func (s *Server) Asked() uint64 { return s.asked.Load() }

// counting counts the streams that its handlers are given.
type counting struct {
	corehost.Host
	asked *atomic.Uint64
}

func (h counting) SetStreamHandler(id protocol.ID, handle network.StreamHandler) {
	h.Host.SetStreamHandler(id, func(st network.Stream) {
		h.asked.Add(1)
		handle(st)
	})
}

// Close stops answering.
func (s *Server) Close() error {
	var errs []error
	if s.v1 != nil {
		errs = append(errs, s.v1.Close())
	}
	if s.v2 != nil {
		s.v2.Close()
	}
	for _, d := range s.dialer {
		if d != nil {
			errs = append(errs, d.Close())
		}
	}
	return errors.Join(errs...)
}

// serverOnly keeps the library, whose server comes with a client, from taking the
// host's dial-backs away from whoever has asked for them.
type serverOnly struct{ corehost.Host }

func (h serverOnly) SetStreamHandler(id protocol.ID, handle network.StreamHandler) {
	if id != autonatv2.DialBackProtocol {
		h.Host.SetStreamHandler(id, handle)
	}
}

func (h serverOnly) RemoveStreamHandler(id protocol.ID) {
	if id != autonatv2.DialBackProtocol {
		h.Host.RemoveStreamHandler(id)
	}
}

// quietHost keeps v1's static "public", which it needs in order to serve, from
// being told to the rest of the host as if it had been found out.
type quietHost struct {
	corehost.Host
	bus event.Bus
}

func (h quietHost) EventBus() event.Bus { return h.bus }
