package blocks

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/wire"

	"github.com/ipfs/boxo/bitswap/message"
	bsnet "github.com/ipfs/boxo/bitswap/network"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/time/rate"
)

// The versions of Bitswap that are spoken, the best first: 1.2 has WANT-HAVE, HAVE and DONT_HAVE.
const (
	Protocol    protocol.ID = "/ipfs/bitswap/1.2.0"
	Protocol1_1 protocol.ID = "/ipfs/bitswap/1.1.0"
)

func protocols() []protocol.ID { return []protocol.ID{Protocol, Protocol1_1} }

// service is the name under which the resource manager counts.
const service = "dibber.blocks"

// exchange carries Bitswap's messages over a node's streams. Unlike boxo's own it bounds what a peer can make this node hold and do
// before a message is parsed, uses relayed connections as well, knows the peers that were connected before it started, and
// leaves no goroutine behind.
type exchange struct {
	n      *host.Node
	limits Limits
	told   watchers
	wants  *wire.Limiter[peer.ID]
	served *rate.Limiter // nil: no limit

	ctx    context.Context //nolint:containedctx // it ends with the exchange
	cancel context.CancelFunc
	events *bsnet.ConnectEventManager
	stats  bsnet.Stats
	count  Counts

	receivers []bsnet.Receiver

	mu      sync.Mutex // guards following
	closed  bool
	running sync.WaitGroup
}

func newExchange(n *host.Node, limits Limits, on func(Message)) *exchange {
	x := &exchange{n: n, limits: limits, wants: wire.NewLimiter[peer.ID](limits.Wants, limits.WantsBurst, limitedPeers)}
	if limits.Rate > 0 {
		x.served = rate.NewLimiter(rate.Limit(limits.Rate), max(limits.Rate/4, 1))
	}
	if on != nil {
		x.told.add(on)
	}
	x.ctx, x.cancel = context.WithCancel(context.Background())
	return x
}

// Start is called by the service once what receives messages is there.
func (x *exchange) Start(receivers ...bsnet.Receiver) {
	x.receivers = receivers
	listeners := make([]bsnet.ConnectionListener, len(receivers))
	for i, r := range receivers {
		listeners[i] = r
	}
	x.events = bsnet.NewConnectEventManager(listeners...)
	x.events.Start()
	for _, p := range protocols() {
		x.n.SetStreamHandler(p, x.handle)
	}
	x.n.Network().Notify((*notifiee)(x))
	for _, p := range x.n.Network().Peers() {
		x.events.Connected(p)
	}
}

// Stop ends streams both ways and returns when nothing runs any more.
func (x *exchange) Stop() {
	for _, p := range protocols() {
		x.n.RemoveStreamHandler(p)
	}
	x.n.Network().StopNotify((*notifiee)(x))
	x.mu.Lock()
	x.closed = true
	x.mu.Unlock()
	x.cancel()
	x.running.Wait()
	x.events.Stop()
}

// enter counts a goroutine that Stop waits for, unless it is too late.
func (x *exchange) enter() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return false
	}
	x.running.Add(1)
	return true
}

// notifiee hears of connections.
type notifiee exchange

func (nt *notifiee) Connected(_ network.Network, c network.Conn) {
	(*exchange)(nt).events.Connected(c.RemotePeer())
}

func (nt *notifiee) Disconnected(n network.Network, c network.Conn) {
	if len(n.ConnsToPeer(c.RemotePeer())) == 0 {
		(*exchange)(nt).events.Disconnected(c.RemotePeer())
	}
}

func (nt *notifiee) Listen(network.Network, ma.Multiaddr)      {}
func (nt *notifiee) ListenClose(network.Network, ma.Multiaddr) {}

// open opens a stream to a peer, over a relay where there is no other path.
func (x *exchange) open(ctx context.Context, p peer.ID) (network.Stream, error) {
	st, err := x.n.NewStream(network.WithAllowLimitedConn(network.WithNoDial(ctx, service), service), p, protocols()...)
	if err != nil {
		return nil, fmt.Errorf("open stream for blocks to %s: %w", p, err)
	}
	if err := st.Scope().SetService(service); err != nil {
		return nil, errors.Join(fmt.Errorf("open stream for blocks to %s: %w", p, err), st.Reset())
	}
	return st, nil
}

const (
	// writeTimeout is how long a message may take to be taken.
	writeTimeout = 2 * time.Minute
	// closeTimeout is how long the other side may take to agree on the protocol of a stream that carried one message.
	closeTimeout = 10 * time.Second
)

// SendMessage sends one message on a stream of its own. What carries blocks waits until Limits.Rate lets it.
func (x *exchange) SendMessage(ctx context.Context, p peer.ID, m message.BitSwapMessage) error {
	if err := x.pace(ctx, payload(m)); err != nil {
		return err
	}
	st, err := x.open(ctx, p)
	if err != nil {
		return err
	}
	if err := x.write(st, m); err != nil {
		return errors.Join(err, st.Reset())
	}
	if !x.enter() {
		return st.Reset()
	}
	// Close waits for the other side to agree on the protocol, which must not hold up the messages after this one.
	go func() {
		defer x.running.Done()
		defer context.AfterFunc(x.ctx, func() { _ = st.Reset() })()
		_ = st.SetReadDeadline(time.Now().Add(closeTimeout))
		_ = st.Close()
	}()
	return nil
}

