package punch

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/nat"
	"dibber/netkit/ping"
	"dibber/netkit/relay"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

var (
	// errPlain means that no more than DCUtR is possible with a peer: it is none of
	// ours, or one end does not know its NAT.
	errPlain = errors.New("nothing but DCUtR")
	// ErrImpossible means that both NATs are known, and that nothing gets through.
	ErrImpossible = errors.New("no direct connection is possible between these NATs")
)

// exchanged is an offer with its answer, as one end has them.
type exchanged struct {
	own       *situation
	sent, got intro
	sockets   []net.PacketConn // opened to be seen at the predicted port
	rtt       time.Duration    // through the relay
	offers    bool             // this end made the offer
}

// offer tells the peer of r over the relayed connection about the own NAT, hears about
// its, and does what the two allow. It fails with errPlain where that is not known.
func (s *Service) offer(r *run) error {
	if s.cfg.Method == MethodDCUtR || s.lacks(r.relayed, relay.OfferProtocol) {
		return errPlain
	}
	ctx, cancel := context.WithTimeout(s.ctx, exchangeTimeout)
	defer cancel()
	x := exchanged{own: s.known(ctx, r.via, ""), offers: true}
	if x.own == nil {
		return errPlain
	}
	if !s.offers.Allow(r.peer, time.Now()) {
		r.tell(Step{Event: stepLimited})
		return errPlain
	}
	if err := s.makeOffer(ctx, r, &x); err != nil {
		return err
	}
	defer func() { closeAll(x.sockets) }()
	p, err := s.exchangeOffer(ctx, r, &x)
	if err != nil {
		return err
	}
	if !x.got.paced && (p.Method != nat.MethodDial || !p.Own) {
		host.Pause(s.ctx, x.rtt/2) // the other end hears so long after that both begin
	}
	return s.carryOut(r, &x, p)
}

// makeOffer fills in what is to be sent.
func (s *Service) makeOffer(ctx context.Context, r *run, x *exchanged) error {
	own, err := s.own(r)
	if err != nil {
		return err
	}
	x.sent = newIntro(r.peer, own)
	x.sent.run, _ = hex.DecodeString(r.id()) // it is hexadecimal
	s.addOwn(r, x)
	for i, p := range x.sent.paths {
		if p.kind.Filtering == nat.APDF && x.sockets == nil && s.mayOpen(r) {
			x.sent.paths[i].next, x.sockets = s.predict(ctx, p, x.own.reflector)
		}
	}
	return nil
}

// addOwn adds what is known of the own NAT.
func (s *Service) addOwn(r *run, x *exchanged) {
	paths, at := s.ways(x.own)
	x.sent.attested, x.sent.paths, x.sent.rtt = x.own.attested, paths, s.toRelay(r.via.ID)
	for _, a := range x.sent.addrs {
		if !slices.ContainsFunc(at, a.Equal) {
			at = append(at, a)
		}
	}
	x.sent.addrs = at
}

