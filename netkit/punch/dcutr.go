package punch

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/ping"
	"dibber/netkit/relay"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch/pb"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// exchangeTimeout bounds the exchange of addresses.
	exchangeTimeout = 10 * time.Second
	// ownTimeout is how long to wait for a peer to tell where it sees this host.
	ownTimeout = 2 * time.Second
	// notYet is how long a stock peer needs to speak DCUtR after it was started: it
	// looks for a public address of its own 0, 250, 750 and 1750 ms after.
	notYet = 2 * time.Second
	// notYetPause is the time between two looks at such a peer.
	notYetPause = 250 * time.Millisecond
	// vainTimeout bounds the attempt between NATs that let nothing through.
	vainTimeout = time.Second
	// nextTimeout is how long to wait for the peer's next attempt: it gives this one
	// up at the same time, and asks again.
	nextTimeout = 2 * time.Second
	// lateTimeout is how long a peer waits for the run with it to end before it is given
	// another. It is less than peers wait for an answer.
	lateTimeout = exchangeTimeout / 2
	// serviceName is the library's, so that its limits apply.
	serviceName = holepunch.ServiceName
)

var (
	errUnsupported = errors.New("peer does not speak DCUtR")
	errNoStream    = errors.New("no DCUtR stream")
	errNoOwn       = errors.New("no address of this host is known that others could dial")
	errNoRemote    = errors.New("peer named no address that can be dialled")
	errNoDirect    = errors.New("no direct connection came about")
	errUnasked     = errors.New("the peer, which was called, asked for nothing")
)

// initiate punches for the relayed connection c, which came in. It reports whether
// no direct connection came about, or none that lasted.
func (s *Service) initiate(c network.Conn) (failed bool) {
	r, ok := s.beginAfter(c)
	if !ok {
		return r.shown()
	}
	err := s.initiateRun(r)
	s.end(r, err)
	return errors.Is(err, errNoDirect) || errors.Is(err, errLost) || errors.Is(err, errSpent)
}

func (s *Service) initiateRun(r *run) error {
	if c, ok := s.standsDirect(r.peer); ok {
		r.stood(c)
		return nil
	}
	err := s.meet(r)
	for tries := len(r.own().Attempts); ; tries++ {
		switch {
		case err == nil:
			return s.prove(r)
		case tries >= s.cfg.Attempts || !r.goesOn(err) || r.relayed.IsClosed() || s.ctx.Err() != nil:
			return err
		}
		err = s.initiateOnce(r, tries%2 == 1)
	}
}

// meet is what precedes DCUtR: the offer of the end that called, or else one of this end.
func (s *Service) meet(r *run) error {
	if st := s.awaitOffer(r); st != nil {
		return s.answerOffer(r, st)
	}
	err := s.offer(r)
	if s.lacks(r.relayed, relay.OfferProtocol) {
		s.offers.Forget(r.peer) // it took none: it only asked something, and may yet punch
	}
	return err
}

// initiateOnce is one exchange and the attempt that follows it. client says which side
// this end is of a TCP connection; the other end is the client of one that both open.
// Where this end's NAT shows another port to the other than to the relay, this end's
// packets alone arrive, at a listener, and it must be the client: every other time.
func (s *Service) initiateOnce(r *run, client bool) error {
	own, err := s.own(r)
	if err != nil {
		return err
	}
	rtt, err := s.exchange(r, own)
	if err != nil {
		return err
	}
	// SYNC is with the peer half a round trip from now: both dial at that moment,
	// and the packets cross between the two NATs.
	host.Pause(s.ctx, rtt/2)
	return s.attempt(r, MethodDCUtR, own, rtt, client, s.cfg.Timeout)
}

// exchange sends and takes a CONNECT, sends SYNC, and returns the round trip time
// through the relay.
func (s *Service) exchange(r *run, own []ma.Multiaddr) (rtt time.Duration, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, exchangeTimeout)
	defer cancel()
	began := time.Now()
	for {
		rtt, err = s.exchangeOnce(ctx, r, own)
		if !errors.Is(err, errUnsupported) || time.Since(began) > notYet {
			return rtt, err
		}
		host.Pause(ctx, notYetPause)
	}
}

