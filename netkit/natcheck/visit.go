package natcheck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/nat"
	"dibber/netkit/vantage"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify/pb"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"
)

// visit is what is asked of one server. It dials each kind of address by itself:
// which of them were written to decides what the filter lets in.
type visit struct {
	c      *check
	server peer.AddrInfo

	mu    sync.Mutex // guards following
	tried map[pathKey]bool
	quic  map[string]chan struct{} // by family: closed when connected over QUIC
	looks []*look
	err   error // the first
}

// look is one connection to a server.
type look struct {
	v         *visit
	key       pathKey
	addr      ma.Multiaddr
	remote    netip.AddrPort
	local     netip.AddrPort
	conn      transport.CapableConn
	protocols []string
	listen    []ma.Multiaddr
	rtt       time.Duration // the last measured; guarded by v.mu
}

// run looks from every family and transport that the server has an address for.
func (v *visit) run(ctx context.Context) {
	var addrs []ma.Multiaddr
	for _, a := range v.server.Addrs {
		r := v.c.n.Resolve(ctx, v.server.ID, a)
		v.fail(r.Err)
		addrs = append(addrs, r.Addrs...)
	}
	v.each(ctx, addrs)
	if len(v.looks) == 0 {
		v.fail(ErrNoAddress)
	}
}

// dialShare is how much of the time for the report a connection may take, in percent. What
// is blocked takes all of it, and dial-backs and reservations come after.
const dialShare = 60

// ErrNoAddress means that none of a server's addresses, or of any server's, is of a kind
// that can be looked over.
var ErrNoAddress = errors.New("no server address is direct, over QUIC or TCP, and of a family and transport in use")

// each takes a look over the first of addrs of each kind that had none, and then over
// those that the server names itself.
func (v *visit) each(ctx context.Context, addrs []ma.Multiaddr) {
	var all sync.WaitGroup
	for _, a := range addrs {
		if l := v.begin(a); l != nil {
			all.Go(func() {
				if err := l.run(ctx); err != nil && !errors.Is(err, swarm.ErrNoTransport) {
					v.fail(fmt.Errorf("%s: %w", l.addr, err))
				}
			})
		}
	}
	all.Wait()
}

// begin claims the kind of an address; nil if that is taken, or none to look over.
func (v *visit) begin(a ma.Multiaddr) *look {
	l := &look{v: v, addr: a}
	var ok bool
	switch addr.Transport(a) {
	case addr.TransportQUIC:
		l.key.transport = UDP
		l.remote, ok = addr.UDP(a)
	case addr.TransportTCP:
		l.key.transport = TCP
		l.remote, ok = addr.TCP(a)
	}
	if !ok {
		return nil
	}
	l.key.family = familyOf(l.remote.Addr())
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.tried == nil {
		v.tried = make(map[pathKey]bool)
	}
	if v.tried[l.key] || v.c.n.Excludes(a) || v.c.cfg.UDPOnly && l.key.transport != UDP {
		return nil
	}
	v.tried[l.key] = true
	return l
}

// overQUIC is closed when there is a connection of a family over QUIC.
func (v *visit) overQUIC(family string) chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.quic == nil {
		v.quic = map[string]chan struct{}{IP4: make(chan struct{}), IP6: make(chan struct{})}
	}
	return v.quic[family]
}

func (v *visit) fail(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.err == nil {
		v.err = err
	}
}

func (v *visit) close() {
	for _, l := range v.looks {
		_ = l.conn.Close() // it has served its purpose
	}
}

// speaks reports whether the server named a protocol.
func (v *visit) speaks(p protocol.ID) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.ContainsFunc(v.looks, func(l *look) bool { return slices.Contains(l.protocols, string(p)) })
}

func (v *visit) report() Server {
	s := Server{Peer: v.server.ID}
	if v.err != nil {
		s.Error = new(v.err.Error())
	}
	if len(v.looks) > 0 {
		s.Vantage, s.AutoNAT, s.Relay = new(v.speaks(vantage.Protocol)), new(v.speaks(dialRequest)), new(v.speaks(relayHop))
	}
	for _, l := range v.looks {
		s.Addrs = append(s.Addrs, l.addr.String())
	}
	return s
}

// run connects, asks who the server is and what it sees, and makes use of what it
// offers.
func (l *look) run(ctx context.Context) error {
	c := l.v.c
	c.n.Contact(l.key.transport, l.remote.Addr())
	began := time.Now()
	patience := c.cfg.Limit * dialShare / 100
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := c.n.DialAddr(within, l.v.server.ID, l.addr)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return fmt.Errorf("no answer within %s", patience)
	}
	if err != nil {
		return err
	}
	l.conn = conn
	if l.key.transport == UDP {
		l.local, _ = addr.UDP(conn.LocalMultiaddr())
	} else {
		l.local, _ = addr.TCP(conn.LocalMultiaddr())
	}
	l.v.mu.Lock()
	l.rtt = time.Since(began) // of a QUIC handshake; TCP's takes several
	l.v.looks = append(l.v.looks, l)
	l.v.mu.Unlock()
	if l.key.transport == UDP {
		close(l.v.overQUIC(l.key.family)) // one look of each kind there is
	}

	var both sync.WaitGroup
	both.Go(func() {
		if err := l.identify(ctx); err != nil {
			l.v.fail(fmt.Errorf("identify over %s: %w", l.addr, err))
			return
		}
		l.v.each(ctx, l.sameScope())
	})
	both.Go(func() { l.vantage(ctx) })
	both.Wait()
	return nil
}