// pace waits until so many bytes of blocks may be given out.
func (x *exchange) pace(ctx context.Context, bytes int) error {
	for bytes > 0 && x.served != nil {
		part := min(bytes, x.served.Burst())
		if err := x.served.WaitN(ctx, part); err != nil {
			return err
		}
		bytes -= part
	}
	return nil
}

// payload is how many bytes of blocks a message carries.
func payload(m message.BitSwapMessage) (n int) {
	for _, b := range m.Blocks() {
		n += len(b.RawData())
	}
	return n
}

// write writes a message and tells of it.
func (x *exchange) write(st network.Stream, m message.BitSwapMessage) error {
	if err := st.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if err := m.ToNetV1(st); err != nil {
		return fmt.Errorf("send message to %s: %w", st.Conn().RemotePeer(), err)
	}
	atomic.AddUint64(&x.stats.MessagesSent, 1)
	x.tell(st.Conn().RemotePeer(), true, m)
	return nil
}

// NewMessageSender returns what sends messages one after another on a stream that stays open.
func (x *exchange) NewMessageSender(ctx context.Context, p peer.ID, _ *bsnet.MessageSenderOpts) (bsnet.MessageSender, error) {
	s := &sender{x: x, to: p}
	return s, s.connect(ctx)
}

// sender sends messages to one peer. It is used by one goroutine.
type sender struct {
	x  *exchange
	to peer.ID
	st network.Stream // nil: none open
	// stop ends the watch over the exchange's end.
	stop func() bool
}

func (s *sender) connect(ctx context.Context) error {
	if s.st != nil {
		return nil
	}
	st, err := s.x.open(ctx, s.to)
	if err != nil {
		if host.NotSupported(err) {
			s.x.events.MarkUnresponsive(s.to)
		}
		return err
	}
	s.st, s.stop = st, context.AfterFunc(s.x.ctx, func() { _ = st.Reset() })
	return nil
}

// SendMsg sends a message, a second time on a new stream if the first had ended meanwhile.
func (s *sender) SendMsg(ctx context.Context, m message.BitSwapMessage) error {
	fresh := s.st == nil
	err := s.send(ctx, m)
	if err == nil || fresh || ctx.Err() != nil {
		return err
	}
	return s.send(ctx, m)
}

func (s *sender) send(ctx context.Context, m message.BitSwapMessage) error {
	if err := s.connect(ctx); err != nil {
		return err
	}
	if err := s.x.write(s.st, m); err != nil {
		return errors.Join(err, s.Reset())
	}
	return nil
}

// Reset ends the stream.
func (s *sender) Reset() error {
	if s.st == nil {
		return nil
	}
	s.stop()
	err := s.st.Reset()
	s.st = nil
	return err
}

// SupportsHave reports whether the peer knows WANT-HAVE.
func (s *sender) SupportsHave() bool { return s.st != nil && s.st.Protocol() == Protocol }

// Connect connects with a provider that was found.
func (x *exchange) Connect(ctx context.Context, p peer.AddrInfo) error {
	return x.n.Connect(network.WithAllowLimitedConn(ctx, service), p)
}

// DisconnectFrom is asked of the network by Bitswap; nothing here wants it done to connections that others use as well.
func (x *exchange) DisconnectFrom(context.Context, peer.ID) error { return nil }

// IsConnectedToPeer reports whether there is a connection, relayed or not.
func (x *exchange) IsConnectedToPeer(_ context.Context, p peer.ID) bool {
	return len(x.n.Network().ConnsToPeer(p)) > 0
}

// Host is the node.
func (x *exchange) Host() corehost.Host { return x.n }

// Self is the node's peer id.
func (x *exchange) Self() peer.ID { return x.n.ID() }

// Stats counts messages.
func (x *exchange) Stats() bsnet.Stats {
	return bsnet.Stats{MessagesSent: atomic.LoadUint64(&x.stats.MessagesSent), MessagesRecvd: atomic.LoadUint64(&x.stats.MessagesRecvd)}
}

// Ping measures the round trip time to a peer, from which Bitswap guesses when an answer is overdue.
func (x *exchange) Ping(ctx context.Context, p peer.ID) ping.Result {
	ctx, cancel := context.WithCancel(network.WithAllowLimitedConn(ctx, service))
	defer cancel()
	select {
	case r := <-ping.Ping(ctx, x.n, p):
		return r
	case <-ctx.Done():
		return ping.Result{Error: ctx.Err()}
	}
}

// Latency is the mean round trip time to a peer.
func (x *exchange) Latency(p peer.ID) time.Duration { return x.n.Peerstore().LatencyEWMA(p) }

// TagPeer, UntagPeer, Protect and Unprotect tell the connection manager which connections matter.
func (x *exchange) TagPeer(p peer.ID, tag string, w int) { x.n.ConnManager().TagPeer(p, tag, w) }

// UntagPeer takes back TagPeer.
func (x *exchange) UntagPeer(p peer.ID, tag string) { x.n.ConnManager().UntagPeer(p, tag) }

// Protect keeps the connection manager from closing connections with a peer.
func (x *exchange) Protect(p peer.ID, tag string) { x.n.ConnManager().Protect(p, tag) }

// Unprotect takes back Protect.
func (x *exchange) Unprotect(p peer.ID, tag string) bool { return x.n.ConnManager().Unprotect(p, tag) }
