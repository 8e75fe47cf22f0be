package peering

import (
	"context"
	"slices"
	"sync"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	libp2pping "github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

const (
	dialTimeout = 10 * time.Second
	// quickTimeout is for a peer that is missed: with missedRetry after it, the next
	// dial begins within 10 s whatever became of this one.
	quickTimeout = 5 * time.Second
	// askTimeout bounds a question for a protocol.
	askTimeout = 3 * time.Second
	// byeTimeout bounds the leave taking from all peers at once.
	byeTimeout = time.Second
	// settleGrace is how long a connection that is to be closed may go on with what
	// it carries once another one has proven to work, and settleLook how often that is
	// looked at.
	settleGrace = 5 * time.Second
	settleLook  = 100 * time.Millisecond

	// protectTag marks the kept peers for the connection manager.
	protectTag = "found"
)

// leaving is the one message of ProtocolID.
const leaving byte = 1

// obey carries out what the table orders, and tells what it has to tell.
func (s *Service) obey() {
	orders, events := s.table.take()
	for _, o := range orders {
		switch o.kind {
		case dial:
			timeout := dialTimeout
			if o.quick {
				timeout = quickTimeout
			}
			s.connect(s.ctx, o, timeout, s.table.dialled)
		case raise:
			direct := slices.DeleteFunc(o.addrs, addr.IsRelayed)
			ctx := network.WithForceDirectDial(s.ctx, "peering")
			s.connect(ctx, order{peer: o.peer, addrs: direct}, quickTimeout, func(now time.Time, id peer.ID, _ error) { s.table.raised(now, id) })
		case drop:
			s.running.Go(func() {
				for _, c := range s.n.Conns(o.peer) {
					if c.Stat().Direction == network.DirOutbound {
						_ = c.Close() // it is gone either way
					}
				}
			})
		case protect:
			s.n.ConnManager().Protect(o.peer, protectTag)
			s.alive[o.peer] = s.n.KeepAlive(o.peer)
		case release:
			s.n.ConnManager().Unprotect(o.peer, protectTag)
			s.running.Go(s.alive[o.peer])
			delete(s.alive, o.peer)
		}
	}
	for _, e := range events {
		s.cfg.On(e)
	}
}

// connect dials, and hands over what came of it.
func (s *Service) connect(ctx context.Context, o order, timeout time.Duration, done func(now time.Time, id peer.ID, err error)) {
	s.running.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		_, err := s.n.Dial(ctx, o.peer, o.addrs)
		s.do(func() {
			s.look(o.peer)
			done(time.Now(), o.peer, err)
		})
	})
}

// look tells the table how the connections of a candidate stand. It reports whether the
// peer is one.
func (s *Service) look(id peer.ID) bool {
	if s.table.peers[id] == nil {
		delete(s.met, id)
		return false
	}
	conns := slices.DeleteFunc(s.n.Conns(id), network.Conn.IsClosed)
	slices.SortStableFunc(conns, func(a, b network.Conn) int { return linkOf(a).compare(linkOf(b)) })
	met := make(map[network.Conn]verdict, len(conns))
	for _, c := range conns {
		said, known := s.met[id][c]
		if !known {
			s.meet(id, c)
		}
		met[c] = said
	}
	s.met[id] = met
	v := view{}
	if len(conns) > 0 {
		at := conns[0].RemoteMultiaddr()
		v = view{path: addr.Path(at), addr: at.String(), since: conns[0].Stat().Opened, fits: overall(met)}
	} else {
		delete(s.met, id)
	}
	s.table.observe(time.Now(), id, v)
	// The second connection of a peer that is turned away is its own.
	if _, busy := s.settling[id]; len(conns) > 1 && !busy && v.fits != unfit {
		s.settling[id] = struct{}{}
		s.running.Go(func() {
			s.settle(conns[0], conns[1:])
			s.do(func() {
				delete(s.settling, id)
				s.look(id)
			})
		})
	}
	return true
}

// overall is what connections with one peer show together: it is unfit when all say so.
func overall(met map[network.Conn]verdict) verdict {
	out := unfit
	for _, said := range met {
		switch said {
		case fit:
			return fit
		case undecided:
			out = undecided
		case unfit:
		}
	}
	return out
}

