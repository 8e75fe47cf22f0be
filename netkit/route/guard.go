package route

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/wire"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// ServiceName is what streams and buffers are counted under at the resource manager.
const ServiceName = "dibber.route"

// limitedKeys is how many peers, and how many networks, are limited at a time.
const limitedKeys = 16384

// errRefused is what the library reads of a stream whose request is not to be served; it resets the stream.
var errRefused = errors.New("request refused")

// guard stands before the library's stream handler: it counts and bounds streams and requests, and looks at the length of
// a request before a byte of it is kept.
type guard struct {
	limits   Limits
	tell     func(Event)
	full     func(req *pb.Message, from peer.ID) bool // whether a limit does not allow to keep what a request brings; nil: nothing is kept
	counted  counters
	peers    *wire.Limiter[peer.ID]
	prefixes *wire.Limiter[netip.Prefix]

	mu      sync.Mutex // guards following
	open    map[network.Stream]struct{}
	perPeer map[peer.ID]int
	closed  bool
	running sync.WaitGroup // handlers
}

func newGuard(l Limits, tell func(Event)) *guard {
	return &guard{
		limits: l, tell: tell, open: make(map[network.Stream]struct{}), perPeer: make(map[peer.ID]int), counted: counters{refused: make(map[Reason]uint64)},
		peers:    wire.NewLimiter[peer.ID](l.PerPeer, int(2*l.PerPeer)+1, limitedKeys),
		prefixes: wire.NewLimiter[netip.Prefix](l.PerPrefix, int(2*l.PerPrefix)+1, limitedKeys),
	}
}

// close lets no more streams in, ends those that are open and waits for their handlers.
func (g *guard) close() {
	g.mu.Lock()
	g.closed = true
	for st := range g.open {
		_ = st.Reset()
	}
	g.mu.Unlock()
	g.running.Wait()
}

// refuse notes that a request of p is not served.
func (g *guard) refuse(p peer.ID, why Reason) {
	g.counted.refuse(why)
	g.tell(Event{Kind: Refused, Peer: p, Reason: why})
}

// wrap is the handler of the library behind the guard.
func (g *guard) wrap(handle network.StreamHandler) network.StreamHandler {
	return func(st network.Stream) {
		p := st.Conn().RemotePeer()
		if !g.enter(st, p) {
			g.refuse(p, ReasonStreams)
			_ = st.Reset()
			return
		}
		defer g.leave(st, p)
		if st.Scope().SetService(ServiceName) != nil ||
			st.Scope().ReserveMemory(g.limits.MessageBytes, network.ReservationPriorityMedium) != nil {
			g.refuse(p, ReasonMemory)
			_ = st.Reset()
			return
		}
		defer st.Scope().ReleaseMemory(g.limits.MessageBytes)
		handle(&guarded{Stream: st, g: g, peer: p, prefix: prefixOf(st.Conn().RemoteMultiaddr())})
	}
}

// enter counts a stream of p, if there is room.
func (g *guard) enter(st network.Stream, p peer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || len(g.open) >= g.limits.Streams || g.perPeer[p] >= g.limits.StreamsPerPeer {
		return false
	}
	g.running.Add(1)
	g.open[st] = struct{}{}
	g.perPeer[p]++
	return true
}

func (g *guard) leave(st network.Stream, p peer.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, st)
	if g.perPeer[p]--; g.perPeer[p] == 0 {
		delete(g.perPeer, p)
	}
	g.running.Done()
}

// prefixOf is the network of an address; the zero prefix for one without IP, as behind a relay.
func prefixOf(a ma.Multiaddr) netip.Prefix {
	ip, ok := addr.IP(a)
	if !ok {
		return netip.Prefix{}
	}
	bits := 56
	if ip = ip.Unmap(); ip.Is4() {
		bits = 24
	}
	p, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// guarded is a stream of which the library reads one admitted request after another.
type guarded struct {
	network.Stream
	g      *guard
	peer   peer.ID
	prefix netip.Prefix

	head []byte // of the request's length, not yet handed out
	left int    // of the request, not yet handed out
	// handled is the request that the library is about to answer; nil for none.
	handled *pb.Message
}

// Write implements io.Writer: an answer.
func (s *guarded) Write(b []byte) (int, error) {
	s.handled = nil
	return s.Stream.Write(b)
}

// Reset implements network.Stream: it is how the library refuses a request.
func (s *guarded) Reset() error {
	if req := s.handled; req != nil {
		s.handled = nil
		why := ReasonInvalid
		if s.g.full != nil && s.g.full(req, s.peer) {
			why = ReasonFull
		}
		s.g.refuse(s.peer, why)
	}
	return s.Stream.Reset()
}

// Read hands out no more than the request that is under way. A new one has to be admitted first.
func (s *guarded) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if len(s.head) == 0 && s.left == 0 {
		s.handled = nil // ADD_PROVIDER is not answered
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	if len(s.head) > 0 {
		n := copy(b, s.head)
		s.head = s.head[n:]
		return n, nil
	}
	n, err := s.Stream.Read(b[:min(len(b), s.left)])
	s.left -= n
	if s.left > 0 && errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// next reads the length of the next request and decides whether it is served.
func (s *guarded) next() error {
	if err := s.SetReadDeadline(time.Now().Add(s.g.limits.Idle)); err != nil {
		return err
	}
	var head [binary.MaxVarintLen64]byte
	for i := range head {
		if _, err := io.ReadFull(s.Stream, head[i:i+1]); err != nil {
			if i > 0 && errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF
			}
			return err
		}
		if head[i] >= 0x80 {
			continue
		}
		length, n := binary.Uvarint(head[:i+1])
		now := time.Now()
		switch {
		case n <= 0 || length > uint64(s.g.limits.MessageBytes):
			s.g.refuse(s.peer, ReasonSize)
			return fmt.Errorf("%w: %d bytes", errRefused, length)
		// The peer's own bucket first: what it sends beyond it must not use up its neighbours'.
		case !s.g.peers.Allow(s.peer, now) || !s.g.prefixes.Allow(s.prefix, now):
			s.g.refuse(s.peer, ReasonRate)
			return fmt.Errorf("%w: too many requests", errRefused)
		}
		s.head, s.left = head[:i+1], int(length)
		return nil
	}
	s.g.refuse(s.peer, ReasonSize)
	return fmt.Errorf("%w: length", errRefused)
}
