package host

import (
	"maps"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	msmux "github.com/multiformats/go-multistream"
)

const (
	// maxCallers is how many strangers may be connected at once.
	maxCallers = 32
	// callerTime is how long a stranger may stay.
	callerTime = 10 * time.Second
)

// Door is where strangers say why they are to be let in: for a short while they may connect although Access.AllowPeers or
// Config.KnownOnly keep them out, few at once, and speak one protocol; any other closes the connection. Deny lists, bans and ranges hold for them as ever.
type Door struct {
	Protocol protocol.ID
	Handle   network.StreamHandler
	// Open says whether anybody may come at all; nil: always. It is asked for every stranger.
	Open func() bool
}

// guests are peers that are let in besides those of the lists, until a time.
type guests struct {
	mu      sync.Mutex // guards following
	until   map[peer.ID]time.Time
	door    *Door
	callers map[network.Conn]func() bool // stops the timers that show them out
}

// has reports whether p is a guest.
func (g *guests) has(p peer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	until, ok := g.until[p]
	return ok && time.Now().Before(until)
}

// calls reports whether a stranger may come to the door.
func (g *guests) calls() bool {
	g.mu.Lock()
	door, full := g.door, len(g.callers) >= maxCallers
	g.mu.Unlock()
	return door != nil && !full && (door.Open == nil || door.Open())
}

// SetGuests replaces the peers that are let in, each until a time, besides those that the allow lists name. Connections that
// nothing allows any more are closed.
func (n *Node) SetGuests(until map[peer.ID]time.Time) {
	g := &n.gater.guests
	g.mu.Lock()
	g.until = maps.Clone(until)
	g.mu.Unlock()
	n.enforce()
}

// SetDoor has strangers received, until it is set to nil.
func (n *Node) SetDoor(d *Door) {
	g := &n.gater.guests
	g.mu.Lock()
	g.door = d
	g.mu.Unlock()
}

// stranger reports whether c is with a peer that came to the door.
func (n *Node) stranger(c network.Conn) bool {
	g := &n.gater.guests
	g.mu.Lock()
	closed := g.door == nil && len(g.callers) == 0
	g.mu.Unlock()
	return !closed && c.Stat().Direction == network.DirInbound && !n.gater.admits(c.RemotePeer(), c.RemoteMultiaddr())
}

// atDoor reports whether c is a stranger's who may still say why he comes.
func (n *Node) atDoor(c network.Conn) bool {
	g := &n.gater.guests
	g.mu.Lock()
	_, calls := g.callers[c]
	calls = calls && g.door != nil
	g.mu.Unlock()
	return calls && n.gater.unhindered(c.RemotePeer(), c.RemoteMultiaddr())
}

// guardDoor hands the streams of strangers to the door, where the library's own protocols are not spoken, and shows them out.
func (n *Node) guardDoor() {
	s := n.swarm()
	inside := s.StreamHandler()
	s.SetStreamHandler(func(st network.Stream) {
		if n.stranger(st.Conn()) {
			n.receive(st)
			return
		}
		inside(st)
	})
	g := &n.gater.guests
	s.Notify(&network.NotifyBundle{
		ConnectedF: func(_ network.Network, c network.Conn) {
			if !n.stranger(c) {
				return
			}
			timer := time.AfterFunc(callerTime, func() {
				if n.stranger(c) {
					_ = c.CloseWithError(network.ConnGated) // it is gone either way
				}
			})
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.callers == nil {
				g.callers = make(map[network.Conn]func() bool)
			}
			g.callers[c] = timer.Stop
		},
		DisconnectedF: func(_ network.Network, c network.Conn) {
			g.mu.Lock()
			defer g.mu.Unlock()
			if stop := g.callers[c]; stop != nil {
				stop()
				delete(g.callers, c)
			}
		},
	})
}

// receive lets a stranger speak the protocol of the door.
func (n *Node) receive(st network.Stream) {
	g := &n.gater.guests
	g.mu.Lock()
	door := g.door
	g.mu.Unlock()
	if door == nil {
		_ = st.ResetWithError(network.StreamGated)
		return
	}
	_ = st.SetDeadline(time.Now().Add(callerTime)) // a stream without deadlines ends with the connection
	mux := msmux.NewMultistreamMuxer[protocol.ID]()
	mux.AddHandler(door.Protocol, nil)
	id, _, err := mux.Negotiate(st)
	if err == nil {
		err = st.SetProtocol(id)
	}
	if err != nil {
		_ = st.Conn().CloseWithError(network.ConnGated) // who has something else to say is no guest to be
		return
	}
	_ = st.SetDeadline(time.Time{})
	door.Handle(st)
}