// exchangeOffer sends the offer and takes the answer.
func (s *Service) exchangeOffer(ctx context.Context, r *run, x *exchanged) (pairing, error) {
	st, err := s.n.OpenStream(ctx, r.relayed, relay.OfferProtocol)
	if err != nil {
		return pairing{}, fmt.Errorf("%w: %w", errNoStream, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer stop()
	p, err := s.exchangeOn(st, r, x)
	if err != nil {
		_ = st.Reset() // the first error is the one to tell
		return p, err
	}
	_ = st.Close() // all was said
	return p, nil
}

func (s *Service) exchangeOn(st network.Stream, r *run, x *exchanged) (p pairing, err error) {
	release, err := s.reserve(st, maxIntro)
	if err != nil {
		return p, err
	}
	defer release()
	signed, err := s.sign(x.sent)
	if err != nil {
		return p, err
	}
	began := time.Now()
	if err := wire.WriteFrame(st, signed, maxIntro); err != nil {
		return p, fmt.Errorf("%w: send offer: %w", errPlain, err)
	}
	r.tell(Step{Event: "offer.sent", Addrs: texts(x.sent.addrs)})
	raw, err := wire.NewReader(st, maxIntro).Next()
	if err != nil {
		return p, fmt.Errorf("%w: wait for answer: %w", errPlain, err) // it mostly does not speak the protocol
	}
	if p, err = s.answered(r, x, raw, began); err != nil {
		return p, err
	}
	if err := wire.WriteFrame(st, nil, 0); err != nil {
		return p, fmt.Errorf("%w: send begin: %w", errNoStream, err)
	}
	return p, nil
}

func (s *Service) sign(in intro) ([]byte, error) { return in.sign(s.n.Peerstore().PrivKey(s.n.ID())) }

// answered takes the answer to an offer that was sent at the given time.
func (s *Service) answered(r *run, x *exchanged, raw []byte, sent time.Time) (p pairing, err error) {
	if x.got, err = openIntroOf(r.peer, raw, s.n.ID(), x.sent.nonce); err != nil {
		return p, err
	}
	x.rtt = max(0, time.Since(sent)-x.got.held)
	r.named(r.id()) // the peer knows it
	r.tell(Step{Event: "answer.received", Addrs: texts(x.got.addrs)})
	p, known := pair(x.sent.paths, x.got.paths, true)
	if !known {
		return p, errPlain
	}
	return p, nil
}

// answerOffer answers an offer that came over the relayed connection, and does what the
// two NATs allow.
func (s *Service) answerOffer(r *run, st network.Stream) error {
	x := exchanged{}
	p, err := s.answerOn(st, r, &x)
	defer func() { closeAll(x.sockets) }()
	if err != nil && !errors.Is(err, errPlain) {
		_ = st.Reset() // the first error is the one to tell
		return fmt.Errorf("%w: %w", errPlain, err)
	}
	_ = st.Close() // all was said
	if err != nil {
		return err
	}
	return s.carryOut(r, &x, p)
}

func (s *Service) answerOn(st network.Stream, r *run, x *exchanged) (p pairing, err error) {
	if err := st.SetDeadline(time.Now().Add(exchangeTimeout)); err != nil {
		return p, fmt.Errorf("%w: %w", errNoStream, err)
	}
	release, err := s.reserve(st, maxIntro)
	if err != nil {
		return p, err
	}
	defer release()
	frames := wire.NewReader(st, maxIntro)
	raw, err := frames.Next()
	if err != nil {
		return p, fmt.Errorf("wait for offer: %w", err)
	}
	if x.got, err = openIntroOf(r.peer, raw, s.n.ID(), nil); err != nil {
		return p, err
	}
	came := time.Now()
	p, known, err := s.makeAnswer(r, x)
	if err != nil {
		return p, err
	}
	if known && r.role == Initiator && !s.offers.Allow(r.peer, came) {
		r.tell(Step{Event: stepLimited})
		known, x.sent.paths = false, nil
	}
	pace := x.pace()
	x.sent.paced = pace > 0
	x.sent.held = time.Since(came)
	signed, err := s.sign(x.sent)
	if err != nil {
		return p, err
	}
	sent := time.Now()
	if err := wire.WriteFrame(st, signed, maxIntro); err != nil {
		return p, fmt.Errorf("%w: send answer: %w", errNoStream, err)
	}
	r.tell(Step{Event: "answer.sent", Addrs: texts(x.sent.addrs)})
	if !known {
		return p, errPlain
	}
	if p.Method == nat.MethodDial && p.Own {
		return p, nil // there is nothing to wait for
	}
	x.rtt, err = s.awaitBegin(frames, sent, pace)
	return p, err
}

// makeAnswer fills in the answer to an offer and chooses what to do; known is false where
// too little is known of one of the NATs.
func (s *Service) makeAnswer(r *run, x *exchanged) (p pairing, known bool, err error) {
	r.named(x.got.id())
	r.tell(Step{Event: "offer.received", Addrs: texts(x.got.addrs)})
	own, err := s.own(r)
	if err != nil {
		return p, false, err
	}
	x.sent = newIntro(r.peer, own)
	x.sent.run, x.sent.replyTo = x.got.run, x.got.nonce
	ctx, cancel := context.WithTimeout(s.ctx, lookTimeout)
	defer cancel()
	if x.own = s.known(ctx, r.via, witness(x.got.attested)); x.own == nil {
		return p, false, nil
	}
	s.addOwn(r, x)
	if p, known = pair(x.sent.paths, x.got.paths, false); known && p.Method == nat.MethodPredict && s.mayOpen(r) {
		p.own.next, x.sockets = s.predict(ctx, p.own, x.own.reflector)
		for i := range x.sent.paths {
			if x.sent.paths[i].observed == p.own.observed {
				x.sent.paths[i].next = p.own.next
			}
		}
	}
	return p, known, nil
}

// carryOut does what both ends have agreed on.
func (s *Service) carryOut(r *run, x *exchanged, p pairing) error {
	err := s.carry(r, x, p)
	if errors.Is(err, errNoDirect) {
		s.doubt(x.own)
	}
	return err
}

func (s *Service) carry(r *run, x *exchanged, p pairing) error {
	r.agreed(p)
	if p.Method != nat.MethodPredict {
		closeAll(x.sockets)
		x.sockets = nil
	}
	at, err := attested(x.got.attested, r.peer, x.own.server, x.own.serverNow())
	if err != nil {
		return fmt.Errorf("%w: %w", errPlain, err)
	}
	remote, without := s.dialable(x.got.addrs)
	remote, dropped := seenThere(remote, at)
	r.probed = len(dropped) == 0 // else DCUtR has more to dial
	if err := r.took(remote, slices.Concat(x.got.dropped, without, dropped)); err != nil {
		return err
	}
	switch p.Method {
	case nat.MethodNone:
		// A port that somebody forwards may work.
		r.probed = true
		if err := s.attempt(r, MethodDCUtR, x.sent.addrs, x.rtt, !x.offers, min(s.cfg.Timeout, vainTimeout)); err != nil {
			return fmt.Errorf("%w: %s here, %s there: %s: %w", ErrImpossible, p.own.kind, p.peer.kind, p.Why, err)
		}
		return nil
	case nat.MethodSpray, nat.MethodPredict:
		return s.probe(r, x, p, at)
	default:
		return s.dial(r, x, p, at)
	}
}

// dial does what takes no search for ports and, where that rested on an assumption, what
// is to be done if it was wrong.
func (s *Service) dial(r *run, x *exchanged, p pairing, seen []netip.Addr) error {
	most := s.cfg.Timeout
	other, differs := p.otherwise(x.offers)
	if differs {
		most = min(most, vainTimeout)
	}
	if err := s.attempt(r, string(p.Method), x.sent.addrs, x.rtt, !x.offers, most); err == nil || !differs {
		return err
	}
	r.agreed(other)
	return s.probe(r, x, other, seen)
}

// seenThere sorts addresses by whether the relay saw the peer at their IP address. No
// others are sent anything, since they could be anybody's.
func seenThere(addrs []ma.Multiaddr, seen []netip.Addr) (there []ma.Multiaddr, dropped []Dropped) {
	for _, a := range addrs {
		if ip, _ := addr.IP(a); slices.Contains(seen, ip) {
			there = append(there, a)
		} else {
			dropped = append(dropped, Dropped{Addr: a.String(), Reason: DroppedElsewhere})
		}
	}
	return there, dropped
}

// probe sends to ports that the peer may have, if it is known to be where they are.
func (s *Service) probe(r *run, x *exchanged, p pairing, seen []netip.Addr) error {
	r.probed = true
	began := time.Now()
	at := p.peer.observed.Addr()
	r.tell(Step{Event: "attempt.started", Addrs: []string{at.String()}})
	var err error
	switch {
	case !slices.Contains(seen, at):
		err = fmt.Errorf("%w: seen at %s, not %s", errAttestation, seen, at)
	case p.Method == nat.MethodPredict && (p.own.next == 0 || p.peer.next == 0):
		err = errors.New("the next port of one end could not be told")
	case p.Method == nat.MethodSpray && !p.Own && !s.mayOpen(r):
		err = errors.New("ports are open for another peer at this moment")
	default:
		g := probing{s: s, r: r, p: p, other: at, offers: x.offers, key: slices.Concat(x.sent.nonce, x.got.nonce)}
		if !x.offers {
			g.key = slices.Concat(x.got.nonce, x.sent.nonce)
		}
		sockets := x.sockets
		x.sockets = nil // it closes them, but for the one that is found
		err = g.do(s.ctx, sockets)
	}
	if err != nil && !errors.Is(err, errNoDirect) {
		err = errors.Join(errNoDirect, err)
	}
	r.attempted(Attempt{
		Method: string(p.Method), RTTms: ping.Milliseconds(x.rtt), Local: endpoints(p.own), Remote: endpoints(p.peer),
		Outcome: outcomeOf(err), MS: ping.Milliseconds(time.Since(began)),
	}, err)
	return err
}

func endpoints(p path) []string { return []string{p.observed.String()} }
