package host

import (
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// p2panda is the protocol on which aquadoggo opens a stream as soon as it is
// connected; if that is refused it drops the connection within milliseconds.
const p2panda protocol.ID = "/p2p/p2panda/1.0.0"

// maxHeardBytes is what a peer may say on a held stream. aquadoggo announces its
// schemas, some 80 bytes each, once and whenever they change.
const maxHeardBytes = 1 << 20

// heldStreams are streams that are kept open and said nothing on, one for each
// connection: so what others can make us hold is bounded by their connections.
type heldStreams struct {
	mu      sync.Mutex // guards following
	users   int
	streams map[network.Conn]network.Stream
	running *sync.WaitGroup // the handlers since there were no users last
}

// HoldStreams accepts the streams that peers expect to be held open, until the
// returned function is called. It may be used several times at once. A host that
// really speaks the protocol keeps its own handler.
func (n *Node) HoldStreams() (release func()) {
	h := &n.held
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users == 0 && slices.Contains(n.Mux().Protocols(), p2panda) {
		return func() {}
	}
	h.users++
	if h.users == 1 {
		h.streams, h.running = make(map[network.Conn]network.Stream), new(sync.WaitGroup)
		n.SetStreamHandler(p2panda, h.hold)
	}
	return sync.OnceFunc(func() { h.release(n) })
}

// hold keeps a stream until the peer ends it, opens another on its connection, or
// nobody needs it any more.
func (h *heldStreams) hold(s network.Stream) {
	defer func() { _ = s.Reset() }() // nothing was to be said on it
	left, ok := h.enter(s)
	if !ok {
		return
	}
	defer left()
	// What it says is for others; to read it shows when it goes.
	buf := make([]byte, 128)
	for heard := 0; heard < maxHeardBytes; {
		n, err := s.Read(buf)
		if err != nil {
			return
		}
		heard += n
	}
}

// enter takes a stream in, unless nobody needs it.
func (h *heldStreams) enter(s network.Stream) (left func(), ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users == 0 {
		return nil, false
	}
	if before := h.streams[s.Conn()]; before != nil {
		_ = before.Reset() // its handler leaves
	}
	h.streams[s.Conn()] = s
	running := h.running
	running.Add(1)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.streams[s.Conn()] == s {
			delete(h.streams, s.Conn())
		}
		running.Done()
	}, true
}

// release ends what is held once nobody needs it any more.
func (h *heldStreams) release(n *Node) {
	h.mu.Lock()
	h.users--
	last, running := h.users == 0, h.running
	if last {
		n.RemoveStreamHandler(p2panda)
		for _, s := range h.streams {
			_ = s.Reset() // its handler leaves
		}
	}
	h.mu.Unlock()
	if last {
		running.Wait()
	}
}