func (s *Service) exchangeOnce(ctx context.Context, r *run, own []ma.Multiaddr) (time.Duration, error) {
	st, err := s.n.OpenStream(ctx, r.relayed, holepunch.Protocol)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errNoStream, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer stop()
	release, err := s.reserve(st, maxMessage)
	if err != nil {
		_ = st.Reset() // the first error is the one to tell
		return 0, err
	}
	defer release()
	frames := wire.NewReader(st, maxMessage)
	sent := time.Now()
	if err := writeConnect(st, own, r.report.Run); err != nil {
		_ = st.Reset()
		return 0, s.refused(ctx, r.relayed, err)
	}
	r.tell(Step{Event: "connect.sent", Addrs: texts(own)})
	remote, dropped, _, err := readConnect(frames)
	if err != nil {
		_ = st.Reset()
		return 0, s.refused(ctx, r.relayed, err)
	}
	rtt := time.Since(sent)
	if err := s.connectCame(r, remote, dropped); err != nil {
		_ = st.Reset()
		return 0, err
	}
	if err := writeSync(st); err != nil {
		_ = st.Reset()
		return 0, err
	}
	r.tell(Step{Event: "sync.sent"})
	_ = st.Close() // all was said
	return rtt, nil
}

// refused finds out whether the peer does not speak DCUtR, which a stream that was
// opened without waiting for its answer shows only as a reset.
func (s *Service) refused(ctx context.Context, c network.Conn, err error) error {
	if errors.Is(err, errProtocol) {
		return err
	}
	if ok, asked := s.n.Supports(ctx, c, holepunch.Protocol); asked == nil && !ok {
		return errUnsupported
	}
	return fmt.Errorf("%w: %w", errNoStream, err)
}

// answer serves a DCUtR stream. Only those may ask whom this host called through a
// relay, as the specification has it.
func (s *Service) answer(st network.Stream) {
	c := st.Conn()
	allowed := addr.IsRelayed(c.RemoteMultiaddr()) && c.Stat().Direction == network.DirOutbound &&
		s.limiter.Allow(c.RemotePeer(), time.Now())
	if !allowed {
		_ = st.ResetWithError(network.StreamProtocolViolation)
		return
	}
	s.goRun(func() {
		for late := time.After(lateTimeout); ; {
			r, ok := s.beginRelayed(c, Responder)
			if ok {
				s.end(r, s.answerRun(r, func() error { return s.answerOnce(r, st) }))
				return
			}
			if r.role == Responder && r.again(st) {
				return
			}
			// Of a direct connection that was lost before it was proved this end may know later than its peer.
			if r.role != Responder || !s.awaitFailure(r, late) {
				_ = st.ResetWithError(network.StreamRateLimited)
				return
			}
		}
	})
}

// awaitFailure waits until a run has ended, and reports whether it came to nothing.
func (s *Service) awaitFailure(r *run, late <-chan time.Time) bool {
	select {
	case <-r.ended:
		return !r.shown() && r.own().Outcome == Failed
	case <-late:
	case <-s.ctx.Done():
	}
	return false
}

