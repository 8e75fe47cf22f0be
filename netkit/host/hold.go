package host

import (
	"maps"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// p2panda is the protocol on which aquadoggo opens a stream as soon as it is
// connected; if that is refused it drops the connection within milliseconds.
const p2panda protocol.ID = "/p2p/p2panda/1.0.0"

// maxHeld bounds how many such streams others can make us hold: one of each
// connection, since a new one takes the place of the one before it there.
const maxHeld = 4096

// heldStreams are streams that are kept open and said nothing on.
type heldStreams struct {
	mu      sync.Mutex // guards following
	users   int
	streams map[network.Conn]network.Stream
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
		n.SetStreamHandler(p2panda, h.hold)
	}
	return sync.OnceFunc(func() { h.release(n) })
}

func (h *heldStreams) hold(s network.Stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.streams, func(c network.Conn, _ network.Stream) bool { return c.IsClosed() })
	before := h.streams[s.Conn()]
	if h.users == 0 || before == nil && len(h.streams) == maxHeld {
		_ = s.Reset()
		return
	}
	if before != nil {
		_ = before.Reset() // as aquadoggo does itself
	}
	if h.streams == nil {
		h.streams = make(map[network.Conn]network.Stream)
	}
	h.streams[s.Conn()] = s
}

// release resets what is held once nobody needs it any more.
func (h *heldStreams) release(n *Node) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users--; h.users > 0 {
		return
	}
	n.RemoveStreamHandler(p2panda)
	for _, s := range h.streams {
		_ = s.Reset() // nothing was to be said on it
	}
	h.streams = nil
}
