package punch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/nat"
	"dibber/netkit/relay"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// introTimeout bounds how long a relay may take to show that it carries offers, and to
// carry one: without that there still is the relayed connection.
const introTimeout = 5 * time.Second

// introduce makes a direct connection with p of an offer that the relay carries, without
// a relayed connection, which takes four round trips through the relay to make. It fails
// with errPlain where that is not possible. A run that is hopeless is not ended: the other
// end's view of it comes over the relayed connection.
func (s *Service) introduce(ctx context.Context, p peer.ID, via peer.AddrInfo) (*run, error) {
	if s.cfg.Method == MethodDCUtR {
		return nil, errPlain
	}
	ctx, cancel := context.WithTimeout(ctx, introTimeout)
	defer cancel()
	c, err := s.relayConn(ctx, via)
	if err != nil {
		return nil, err
	}
	select {
	case <-s.n.Identified(c):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.lacks(c, relay.IntroProtocol) {
		s.prepare(via) // until the relayed connection stands
		return nil, errPlain
	}
	s.learn(via.ID)
	x := exchanged{own: s.known(ctx, via, ""), offers: true}
	if x.own == nil {
		return nil, errPlain
	}
	r, ok := s.begin(newRun(p, via, Initiator, s.cfg.On))
	if !ok {
		return nil, errPlain // the peer calls at the same time
	}
	err = s.introduceRun(ctx, r, c, &x)
	closeAll(x.sockets)
	if _, late := s.direct(p); err == nil || late {
		err = s.prove(r)
	}
	if !r.hopeless(err) {
		s.end(r, err)
	}
	return r, err
}

// introduceRun makes the offer and does what the answer allows.
func (s *Service) introduceRun(ctx context.Context, r *run, c network.Conn, x *exchanged) error {
	if err := s.makeOffer(ctx, r, x); err != nil {
		return err
	}
	signed, err := s.sign(x.sent)
	if err != nil {
		return err
	}
	r.tell(Step{Event: "offer.sent", Addrs: texts(x.sent.addrs)})
	sent := time.Now()
	raw, err := relay.Introduce(ctx, s.n, c, r.peer, signed)
	if err != nil {
		return fmt.Errorf("%w: %w", errPlain, err)
	}
	p, err := s.answered(r, x, raw, sent)
	if err != nil {
		return err
	}
	if p.Method == nat.MethodNone {
		return errPlain // the other end does nothing
	}
	return s.carryOut(r, x, p)
}

// serveIntros answers offers that relays carry.
func (s *Service) serveIntros() *wire.Service {
	return wire.NewService(wire.ServiceConfig{
		Name: string(relay.OfferProtocol), MaxRequest: maxIntro, MaxReply: maxIntro, Timeout: exchangeTimeout,
	}, s.takeOffer)
}

// offered serves an offer, over a relayed connection or from a relay.
func (s *Service) offered(st network.Stream) {
	c := st.Conn()
	switch {
	case !addr.IsRelayed(c.RemoteMultiaddr()):
		s.intros.Handle(st)
	case c.Stat().Direction == network.DirOutbound:
		s.answer(st)
	case !s.limiter.Allow(c.RemotePeer(), time.Now()) || !s.called(c, st):
		_ = st.ResetWithError(network.StreamRateLimited)
	}
}

var (
	errNoRelay   = errors.New("offer by a peer that is no relay of this host")
	errTooOften  = errors.New("offers too often")
	errNotInvite = errors.New("peer may not connect")
)

// takeOffer answers an offer that a relay carries. What follows takes place after the
// answer is sent.
func (s *Service) takeOffer(_ context.Context, req wire.Request) ([]byte, error) {
	came := time.Now()
	via, ok := s.reservedOn(req.Peer)
	if !ok {
		return nil, errNoRelay
	}
	in, from, err := openIntro(req.Body, s.n.ID(), nil)
	switch {
	case err != nil:
		return nil, err
	case !s.n.Admits(from, req.Conn.RemoteMultiaddr()):
		return nil, errNotInvite
	case !s.limiter.Allow(from, came):
		return nil, errTooOften
	}
	r, ok := s.begin(newRun(from, via, Responder, s.cfg.On))
	if !ok {
		return nil, errTooOften
	}
	x := exchanged{got: in}
	p, known, err := s.makeAnswer(r, &x)
	acts := err == nil && known && p.Method != nat.MethodNone
	if acts && !s.offers.Allow(from, came) {
		r.tell(Step{Event: stepLimited})
		acts, x.sent.paths = false, nil // which leaves DCUtR to the peer
	}
	var signed []byte
	if err == nil {
		x.sent.held = time.Since(came)
		signed, err = s.sign(x.sent)
	}
	if err != nil || !acts || !s.goRun(func() { s.follow(r, &x, p) }) {
		closeAll(x.sockets)
		s.end(r, errors.Join(errPlain, err))
	}
	return signed, err
}

// follow does what an answer that is being sent allows.
func (s *Service) follow(r *run, x *exchanged, p pairing) {
	r.tell(Step{Event: "answer.sent", Addrs: texts(x.sent.addrs)})
	x.rtt = x.sent.rtt + x.got.rtt
	if p.Method != nat.MethodDial || !p.Own {
		host.Pause(s.ctx, x.rtt/2) // until the other end has the answer, so that packets cross
	}
	err := s.carryOut(r, x, p)
	closeAll(x.sockets)
	if err == nil {
		err = s.prove(r)
	}
	s.end(r, err)
}

// reservedOn is a relay that this host has a reservation on; false if p is none.
func (s *Service) reservedOn(p peer.ID) (peer.AddrInfo, bool) {
	for _, c := range s.n.Circuits() {
		if at, ok := addr.RelayOf(c); ok && at.ID == p {
			return at, true
		}
	}
	return peer.AddrInfo{}, false
}
