package relay

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"golang.org/x/time/rate"
)

// circuit is one that is being opened or is open.
type circuit struct {
	s        *Server
	limits   Limits
	ctx      context.Context
	cancel   context.CancelFunc
	span     network.ResourceScopeSpan // of the buffers
	id       uint64
	asked    time.Time
	opened   time.Time
	deadline time.Time // zero without a limit
	there    flow      // source to destination
	back     flow

	mu  sync.Mutex
	why Reason // the first that ended it
}

// open makes c a circuit from st to dst, or tells why it is none. st stays with
// the caller in that case.
func (c *circuit) open(st network.Stream, dst peer.ID) (why Reason) {
	span, err := c.s.scope.BeginSpan()
	if err != nil {
		return ReasonResources
	}
	c.span = span
	if err := span.ReserveMemory(2*bufferSize, network.ReservationPriorityHigh); err != nil {
		return ReasonResources
	}
	limit := c.limits.message()
	stop, why := c.ask(st.Conn().RemotePeer(), dst, limit)
	if why != "" {
		return why
	}
	c.connect(st, stop)
	if why := c.s.register(c); why != "" {
		_ = stop.Reset()
		return why
	}
	if err := c.s.respond(st, &pb.HopMessage{Status: pb.Status_OK.Enum(), Limit: limit}); err != nil {
		c.end(ReasonSourceGone)
	}
	c.arm()
	return ""
}

// ask opens the way to dst and has it accept. A destination that has just
// reconnected is asked once more: the connection that was tried first may have
// been the one that died.
func (c *circuit) ask(src, dst peer.ID, limit *pb.Limit) (stop network.Stream, why Reason) {
	for range 2 {
		if stop, why = c.s.reach(c.ctx, dst, proto.ProtoIDv2Stop); why != "" {
			return nil, why
		}
		if why = c.s.invite(stop, src, limit); why == "" {
			return stop, ""
		}
		_ = stop.Reset()
		if !stop.Conn().IsClosed() {
			break
		}
	}
	return nil, why
}

// connect joins the two streams.
func (c *circuit) connect(src, dst network.Stream) {
	c.opened = time.Now()
	if c.limits.Duration >= 0 {
		c.deadline = c.opened.Add(c.limits.Duration)
	}
	c.there = flow{from: src, to: dst, limit: c.limits.Bytes, fromGone: ReasonSourceGone, toGone: ReasonDestinationGone}
	c.back = flow{from: dst, to: src, limit: c.limits.Bytes, fromGone: ReasonDestinationGone, toGone: ReasonSourceGone}
	if c.limits.Rate >= 0 {
		for _, f := range []*flow{&c.there, &c.back} {
			f.rate = rate.NewLimiter(rate.Limit(c.limits.Rate), burst(c.limits.Rate))
		}
	}
}

// arm gives both streams the circuit's deadline.
func (c *circuit) arm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != "" {
		c.setDeadline(past()) // which the answer to the source has undone
		return
	}
	c.setDeadline(c.deadline)
}

// setDeadline wakes both directions at t; zero never does. A stream that takes no
// deadline is at its end already, and reading it says so.
func (c *circuit) setDeadline(t time.Time) {
	_ = c.there.from.SetDeadline(t)
	_ = c.there.to.SetDeadline(t)
}

// end makes the circuit end for a reason; the first one counts. It does not
// wait: resetting a stream may take as long as its connection is jammed.
func (c *circuit) end(why Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != "" {
		return
	}
	if c.s.ctx.Err() != nil {
		why = ReasonShutdown // whatever came of it
	}
	c.why = why
	c.cancel()
	c.setDeadline(past())
}

// run carries the circuit's traffic until it ends, and says farewell.
func (c *circuit) run() {
	c.s.emit(Event{Kind: EventCircuitOpened, Peer: c.source(), Destination: c.destination(), Circuit: c.id, Took: c.opened.Sub(c.asked)})
	var back sync.WaitGroup
	back.Go(func() { c.carry(&c.back) })
	c.carry(&c.there)
	back.Wait()
	c.end(ReasonFinished) // both directions have, unless they said otherwise
	c.hangUp()
	c.s.unregister(c)
	c.s.emit(Event{
		Kind: EventCircuitClosed, Peer: c.source(), Destination: c.destination(), Circuit: c.id, Reason: c.why,
		Sent: c.there.moved.Load(), Received: c.back.moved.Load(), Age: time.Since(c.opened),
	})
	c.abandon(c.source(), c.destination())
}

// carry moves one direction's bytes until its end, which ends the circuit unless
// it was in good order.
func (c *circuit) carry(f *flow) {
	buf := c.s.buffers.Get().(*[]byte)
	defer c.s.buffers.Put(buf)
	ctx := c.ctx
	if !c.deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, c.deadline)
		defer cancel()
	}
	why := f.run(ctx, *buf)
	switch {
	case why == ReasonFinished:
		return
	case why != ReasonBytes && !c.deadline.IsZero() && !time.Now().Before(c.deadline):
		why = ReasonDuration
	}
	c.end(why)
}

// hangUp gives both streams back.
func (c *circuit) hangUp() {
	switch c.why {
	case ReasonFinished:
		_ = c.there.from.Close()
		_ = c.there.to.Close()
	case ReasonBytes:
		// What was allowed still arrives; who sent more is reset.
		for _, f := range []*flow{&c.there, &c.back} {
			if f.over {
				_ = f.to.Close()
				_ = f.from.ResetWithError(c.why.code())
			}
		}
		_ = c.there.from.Close()
		_ = c.there.to.Close()
	default:
		_ = c.there.from.ResetWithError(c.why.code())
		_ = c.there.to.ResetWithError(c.why.code())
	}
}

// code is what a stream that ends for r is reset with (libp2p/specs error-codes).
func (r Reason) code() network.StreamErrorCode {
	switch r {
	case ReasonDuration, ReasonBytes, ReasonStalled:
		return network.StreamResourceLimitExceeded
	case ReasonShutdown:
		return network.StreamShutdown
	case ReasonOperator:
		return network.StreamGated
	default:
		return network.StreamNoError
	}
}

// abandon gives back what was taken for the circuit.
func (c *circuit) abandon(src, dst peer.ID) {
	c.cancel()
	if c.span != nil {
		c.span.Done()
	}
	c.s.dismiss(src, dst)
}

func (c *circuit) source() peer.ID      { return c.there.from.Conn().RemotePeer() }
func (c *circuit) destination() peer.ID { return c.there.to.Conn().RemotePeer() }

// register lists a circuit; not when its destination has lost its reservation
// meanwhile, as when it was sent away.
func (s *Server) register(c *circuit) Reason {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ReasonShutdown
	}
	if !s.table.holds(time.Now(), c.destination()) {
		return ReasonNoReservation
	}
	s.stats.Opened++
	c.id = s.stats.Opened
	s.circuits[c.id] = c
	return ""
}

// unregister takes an ended circuit from the list and into the statistics.
func (s *Server) unregister(c *circuit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.circuits, c.id)
	s.stats.Closed[c.why]++
	s.stats.Bytes += c.there.moved.Load() + c.back.moved.Load()
}
