package punch

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/nat"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"
)

const (
	// opened is how many sockets the side opens that is sprayed: each of the probes of
	// the other side then meets one of them in 252 cases on average.
	opened = 256
	// lowestProbed is where the ports begin that NATs give out (RFC 4787 REQ-3).
	lowestProbed = 1024
	// sprayTimeout bounds a spray: two seconds of probes, and a handshake.
	sprayTimeout = 4 * time.Second
	// repeat is the pause between two copies of what may be lost.
	repeat = 50 * time.Millisecond
	// aloft is how many copies of a prediction are sent.
	aloft = 3
)

// The kinds of packet. All are 0x0d 'd' 'p', the kind, and 16 bytes of HMAC-SHA256 over
// kind and sender, keyed with both nonces: nobody else can make them.
const (
	kindOpen  byte = iota + 1 // from a socket that the other side is to find
	kindProbe                 // from who looks for it
	kindFound                 // from a socket that a probe came to: dial me
)

const (
	probeHead = 4
	probeTag  = 16
	probeLen  = probeHead + probeTag
)

// probing is the sending of probes of one run.
type probing struct {
	s     *Service
	r     *run
	p     pairing
	key   []byte
	other netip.Addr // where the peer was attested to be: nothing is sent elsewhere
	// offers says that this end made the offer, and dials where either could.
	offers bool
}

// arrival is a packet of the peer's that came to a socket.
type arrival struct {
	kind byte
	from netip.AddrPort
	at   net.PacketConn
}

// packet is one of a kind, from one of the peers.
func (g *probing) packet(kind byte, from peer.ID) []byte {
	out := []byte{0x0d, 'd', 'p', kind}
	mac := hmac.New(sha256.New, g.key)
	mac.Write(append(out, from...)) // never fails (package hash)
	return append(out, mac.Sum(nil)[:probeTag]...)
}

// send sends a packet where it is not known that anybody listens. It waits for its turn.
func (g *probing) send(ctx context.Context, from net.PacketConn, kind byte, to netip.AddrPort) error {
	if err := g.s.n.AwaitProbe(ctx, to.Addr()); err != nil {
		return err
	}
	return g.answer(from, kind, to)
}

// answer sends a packet where one came from.
func (g *probing) answer(from net.PacketConn, kind byte, to netip.AddrPort) error {
	_, err := from.WriteTo(g.packet(kind, g.s.n.ID()), net.UDPAddrFromAddrPort(to))
	return err
}

// listen hands on what the peer sends to a socket until that is closed, or has a read
// deadline.
func (g *probing) listen(at net.PacketConn, to chan<- arrival) {
	buf := make([]byte, probeLen+1)
	for {
		n, from, err := at.ReadFrom(buf)
		if err != nil {
			return
		}
		src, isUDP := from.(*net.UDPAddr)
		if !isUDP || n != probeLen || !hmac.Equal(buf[:n], g.packet(buf[probeHead-1], g.r.peer)) {
			continue
		}
		ap := src.AddrPort()
		if ap = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()); ap.Addr() != g.other {
			continue
		}
		select {
		case to <- arrival{buf[probeHead-1], ap, at}:
		default: // one is enough
		}
	}
}

// do makes the direct connection, or says why there is none.
func (g *probing) do(ctx context.Context, prepared []net.PacketConn) error {
	ctx, cancel := context.WithTimeout(ctx, sprayTimeout)
	defer cancel()
	changed, stop := g.s.n.Changes(g.r.peer)
	defer stop()
	ended := make(chan error, 1)
	trying, enough := context.WithCancel(ctx)
	var try sync.WaitGroup
	defer try.Wait()
	defer enough()
	try.Go(func() { ended <- g.try(trying, prepared) })
	for {
		if _, ok := g.s.direct(g.r.peer); ok {
			return nil
		}
		select {
		case err := <-ended:
			if err != nil {
				return errors.Join(errNoDirect, err)
			}
		case <-changed:
		case <-ctx.Done():
			return errors.Join(errNoDirect, g.s.ctx.Err())
		}
	}
}

// try returns when the connection is made, which others may see a moment later.
func (g *probing) try(ctx context.Context, prepared []net.PacketConn) error {
	switch {
	case g.p.Method == nat.MethodPredict:
		return g.open(ctx, prepared, netip.AddrPortFrom(g.other, g.p.peer.next), aloft)
	case g.p.Own:
		return g.spray(ctx)
	default:
		return g.open(ctx, g.sockets(), netip.AddrPortFrom(g.other, g.p.peer.observed.Port()), 1)
	}
}

