package vantage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/wire"

	manet "github.com/multiformats/go-multiaddr/net"
)

// ErrNoSite means that a server has nothing to reflect with: it listens for QUIC at
// no address of its own, as with host.Config.EachAddress.
var ErrNoSite = errors.New("vantage: no QUIC listener at an address of its own")

// Config bounds a [Server]. The zero value works.
type Config struct {
	// PerPrefix is how many datagrams and TCP connections a second are answered
	// that come from one IPv4 /24 or IPv6 /56; 0 means 500.
	PerPrefix int
	// PerPeer is how many requests a minute each peer may make; 0 means 60.
	PerPeer int
}

// WithDefaults returns c with every zero field filled.
func (c Config) WithDefaults() Config {
	if c.PerPrefix == 0 {
		c.PerPrefix = 500
	}
	if c.PerPeer == 0 {
		c.PerPeer = 60
	}
	return c
}

const (
	// prefixes is how many networks the limit remembers.
	prefixes = 4096
	// portTries is how many ports above QUIC's are tried for the two that each site
	// has besides, before any free one is taken.
	portTries = 16
	// tcpAtOnce is how many connections to a site's TCP port are answered at once,
	// each within tcpPatience.
	tcpAtOnce   = 64
	tcpPatience = 2 * time.Second
)

// Server is a running vantage point.
type Server struct {
	cfg     Config
	n       *host.Node
	tokens  *tokens
	perNet  *wire.Limiter[netip.Prefix]
	service *wire.Service
	sites   []*site
	late    late
	ctx     context.Context // until Close
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// site is an address with its sockets.
type site struct {
	Site
	reflectors []net.PacketConn
	probe      net.PacketConn
	tcp        net.Listener // nil without TCP
}

// New starts a vantage point on n. It fails with [ErrNoSite], with
// [host.ErrSharedPort], or where no port is left.
func New(n *host.Node, cfg Config) (*Server, error) {
	s := &Server{cfg: cfg.WithDefaults(), n: n, tokens: newTokens()}
	s.perNet = wire.NewLimiter[netip.Prefix](float64(s.cfg.PerPrefix), s.cfg.PerPrefix, prefixes)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.closeSites())
	}
	for _, at := range s.sites {
		for _, c := range at.reflectors {
			s.running.Go(func() { s.reflect(c) })
		}
		if at.tcp != nil {
			s.running.Go(func() { s.tell(at.tcp) })
		}
	}
	s.service = wire.NewService(wire.ServiceConfig{
		Name: "dibber.vantage", MaxRequest: maxRequest, MaxReply: maxAnswer,
		Rate: float64(s.cfg.PerPeer) / 60, Burst: s.cfg.PerPeer,
	}, s.answer)
	n.SetStreamHandler(Protocol, s.service.Handle)
	return s, nil
}

// Limits returns the limits in force.
func (s *Server) Limits() Config { return s.cfg }

// Sites are the server's addresses and ports.
func (s *Server) Sites() []Site {
	var out []Site
	for _, at := range s.sites {
		out = append(out, at.Site)
	}
	return out
}

// Close stops answering and frees the ports.
func (s *Server) Close() error {
	s.n.RemoveStreamHandler(Protocol)
	s.cancel()
	s.late.close()
	err := errors.Join(s.service.Close(), s.closeSites())
	s.running.Wait()
	return err
}

func (s *Server) closeSites() error {
	var errs []error
	for _, at := range s.sites {
		for _, c := range at.reflectors {
			errs = append(errs, c.Close())
		}
		if at.probe != nil {
			errs = append(errs, at.probe.Close())
		}
		if at.tcp != nil {
			errs = append(errs, at.tcp.Close())
		}
	}
	return errors.Join(errs...)
}

// open makes a site of every address that QUIC listens at.
func (s *Server) open() error {
	shared, err := s.n.SharedUDP()
	if err != nil {
		return fmt.Errorf("vantage: %w", err)
	}
	for _, c := range shared {
		at := endpointOf(c.LocalAddr())
		i := slices.IndexFunc(s.sites, func(o *site) bool { return o.IP == at.Addr() })
		if i < 0 {
			i = len(s.sites)
			s.sites = append(s.sites, &site{Site: Site{IP: at.Addr()}})
		}
		s.sites[i].reflectors = append(s.sites[i].reflectors, c)
		s.sites[i].Ports = append(s.sites[i].Ports, at.Port())
	}
	slices.SortFunc(s.sites, func(a, b *site) int { return a.IP.Compare(b.IP) })
	wild := func(o *site) bool { return o.IP.IsUnspecified() }
	if len(s.sites) == 0 || slices.ContainsFunc(s.sites, wild) {
		return ErrNoSite
	}
	for _, at := range s.sites {
		if err := s.equip(at); err != nil {
			return fmt.Errorf("vantage at %s: %w", at.IP, err)
		}
	}
	return nil
}

