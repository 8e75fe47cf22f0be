package punch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/nat"
	"dibber/netkit/natcheck"
	"dibber/netkit/vantage"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// freshFor is how long what a relay attested is used before it is asked again.
	freshFor = 30 * time.Second
	// lookTimeout bounds a look at the own NAT, and waiting for one.
	lookTimeout = 2 * time.Second
	// predicted is how many flows ahead of now a port is predicted: others behind the
	// NAT may open some before. predicting is how many sockets try to get it.
	predicted  = 16
	predicting = 32
	// kindFor is how long it is believed which kind the own NAT is, and kindDoubted how
	// long where a plan that rests on it has failed.
	kindFor     = 10 * time.Minute
	kindDoubted = time.Minute
)

// situation is what a host knows of its own NAT by a relay that is a vantage point.
type situation struct {
	server     peer.ID // the vantage point
	paths      []path
	attested   [][]byte       // where the host is, one for each family
	seenAt     []netip.Addr   // as attested
	taken      time.Time      // when the first of them came
	serverSaid time.Time      // and what the server's clock said then
	reflector  netip.AddrPort // tells the endpoint of a socket; invalid where there is none
	kindAt     time.Time      // when the kinds of paths were found out
	home       []netip.Addr   // the host's own addresses at the time
}

// holds reports whether the kinds of paths are still to be believed: the host is seen at
// the same addresses, has the same of its own, and not too long has passed.
func (s *situation) holds(seenAt, home []netip.Addr, now time.Time) bool {
	return len(s.paths) > 0 && slices.Equal(s.seenAt, seenAt) && slices.Equal(s.home, home) && now.Sub(s.kindAt) < kindFor
}

// home are the addresses of the host's interfaces: others mean another network.
func (s *Service) home() (ips []netip.Addr) {
	for _, a := range s.n.ListenAddrs() {
		if ip, ok := addr.IP(a); ok {
			ips = append(ips, ip)
		}
	}
	slices.SortFunc(ips, netip.Addr.Compare)
	return slices.Compact(ips)
}

// doubt has the kind of the own NAT found out anew that a plan rested on in vain, unless
// it just was.
func (s *Service) doubt(own *situation) {
	s.looks.mu.Lock()
	defer s.looks.mu.Unlock()
	if time.Since(own.kindAt) >= kindDoubted {
		delete(s.looks.known, own.server)
	}
}

// serverNow is what the server's clock says about now.
func (s *situation) serverNow() time.Time { return s.serverSaid.Add(time.Since(s.taken)) }

// situations are those of a host, by relay.
type situations struct {
	mu    sync.Mutex // guards following
	known map[peer.ID]*look
}

// look is one look at the own NAT, under way or over.
type look struct {
	began time.Time
	done  chan struct{} // closed when what follows is set
	found *situation    // nil: the relay is no vantage point, or cannot be reached
}

// situation is what is known by a relay now. It waits for a look that is under way; nil
// means that nothing can be known.
func (s *Service) situation(ctx context.Context, relay peer.AddrInfo) *situation {
	l := s.look(relay)
	select {
	case <-l.done:
		return l.found
	case <-ctx.Done():
		return nil
	}
}

// look returns the last look by a relay, or begins another if that is too old.
func (s *Service) look(relay peer.AddrInfo) *look {
	s.looks.mu.Lock()
	defer s.looks.mu.Unlock()
	last := s.looks.known[relay.ID]
	if last != nil && time.Since(last.began) < freshFor {
		return last
	}
	l := &look{began: time.Now(), done: make(chan struct{})}
	s.looks.known[relay.ID] = l
	started := s.goRun(func() {
		defer close(l.done)
		ctx, cancel := context.WithTimeout(s.ctx, lookTimeout)
		defer cancel()
		var before *situation
		if last != nil {
			<-last.done // long ago: it takes less time
			before = last.found
		}
		found, err := s.lookFrom(ctx, relay, before)
		if err == nil { // else the relay is none to learn from
			l.found = found
			if s.cfg.PortMap && slices.ContainsFunc(found.paths, func(p path) bool { return p.kind.NAT && p.kind.Filtering != nat.EIF }) {
				s.goRun(s.keepMapped)
			}
		}
	})
	if !started {
		close(l.done)
	}
	return l
}

