package natcheck

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"sync"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/vantage"
)

// socket is a UDP socket with the questions asked from it.
type socket struct {
	*vantage.Client
	done sync.WaitGroup

	mu     sync.Mutex // guards following
	asking map[uint64]chan<- arrival
}

// arrival is a reply and the socket it came to.
type arrival struct {
	vantage.Reply
	at *socket
}

func newSocket(c *vantage.Client) *socket {
	s := &socket{Client: c, asking: make(map[uint64]chan<- arrival)}
	s.done.Go(func() {
		for r := range c.Replies() {
			s.mu.Lock()
			to := s.asking[r.ID]
			s.mu.Unlock()
			select {
			case to <- arrival{r, s}: // nil, for what nobody asked, takes none
			default:
			}
		}
	})
	return s
}

// expect has the replies to a question sent to a channel, which must have room.
func (s *socket) expect(id uint64, to chan<- arrival) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking[id] = to
}

func (s *socket) close() {
	_ = s.Close() // nothing was to be written any more
	s.done.Wait()
}

// newID is a number that nobody can guess.
func newID() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.BigEndian.Uint64(b[:])
}

// openSockets opens the node's own UDP ports.
func (c *check) openSockets() error {
	shared, err := c.n.SharedUDP()
	if err != nil {
		return err
	}
	for _, conn := range shared {
		c.socks = append(c.socks, newSocket(vantage.NewClient(conn)))
	}
	return nil
}

func (c *check) closeSockets() {
	for _, s := range c.socks {
		s.close()
	}
}

// socketOf is the socket that a connection left from; nil if that is none of the
// node's listening ports.
func (c *check) socketOf(local netip.AddrPort) *socket {
	for _, s := range c.socks {
		if at := s.Local(); at.Port() == local.Port() && at.Addr().Is4() == local.Addr().Is4() &&
			(at.Addr() == local.Addr() || at.Addr().IsUnspecified()) {
			return s
		}
	}
	return nil
}

// contactPeers notes the connections that stand: packets go there for as long as they
// do.
func contactPeers(n *host.Node) {
	for _, c := range n.Network().Conns() {
		at := c.RemoteMultiaddr()
		if addr.IsRelayed(at) {
			continue
		}
		if to, ok := addr.UDP(at); ok {
			n.Contact(UDP, to.Addr())
		}
		if to, ok := addr.TCP(at); ok {
			n.Contact(TCP, to.Addr())
		}
	}
}
