package host

import (
	"fmt"
	"slices"
	"sync"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/event"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"
)

// Observation is the address under which one peer sees this host.
type Observation struct {
	Conn network.Conn // the connection over which it was seen
	Addr ma.Multiaddr // as identify told it; not verified
}

// observedAddrs remembers what identify says about the host's own address on each
// open connection. libp2p keeps such addresses to itself until four peers agree.
type observedAddrs struct {
	h     corehost.Host
	sub   event.Subscription
	watch *network.NotifyBundle
	// noted takes a channel that is closed when all events told so far are noted.
	noted chan chan struct{}
	ended chan struct{} // closed when nothing more is noted

	mu   sync.Mutex // guards following
	seen map[network.Conn]ma.Multiaddr
	news chan struct{} // closed, and made anew, when seen grows
}

func newObservedAddrs(h corehost.Host) (*observedAddrs, error) {
	sub, err := h.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted), eventbus.Name("host observed addresses"))
	if err != nil {
		return nil, fmt.Errorf("identify events: %w", err)
	}
	o := &observedAddrs{
		h: h, sub: sub, seen: make(map[network.Conn]ma.Multiaddr),
		noted: make(chan chan struct{}), ended: make(chan struct{}), news: make(chan struct{}),
	}
	o.watch = &network.NotifyBundle{DisconnectedF: o.forget}
	h.Network().Notify(o.watch)
	go o.run()
	return o, nil
}

// run notes events until the subscription ends.
func (o *observedAddrs) run() {
	defer close(o.ended)
	for {
		select {
		case e, open := <-o.sub.Out():
			if !open {
				return
			}
			o.add(e.(event.EvtPeerIdentificationCompleted))
		case noted := <-o.noted:
			for len(o.sub.Out()) > 0 {
				o.add((<-o.sub.Out()).(event.EvtPeerIdentificationCompleted))
			}
			close(noted)
		}
	}
}

// catchUp returns when every event that was told is noted, so that whoever heard of
// one of them finds it here.
func (o *observedAddrs) catchUp() {
	noted := make(chan struct{})
	select {
	case o.noted <- noted:
		<-noted
	case <-o.ended:
	}
}

func (o *observedAddrs) add(e event.EvtPeerIdentificationCompleted) {
	if e.ObservedAddr == nil || e.Conn == nil || addr.IsRelayed(e.Conn.RemoteMultiaddr()) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !e.Conn.IsClosed() { // else forget came first
		o.seen[e.Conn] = e.ObservedAddr
		close(o.news)
		o.news = make(chan struct{})
	}
}

// forget drops what was seen over a connection that closed.
func (o *observedAddrs) forget(_ network.Network, c network.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.seen, c)
}

func (o *observedAddrs) close() {
	o.h.Network().StopNotify(o.watch)
	// Close of a subscription ends the range over it; it has no error to tell.
	_ = o.sub.Close()
	<-o.ended
}

// Observed is closed when the next peer has told under which address it sees this
// host. Observations has that address then.
func (n *Node) Observed() <-chan struct{} {
	n.observed.mu.Lock()
	defer n.observed.mu.Unlock()
	return n.observed.news
}

// Observations are the addresses under which connected peers see this host.
func (n *Node) Observations() []Observation {
	n.observed.catchUp()
	n.observed.mu.Lock()
	defer n.observed.mu.Unlock()
	var out []Observation
	for c, a := range n.observed.seen {
		if !c.IsClosed() {
			out = append(out, Observation{c, a})
		}
	}
	slices.SortFunc(out, func(a, b Observation) int { return a.Addr.Compare(b.Addr) })
	return out
}