// equip opens what a site has besides QUIC.
func (s *Server) equip(at *site) error {
	second, err := s.listenAbove(at.IP, at.Ports[0])
	if err != nil {
		return err
	}
	at.reflectors = append(at.reflectors, second)
	at.Ports = append(at.Ports, endpointOf(second.LocalAddr()).Port())
	if at.probe, err = s.listenAbove(at.IP, at.Ports[0]); err != nil {
		return err
	}
	at.Probe = endpointOf(at.probe.LocalAddr()).Port()
	for _, a := range s.n.Network().ListenAddresses() {
		if l, ok := addr.TCP(a); ok && (l.Addr() == at.IP || l.Addr().IsUnspecified() && l.Addr().Is4() == at.IP.Is4()) {
			config := net.ListenConfig{Control: s.n.Control}
			if at.tcp, err = config.Listen(s.ctx, "tcp", netip.AddrPortFrom(at.IP, 0).String()); err != nil {
				return err
			}
			at.TCP = endpointOf(at.tcp.Addr()).Port()
			return nil
		}
	}
	return nil
}

// listenAbove opens a port close above another, so that an operator knows which to
// let through a firewall; any, if those are taken.
func (s *Server) listenAbove(ip netip.Addr, port uint16) (net.PacketConn, error) {
	for i := range uint16(portTries) {
		if next := port + 1 + i; next > port {
			if c, err := s.n.ListenUDP(netip.AddrPortFrom(ip, next)); err == nil {
				return c, nil
			}
		}
	}
	return s.n.ListenUDP(netip.AddrPortFrom(ip, 0))
}

// answer serves a request on a stream.
func (s *Server) answer(_ context.Context, req wire.Request) ([]byte, error) {
	kind, err := decodeRequest(req.Body)
	if err != nil {
		return nil, err
	}
	var a Answer
	from, udp := addr.UDP(req.Conn.RemoteMultiaddr())
	if !udp {
		from, _ = addr.TCP(req.Conn.RemoteMultiaddr())
	}
	here, _ := addr.IP(req.Conn.LocalMultiaddr())
	if a.Observed = from; !from.IsValid() || addr.IsRelayed(req.Conn.RemoteMultiaddr()) {
		return Answer{}.encode(), nil // a relay stands between: nothing can be seen
	}
	switch {
	case kind == askConnect && !udp && s.allow(from):
		a.Attempts = s.connect(from, here)
	case kind == askSites, kind == askAttestation:
		a.Sites = s.sitesFor(here)
		if udp {
			a.Token = s.tokens.issue(time.Now(), from)
		}
	}
	if kind == askAttestation {
		said := Attestation{Peer: req.Peer, Observed: from, At: time.Now()}
		if a.Attestation, err = said.Sign(s.n.Peerstore().PrivKey(s.n.ID())); err != nil {
			return nil, err
		}
	}
	return a.encode(), nil
}

// sitesFor are the sites that somebody can use who reached the server here.
func (s *Server) sitesFor(here netip.Addr) []Site {
	var out []Site
	for _, at := range s.sites {
		if len(out) < maxSites && at.IP.Is4() == here.Is4() && scope(at.IP) == scope(here) {
			one := at.Site
			one.Here = one.IP == here
			one.Ports = one.Ports[:min(len(one.Ports), maxPorts)]
			out = append(out, one)
		}
	}
	return out
}

// connect tries to open a TCP connection to the asker from a port that it has not
// written to, at the address it came to and at the others.
func (s *Server) connect(to netip.AddrPort, here netip.Addr) []Attempt {
	sites := s.sitesFor(here)
	out := make([]Attempt, len(sites))
	ctx, cancel := context.WithTimeout(s.ctx, tcpPatience)
	defer cancel()
	var all sync.WaitGroup
	for i, at := range sites {
		all.Go(func() {
			d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(at.IP, 0)), Control: s.n.Control}
			c, err := d.DialContext(ctx, "tcp", to.String())
			if err == nil {
				_ = c.Close() // it was there
			}
			out[i] = Attempt{From: at.IP, Connected: err == nil}
		})
	}
	all.Wait()
	return out
}

func scope(ip netip.Addr) addr.Scope {
	a, err := manet.FromIP(ip.AsSlice())
	if err != nil {
		return addr.ScopeUnknown
	}
	return addr.ScopeOf(a)
}

// endpointOf is the endpoint of a UDP or TCP address; IPv4 in either of its
// spellings is IPv4.
func endpointOf(a net.Addr) netip.AddrPort {
	var at netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		at = a.AddrPort()
	case *net.TCPAddr:
		at = a.AddrPort()
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}