// lookFrom looks at the own NAT from a relay. What kind of NAT it is mostly stays true for
// a while, and a second check has less to go by: the first one has opened something.
func (s *Service) lookFrom(ctx context.Context, relay peer.AddrInfo, before *situation) (*situation, error) {
	c, err := s.relayConn(ctx, relay)
	if err != nil {
		return nil, err
	}
	if s.lacks(c, vantage.Protocol) {
		return nil, errNoVantage
	}
	out := &situation{server: relay.ID, home: s.home()}
	if err := s.attest(ctx, c, out); err != nil {
		return nil, err
	}
	if other, ok := s.besides(ctx, relay.ID, c); ok {
		if err := s.attest(ctx, other, out); err != nil {
			return nil, err
		}
	}
	if before != nil && before.holds(out.seenAt, out.home, time.Now()) {
		out.paths, out.kindAt = before.paths, before.kindAt
		return out, nil
	}
	// The relay may also name addresses that are its own alone, such as loopback.
	at := peer.AddrInfo{ID: relay.ID, Addrs: []ma.Multiaddr{c.RemoteMultiaddr()}}
	for _, a := range slices.Concat(relay.Addrs, s.n.Peerstore().Addrs(relay.ID)) {
		if addr.ScopeOf(a) == addr.ScopeOf(c.RemoteMultiaddr()) && !addr.IsRelayed(a) {
			at.Addrs = append(at.Addrs, a)
		}
	}
	at.Addrs = ma.Unique(at.Addrs)
	// What was found until the time was over counts, whatever the verdict on it.
	r, _ := natcheck.Do(ctx, s.n, natcheck.Config{Servers: []peer.AddrInfo{at}, UDPOnly: true, Limit: lookTimeout * 3 / 4})
	out.paths, out.kindAt = pathsOf(r.Families), time.Now()
	return out, nil
}

var errNoVantage = errors.New("the relay is no vantage point")

// lacks reports whether the other end of c has said already that it does not speak a
// protocol.
func (s *Service) lacks(c network.Conn, p protocol.ID) bool {
	select {
	case <-s.n.Identified(c):
		speaks, err := s.n.Peerstore().SupportsProtocols(c.RemotePeer(), p)
		return err == nil && len(speaks) == 0
	default:
		return false
	}
}

// relayConn is a direct connection with a relay, over QUIC if there is one.
func (s *Service) relayConn(ctx context.Context, relay peer.AddrInfo) (network.Conn, error) {
	conns := slices.DeleteFunc(s.n.Conns(relay.ID), func(c network.Conn) bool { return addr.IsRelayed(c.RemoteMultiaddr()) })
	for _, c := range conns {
		if _, quic := addr.UDP(c.RemoteMultiaddr()); quic {
			return c, nil
		}
	}
	if len(conns) > 0 {
		return conns[0], nil
	}
	return s.n.Dial(ctx, relay.ID, relay.Addrs)
}

// besides is a direct connection with a relay of the other family of addresses than c,
// made if the host has such an address and the relay one, too.
func (s *Service) besides(ctx context.Context, relay peer.ID, c network.Conn) (network.Conn, bool) {
	other := func(a ma.Multiaddr) bool {
		ip, ok := addr.IP(a)
		had, _ := addr.IP(c.RemoteMultiaddr())
		return ok && !addr.IsRelayed(a) && ip.Is4() != had.Is4() && addr.ScopeOf(a) == addr.ScopeOf(c.RemoteMultiaddr())
	}
	quic := func(a ma.Multiaddr) bool { return other(a) && addr.Transport(a) == addr.TransportQUIC }
	known := s.n.Peerstore().Addrs(relay)
	i := slices.IndexFunc(known, quic)
	if i < 0 || !slices.ContainsFunc(s.n.ListenAddrs(), quic) {
		return nil, false
	}
	changed, stop := s.n.Changes(relay)
	defer stop()
	for dialled := false; ; dialled = true {
		conns := s.n.Conns(relay)
		if j := slices.IndexFunc(conns, func(c network.Conn) bool { return other(c.RemoteMultiaddr()) }); j >= 0 {
			return conns[j], true
		}
		if !dialled && s.n.DialBeside(ctx, relay, known[i]) != nil {
			return nil, false
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, false
		}
	}
}

// attest has a relay attest where it sees the host.
func (s *Service) attest(ctx context.Context, c network.Conn, out *situation) error {
	st, err := s.n.OpenStream(ctx, c, vantage.Protocol)
	if err != nil {
		return err
	}
	answer, err := vantage.AskAttestation(ctx, st)
	if err != nil {
		return err
	}
	said, err := vantage.OpenAttestation(answer.Attestation)
	if err != nil {
		return err
	}
	if said.Server != c.RemotePeer() || said.Peer != s.n.ID() {
		return fmt.Errorf("%w: %s attests where %s is", errProtocol, said.Server, said.Peer)
	}
	if len(out.attested) == 0 {
		out.taken, out.serverSaid = time.Now(), said.At
	}
	out.attested, out.seenAt = append(out.attested, answer.Attestation), append(out.seenAt, said.Observed.Addr())
	for _, site := range answer.Sites {
		if site.Here && len(site.Ports) > 0 {
			out.reflector = netip.AddrPortFrom(site.IP, site.Ports[0])
		}
	}
	return nil
}