// meet finds out what the peer of a new connection speaks.
func (s *Service) meet(id peer.ID, c network.Conn) {
	s.running.Go(func() {
		select {
		case <-s.n.Identified(c):
		case <-s.ctx.Done():
			return
		}
		said := s.judge(id)
		if said == undecided {
			said = s.ask(c)
		}
		s.do(func() {
			if met := s.met[id]; met != nil && !c.IsClosed() {
				met[c] = said
			}
			s.look(id)
		})
	})
}

// judge looks at what the peer told by identify; undecided if it told nothing.
func (s *Service) judge(id peer.ID) verdict {
	protocols, err := s.n.Peerstore().GetProtocols(id)
	switch {
	case err != nil || len(protocols) == 0:
		return undecided
	case speaksOne(protocols, s.cfg.Require):
		return fit
	}
	return unfit
}

// ask proposes the wanted protocols to a peer that does not answer identify. A
// connection on which there is no answer at all is closed.
func (s *Service) ask(c network.Conn) verdict {
	ctx, cancel := context.WithTimeout(s.ctx, askTimeout)
	defer cancel()
	wanted := s.cfg.Require
	if len(wanted) == 0 {
		wanted = append([]protocol.ID{ProtocolID}, roles()...)
	}
	for _, p := range wanted {
		switch ok, err := s.n.Supports(ctx, c, p); {
		case err != nil:
			_ = c.Close() // it is of no use either way
			return undecided
		case ok:
			return fit
		}
	}
	return unfit
}

// judgeAgain takes that a peer tells of other protocols than before.
func (s *Service) judgeAgain(id peer.ID) {
	said := s.judge(id)
	for c, before := range s.met[id] {
		if before != undecided {
			s.met[id][c] = said
		}
	}
	s.look(id)
}

// settle closes the others once best has carried data, so that there is a connection
// at every moment. What they carry may go on for settleGrace.
func (s *Service) settle(best network.Conn, others []network.Conn) {
	ctx, cancel := context.WithTimeout(s.ctx, askTimeout)
	defer cancel()
	if _, err := s.n.Supports(ctx, best, libp2pping.ID); err != nil {
		if s.ctx.Err() == nil {
			_ = best.Close() // it carries nothing
		}
		return
	}
	until := time.Now().Add(settleGrace)
	busy := func(c network.Conn) bool { return !c.IsClosed() && len(c.GetStreams()) > 0 }
	for slices.ContainsFunc(others, busy) && time.Now().Before(until) && s.ctx.Err() == nil {
		host.Pause(s.ctx, settleLook)
	}
	for _, c := range others {
		if s.ctx.Err() == nil && !best.IsClosed() {
			_ = c.Close() // it is gone either way
		}
	}
}

// byeReceived takes that a peer leaves.
func (s *Service) byeReceived(_ context.Context, req wire.Request) ([]byte, error) {
	if len(req.Body) == 1 && req.Body[0] == leaving {
		s.do(func() { s.table.leaves(req.Peer) })
	}
	return nil, nil
}

// sayBye lets the kept peers go, and takes leave of whoever may keep this node.
func (s *Service) sayBye() {
	ctx, cancel := context.WithTimeout(context.Background(), byeTimeout)
	defer cancel()
	var told sync.WaitGroup
	for id, stop := range s.alive {
		told.Go(stop)
		s.n.ConnManager().Unprotect(id, protectTag)
	}
	for _, id := range s.n.Network().Peers() {
		speaks, err := s.n.Peerstore().SupportsProtocols(id, ProtocolID)
		conns := s.n.Conns(id)
		if err != nil || len(speaks) == 0 || len(conns) == 0 {
			continue
		}
		told.Go(func() {
			// Whoever is not reached finds out when the connection ends.
			if st, err := s.n.OpenStream(ctx, conns[0], ProtocolID); err == nil {
				_ = wire.Send(ctx, st, []byte{leaving})
			}
		})
	}
	told.Wait()
}