// sockets opens those that are to be found.
func (g *probing) sockets() (out []net.PacketConn) {
	for range opened {
		c, err := g.s.n.ListenUDP(netip.AddrPortFrom(wildcard(g.other), 0))
		if err != nil {
			break // as many as there are
		}
		out = append(out, c)
	}
	return out
}

// open sends from every socket to one endpoint of the peer, so that the own NAT opens a
// port for each, and makes a connection of the first socket that the peer finds.
func (g *probing) open(ctx context.Context, sockets []net.PacketConn, to netip.AddrPort, copies int) error {
	found := make(chan arrival, 1)
	var reading, sending sync.WaitGroup
	for _, c := range sockets {
		reading.Go(func() { g.listen(c, found) })
	}
	sendCtx, enough := context.WithCancel(ctx)
	var failed error
	sending.Go(func() {
		for i := range copies {
			if i > 0 {
				host.Pause(sendCtx, repeat)
			}
			for _, c := range sockets {
				if failed = g.send(sendCtx, c, kindOpen, to); failed != nil {
					return
				}
			}
		}
	})
	var won arrival
	select {
	case won = <-found:
	case <-ctx.Done():
	}
	enough()
	sending.Wait()
	for _, c := range sockets {
		if c == won.at {
			_ = c.SetReadDeadline(time.Unix(1, 0)) // wakes its reader, and leaves it open
		} else {
			_ = c.Close()
		}
	}
	reading.Wait()
	if won.at == nil {
		return cmp.Or(failed, ctx.Err())
	}
	_ = won.at.SetReadDeadline(time.Time{})
	return g.connect(ctx, won)
}

// connect makes a connection of the socket that was found, or closes it. The end that made the offer
// dials from it when both ends opened ports; who was sprayed takes the sprayer's.
func (g *probing) connect(ctx context.Context, won arrival) error {
	g.r.tell(Step{Event: "port.found", Addrs: []string{won.at.LocalAddr().String(), won.from.String()}})
	kind := kindFound
	if g.p.Method == nat.MethodPredict {
		kind = kindOpen
		if g.offers {
			if err := g.answer(won.at, kind, won.from); err != nil {
				_ = won.at.Close() // the first error is the one to tell
				return err
			}
			return g.s.n.DialFrom(ctx, won.at, g.r.peer, won.from)
		}
	}
	var telling sync.WaitGroup
	defer telling.Wait()
	told, stop := context.WithCancel(ctx)
	defer stop()
	telling.Go(func() {
		for told.Err() == nil {
			if g.answer(won.at, kind, won.from) != nil {
				return // closed: it has served its purpose
			}
			host.Pause(told, repeat)
		}
	})
	return g.s.n.AcceptOn(ctx, won.at, g.r.peer)
}

// spray sends probes from the node's own port to the ports of the peer in any order, and
// dials the one that answers.
func (g *probing) spray(ctx context.Context) error {
	shared, err := g.s.n.SharedUDP()
	if err != nil {
		return err
	}
	defer closeAll(shared)
	i := slices.IndexFunc(shared, func(c net.PacketConn) bool {
		at, err := netip.ParseAddrPort(c.LocalAddr().String())
		return err == nil && at.Addr().Is4() == g.other.Is4()
	})
	if i < 0 {
		return errNoOwn
	}
	from := shared[i]
	came := make(chan arrival, opened)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { g.listen(from, came) })
	defer from.Close()
	probe, enough := context.WithCancel(ctx)
	defer enough()
	ended := make(chan error, 1)
	running.Go(func() {
		for _, port := range rand.Perm(1<<16 - lowestProbed) {
			if err := g.send(probe, from, kindProbe, netip.AddrPortFrom(g.other, uint16(lowestProbed+port))); err != nil {
				ended <- err
				return
			}
		}
	})
	var failed error
	for {
		select {
		case failed = <-ended: // the answer to the last probes may still come
		case a := <-came:
			if a.kind == kindFound {
				enough()
				g.r.tell(Step{Event: "port.found", Addrs: []string{a.from.String()}})
				to, err := quicreuse.ToQuicMultiaddr(net.UDPAddrFromAddrPort(a.from), quic.Version1)
				if err != nil {
					return err
				}
				_, err = g.s.n.DialTogether(ctx, g.r.peer, []ma.Multiaddr{to}, true)
				return err
			}
			// It got in by itself, so the way is open: have it answer.
			if err := g.answer(from, kindProbe, a.from); err != nil {
				return err
			}
		case <-ctx.Done():
			return cmp.Or(failed, ctx.Err())
		}
	}
}