// pathsOf are the paths by which a peer may come in, as far as they are known. Where one
// address alone has looked, and saw the same from two ports, the mapping is the more common
// one until it proves to be otherwise.
func pathsOf(f nat.Families) (out []path) {
	for _, p := range []nat.Path{f.IP6.UDP, f.IP4.UDP} {
		assumed := p.NAT != nil && p.MappingVaries == nil && len(p.Observed) == 1
		if assumed {
			p.Mapping, p.MappingVaries = new(nat.EIM), new(false)
		}
		if kind, known := p.Kind(); known && len(p.Observed) > 0 {
			out = append(out, path{observed: p.Observed[0], kind: kind, assumed: assumed})
		}
	}
	return out
}

// predict opens sockets of a path one of which will be seen at a certain port, and says
// at which. It is 0 where that cannot be told, or need not.
func (s *Service) predict(ctx context.Context, p path, reflector netip.AddrPort) (port uint16, sockets []net.PacketConn) {
	if p.kind.Mapping == nat.EIM || p.kind.Pattern != nat.Sequential && p.kind.Pattern != nat.Preserved {
		return 0, nil
	}
	count := predicting
	if p.kind.Pattern == nat.Preserved {
		count = 1 // it is certain
	}
	for range count {
		c, err := s.n.ListenUDP(netip.AddrPortFrom(wildcard(p.observed.Addr()), 0))
		if err != nil {
			break
		}
		sockets = append(sockets, c)
	}
	if len(sockets) < count {
		closeAll(sockets)
		return 0, nil
	}
	if p.kind.Pattern == nat.Preserved {
		local, _ := netip.ParseAddrPort(sockets[0].LocalAddr().String())
		return local.Port(), sockets
	}
	first, ok := s.reflect(ctx, p, reflector)
	last, again := s.reflect(ctx, p, reflector)
	step := int(last) - int(first)
	if port := int(last) + predicted*step; ok && again && step != 0 && max(step, -step) <= predicting && port > 1024 && port < 1<<16 {
		return uint16(port), sockets
	}
	closeAll(sockets)
	return 0, nil
}

// reflect is the port at which a new socket is seen.
func (s *Service) reflect(ctx context.Context, p path, reflector netip.AddrPort) (port uint16, ok bool) {
	if reflector.Addr().Is4() != p.observed.Addr().Is4() || !reflector.IsValid() {
		return 0, false
	}
	conn, err := s.n.ListenUDP(netip.AddrPortFrom(wildcard(p.observed.Addr()), 0))
	if err != nil {
		return 0, false
	}
	c := vantage.NewClient(conn)
	defer c.Close()
	var id [8]byte
	copy(id[:], newNonce())
	const copies, pause = 3, 150 * time.Millisecond
	for range copies {
		if c.Reflect(binary.BigEndian.Uint64(id[:]), reflector) != nil {
			return 0, false
		}
		again := time.After(pause)
		for waiting := true; waiting; {
			select {
			case r := <-c.Replies():
				if r.ID == binary.BigEndian.Uint64(id[:]) && r.From == reflector && r.Observed.Addr() == p.observed.Addr() {
					return r.Observed.Port(), true
				}
			case <-again:
				waiting = false
			case <-ctx.Done():
				return 0, false
			}
		}
	}
	return 0, false
}

// wildcard is the unspecified address of the family of ip.
func wildcard(ip netip.Addr) netip.Addr {
	if ip.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func closeAll(sockets []net.PacketConn) {
	for _, c := range sockets {
		_ = c.Close() // nothing was to be written any more
	}
}

// known is what is known of the own NAT by a relay, if that is enough to say anything,
// else by one of Config.Servers: the one that the other end has named, if any.
func (s *Service) known(ctx context.Context, relay peer.AddrInfo, named peer.ID) *situation {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	for _, server := range append([]peer.AddrInfo{relay}, s.cfg.Servers...) {
		if named != "" && named != server.ID {
			continue
		}
		if own := s.situation(ctx, server); own != nil && len(own.paths) > 0 {
			return own
		}
	}
	return nil
}