// sameScope are the addresses that the server listens on and can be reached at from
// where it was reached.
func (l *look) sameScope() []ma.Multiaddr {
	return slices.DeleteFunc(slices.Clone(l.listen), func(a ma.Multiaddr) bool {
		return addr.IsRelayed(a) || addr.ScopeOf(a) != addr.ScopeOf(l.addr)
	})
}

// ownPort reports whether the connection left from a port that the node listens on:
// reuse of TCP ports falls back to another in silence.
func (l *look) ownPort() bool {
	for _, a := range l.v.c.n.Network().ListenAddresses() {
		at, ok := addr.UDP(a)
		if l.key.transport == TCP {
			at, ok = addr.TCP(a)
		}
		if ok && at.Port() == l.local.Port() {
			return true
		}
	}
	return false
}

// identifyMax bounds an identify message in bytes; identifyParts is how many are
// read, as libp2p does.
const (
	identifyMax   = 8 << 10
	identifyParts = 10
)

// identify asks the server who it is and where it sees the connection come from.
func (l *look) identify(ctx context.Context) error {
	st, err := l.v.c.n.OpenOn(ctx, l.conn, identify.ID)
	if err != nil {
		return err
	}
	defer func() { _ = st.Reset() }() // all was read
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer stop()
	began := time.Now()
	if err := st.CloseWrite(); err != nil {
		return err
	}
	frames := wire.NewReader(st, identifyMax)
	var id pb.Identify
	for i := range identifyParts {
		part, err := frames.Next()
		if errors.Is(err, io.EOF) && i > 0 {
			break
		}
		if err != nil {
			return err
		}
		if i == 0 {
			l.took(time.Since(began))
		}
		if err := (proto.UnmarshalOptions{Merge: true, DiscardUnknown: true}).Unmarshal(part, &id); err != nil {
			return fmt.Errorf("malformed: %w", err)
		}
	}
	l.v.mu.Lock()
	l.protocols = id.GetProtocols()
	l.v.mu.Unlock()
	for _, b := range id.GetListenAddrs() {
		if a, err := ma.NewMultiaddrBytes(b); err == nil {
			l.listen = append(l.listen, a)
		}
	}
	seen, err := ma.NewMultiaddrBytes(id.GetObservedAddr())
	if err != nil {
		return nil // it does not say
	}
	at, ok := addr.UDP(seen)
	if l.key.transport == TCP {
		at, ok = addr.TCP(seen)
	}
	if ok {
		l.saw(at, ByIdentify)
	}
	return nil
}

// took notes a round trip.
func (l *look) took(rtt time.Duration) {
	l.v.mu.Lock()
	defer l.v.mu.Unlock()
	l.rtt = rtt
}

// saw keeps what the server says about the connection, unless that left from a port
// that is not the node's.
func (l *look) saw(at netip.AddrPort, by string) {
	if !l.ownPort() || familyOf(at.Addr()) != l.key.family {
		return
	}
	l.v.mu.Lock()
	rtt := l.rtt
	l.v.mu.Unlock()
	l.v.c.saw(Sight{
		Server: l.v.server.ID, Local: l.local, Observed: at, Transport: l.key.transport,
		RTTms: new(ms(rtt)), Remote: l.remote, By: by,
	})
}

// vantage asks the server as a vantage point, if it is one.
func (l *look) vantage(ctx context.Context) {
	c := l.v.c
	st, err := c.n.OpenOn(ctx, l.conn, vantage.Protocol)
	if err != nil {
		return
	}
	began := time.Now()
	answer, err := vantage.Ask(ctx, st)
	if err != nil {
		return // most peers are none, and identify tells which are
	}
	answered := time.Now()
	if answer.Observed.IsValid() {
		l.took(answered.Sub(began))
		l.saw(answer.Observed, ByVantage)
	}
	if l.key.transport == UDP {
		c.surveyUDP(ctx, l, answer)
	} else {
		c.surveyTCP(ctx, l, answer)
	}
	c.mu.Lock()
	p := nat.Classify(c.path(l.key.family, l.key.transport))
	c.mu.Unlock()
	c.tell(Event{Path: &PathEvent{
		Server: l.v.server.ID, Family: l.key.family, Transport: l.key.transport, Path: p, MS: ms(time.Since(answered)),
	}})
}