// answerRun takes part in every attempt that the peer makes after the first. Whether there
// will be another it does not say.
func (s *Service) answerRun(r *run, first func() error) error {
	defer r.noMore()
	for err := first(); ; {
		if err == nil {
			return s.prove(r)
		}
		if !r.goesOn(err) {
			return err
		}
		select {
		case st := <-r.next:
			err = s.answerOnce(r, st)
		case <-time.After(nextTimeout):
			return err
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

// answerOnce answers one exchange and makes the attempt that follows it.
func (s *Service) answerOnce(r *run, st network.Stream) error {
	r.asked = true
	stop := context.AfterFunc(s.ctx, func() { _ = st.Reset() })
	defer stop()
	if st.Protocol() == relay.OfferProtocol {
		return s.answerOffer(r, st)
	}
	own, rtt, err := s.answerExchange(r, st)
	if err != nil {
		_ = st.Reset() // the first error is the one to tell
		return err
	}
	_ = st.Close() // all was said
	return s.attempt(r, MethodDCUtR, own, rtt, true, s.cfg.Timeout)
}

// answerExchange takes the CONNECT, answers it and waits for SYNC.
func (s *Service) answerExchange(r *run, st network.Stream) (own []ma.Multiaddr, rtt time.Duration, err error) {
	if err := st.SetDeadline(time.Now().Add(exchangeTimeout)); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errNoStream, err)
	}
	release, err := s.reserve(st, maxMessage)
	if err != nil {
		return nil, 0, err
	}
	defer release()
	frames := wire.NewReader(st, maxMessage)
	remote, dropped, id, err := readConnect(frames)
	if err != nil {
		return nil, 0, err
	}
	if id != "" {
		r.named(id)
	}
	if err := s.connectCame(r, remote, dropped); err != nil {
		return nil, 0, err
	}
	if own, err = s.own(r); err != nil {
		return nil, 0, err
	}
	sent := time.Now()
	if err := writeConnect(st, own, id); err != nil {
		return nil, 0, err
	}
	r.tell(Step{Event: "connect.sent", Addrs: texts(own)})
	if _, err := read(frames, pb.HolePunch_SYNC); err != nil {
		return nil, 0, err
	}
	rtt = time.Since(sent)
	r.tell(Step{Event: "sync.received"})
	return own, rtt, nil
}

// connectCame notes the addresses that the peer's CONNECT named.
func (s *Service) connectCame(r *run, remote []ma.Multiaddr, dropped []Dropped) error {
	r.tell(Step{Event: "connect.received", Addrs: texts(remote)})
	remote, without := s.dialable(remote)
	remote, many := few(remote)
	return r.took(remote, slices.Concat(dropped, without, many))
}

// dialable sorts addresses by whether this host has the transport for them.
func (s *Service) dialable(addrs []ma.Multiaddr) (use []ma.Multiaddr, dropped []Dropped) {
	for _, a := range addrs {
		if s.n.CanDial(a) {
			use = append(use, a)
		} else {
			dropped = append(dropped, Dropped{Addr: a.String(), Reason: DroppedTransport})
		}
	}
	return use, dropped
}

// reserve accounts for the memory of a stream.
func (s *Service) reserve(st network.Stream, bytes int) (release func(), err error) {
	scope := st.Scope()
	if err := scope.SetService(serviceName); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoStream, err)
	}
	if err := scope.ReserveMemory(bytes, network.ReservationPriorityAlways); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoStream, err)
	}
	return func() { scope.ReleaseMemory(bytes) }, nil
}

// own are the addresses to offer. A host that has just begun has to be told by the
// relay first where it is seen, and one that was called by other transports than that
// is worth a moment, too.
func (s *Service) own(r *run) ([]ma.Multiaddr, error) {
	ctx, cancel := context.WithTimeout(s.ctx, ownTimeout)
	defer cancel()
	for {
		more := s.n.Observed()
		out := slices.DeleteFunc(s.n.AddrsFor(r.via.ID), func(a ma.Multiaddr) bool { return unfit(a) != "" })
		s.seenFirst(out)
		out = out[:min(len(out), maxAddrs)]
		if len(out) > 0 && (r.remote == nil || meet(out, r.remote)) {
			return out, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			if len(out) == 0 {
				return nil, errNoOwn
			}
			return out, nil
		}
	}
}

// seenFirst puts those addresses first at whose IP others see the host: peers do not dial
// many.
func (s *Service) seenFirst(addrs []ma.Multiaddr) {
	var seen []netip.Addr
	for _, o := range s.n.Observations() {
		if ip, ok := addr.IP(o.Addr); ok {
			seen = append(seen, ip)
		}
	}
	unseen := func(a ma.Multiaddr) int {
		if ip, _ := addr.IP(a); slices.Contains(seen, ip) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(addrs, func(a, b ma.Multiaddr) int { return unseen(a) - unseen(b) })
}

// meet reports whether two lists have a transport in common.
func meet(a, b []ma.Multiaddr) bool {
	return slices.ContainsFunc(a, func(x ma.Multiaddr) bool {
		return slices.ContainsFunc(b, func(y ma.Multiaddr) bool { return addr.Transport(x) == addr.Transport(y) })
	})
}

// attempt dials together and notes what came of it.
func (s *Service) attempt(r *run, method string, own []ma.Multiaddr, rtt time.Duration, client bool, most time.Duration) error {
	spent, err := s.spend(r)
	if err != nil {
		return err
	}
	began := time.Now()
	r.tell(Step{Event: "attempt.started", Addrs: texts(r.remote)})
	err = s.together(s.ctx, r, client, most)
	if c, ok := s.direct(r.peer); ok && err == nil {
		s.refund(spent, c)
	}
	r.attempted(Attempt{
		Method: method, RTTms: ping.Milliseconds(rtt), Local: texts(own), Remote: texts(r.remote),
		Outcome: outcomeOf(err), MS: ping.Milliseconds(time.Since(began)),
	}, err)
	return err
}
