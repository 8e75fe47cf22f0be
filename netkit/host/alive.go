package host

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	// aliveInterval and aliveTimeout find a peer that died without a word within
	// 6 s; QUIC alone takes 30 s, TCP minutes.
	aliveInterval = 3 * time.Second
	aliveTimeout  = 3 * time.Second
)

// watches are the peers that KeepAlive watches. Several roles may depend on one
// peer, whom one of them asks for all.
type watches struct {
	mu sync.Mutex // guards following
	of map[peer.ID]*watch
}

// watch watches the connections with one peer.
type watch struct {
	n     *Node
	peer  peer.ID
	users int // guarded by watches.mu, as the following
	// closed are the connections that were closed last, with the reason.
	closed map[network.Conn]error
	end    context.CancelFunc
	done   sync.WaitGroup
	moved  chan struct{} // the peer sees this host at another address than before
	// sources are the addresses of the machine from which each open connection was
	// first seen to leave.
	sources map[network.Conn]netip.Addr
}

// KeepAlive closes connections with p on which nobody answers any more, and those
// that leave from another address than they did, of the machine or of the NAT before
// it, until stop is called, so that whatever depends on p learns of the loss soon. It
// opens none.
//
// QUIC survives a change of address, but p would go on to believe, and to tell, that
// this host is where it was. A new connection shows both where it is. Changes before a
// NAT are noticed on QUIC connections dialled since KeepAlive was called.
func (n *Node) KeepAlive(p peer.ID) (stop func()) {
	all := &n.watches
	all.mu.Lock()
	defer all.mu.Unlock()
	w := all.of[p]
	if w == nil {
		if all.of == nil {
			all.of = make(map[peer.ID]*watch)
		}
		ctx, cancel := context.WithCancel(context.Background())
		w = &watch{n: n, peer: p, end: cancel, moved: make(chan struct{}, 1)}
		all.of[p] = w
		w.done.Go(func() { w.run(ctx) })
	}
	w.users++
	return sync.OnceFunc(func() {
		all.mu.Lock()
		w.users--
		last := w.users == 0
		if last {
			delete(all.of, p)
		}
		all.mu.Unlock()
		if last {
			w.end()
			w.done.Wait()
		}
	})
}

func (w *watch) run(ctx context.Context) {
	for {
		t := time.NewTimer(aliveInterval)
		moved := false
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-w.moved:
			t.Stop()
			moved = true
		case <-t.C:
		}
		w.look(ctx, moved)
	}
}

// look closes the connections that are good no more.
func (w *watch) look(ctx context.Context, moved bool) {
	conns := w.n.Conns(w.peer)
	before := w.sources
	w.sources = make(map[network.Conn]netip.Addr, len(conns))
	within, cancel := context.WithTimeout(ctx, aliveTimeout)
	defer cancel()
	var mu sync.Mutex // guards gone
	gone := make(map[network.Conn]error)
	var done sync.WaitGroup
	for _, c := range conns {
		now, was := w.n.sourceTo(within, c.RemoteMultiaddr()), before[c]
		switch {
		case moved && c.Stat().Direction == network.DirOutbound && !addr.IsRelayed(c.RemoteMultiaddr()),
			now.IsValid() && was.IsValid() && now != was:
			mu.Lock()
			gone[c] = ErrMoved
			mu.Unlock()
			continue
		case was.IsValid():
			now = was // no route at the moment; the one that comes may be another
		}
		w.sources[c] = now
		done.Go(func() {
			// A connection that is closed has a reason of its own.
			if err := w.n.Responds(within, c); err != nil && within.Err() != nil && ctx.Err() == nil && !c.IsClosed() {
				mu.Lock()
				defer mu.Unlock()
				gone[c] = ErrSilent
			}
		})
	}
	done.Wait()
	if len(gone) == 0 {
		return
	}
	w.n.watches.mu.Lock()
	w.closed = gone
	w.n.watches.mu.Unlock()
	for c := range gone {
		_ = c.Close() // it is gone either way
	}
}

// sourceTo is the address of the machine from which packets to a peer at a leave
// now; the zero Addr when there is no route, or the peer is reached through a relay.
// Nothing is sent.
func (n *Node) sourceTo(ctx context.Context, a ma.Multiaddr) netip.Addr {
	ip, err := manet.ToIP(a)
	if err != nil || addr.IsRelayed(a) {
		return netip.Addr{}
	}
	to := &net.UDPAddr{IP: ip, Port: 9} // any port will do
	if n.cfg.Sockets != nil {
		from, err := n.cfg.Sockets.SourceIP(to)
		if err != nil {
			return netip.Addr{}
		}
		source, _ := netip.AddrFromSlice(from)
		return source.Unmap()
	}
	c, err := new(net.Dialer).DialContext(ctx, "udp", to.String())
	if err != nil {
		return netip.Addr{}
	}
	defer func() { _ = c.Close() }() // nothing was written
	local, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}
	}
	return local.AddrPort().Addr().Unmap()
}
