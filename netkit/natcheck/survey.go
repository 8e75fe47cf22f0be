package natcheck

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"dibber/netkit/nat"
	"dibber/netkit/vantage"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// burst and pace spread the copies of a question, of which one or two may be
	// lost; patience is the wait before more are sent, doubled each time.
	burst    = 5
	pace     = 6 * time.Millisecond
	patience = 250 * time.Millisecond
	// sureAcks is how many asks for a probe must have been heard before its absence
	// means something, and grace how much later than the last of them it may come.
	sureAcks = 3
	grace    = 20 * time.Millisecond
	// hairpinWait is the least wait for what was sent to the own outside address; on
	// the whole it is given a round trip.
	hairpinWait = 15 * time.Millisecond
	// giveUp is how long one question is asked for.
	giveUp = 2 * time.Second
	// samples is how many ports are opened to see how outside ports are chosen.
	samples = 3
	// otherSites is how many addresses of a server are used besides the one that was
	// reached.
	otherSites = 2
	// replyRoom is more replies than all questions of a survey can get.
	replyRoom = 1024
)

// question is sent again and again until it is answered well enough.
type question struct {
	from   *socket
	remote netip.AddrPort // whom it is sent to
	probe  *nat.Trial     // what it asks for; nil if only to be reflected
	site   byte           // whose probe
	source netip.Addr     // where that comes from
	sample bool
	knock  bool // sent to the own outside address

	next   time.Time
	copies int
	last   time.Time // when to give up

	acks    int
	settled time.Time // when a probe's absence means something; zero before
	rtt     time.Duration
	seen    netip.AddrPort // what was observed
}

// done reports whether nothing more is to be sent.
func (q *question) done(now time.Time) bool {
	switch {
	case q.probe != nil && q.probe.Came, !q.last.IsZero() && !now.Before(q.last):
		return true
	case q.probe != nil:
		return !q.settled.IsZero() && !now.Before(q.settled)
	case q.knock:
		return false
	default:
		return q.seen.IsValid()
	}
}

// sent is one copy of a question.
type sent struct {
	q  *question
	at time.Time
}

// survey measures one family over UDP with one vantage point.
type survey struct {
	c       *check
	server  peer.ID
	token   []byte
	here    netip.AddrPort // where the server was reached
	replies chan arrival
	copies  map[uint64]sent
	asked   []*question
	hairpin *bool
	extra   []*socket
	// knocking is the node's socket as long as the own outside address is yet to be
	// knocked at.
	knocking *socket
}

// surveyUDP asks l's server for all that it can tell about UDP. In the first round
// it writes only to the address that the connection already goes to; the others
// are written to when it is known whether they get in unasked.
func (c *check) surveyUDP(ctx context.Context, l *look, a vantage.Answer) {
	sock := c.socketOf(l.local)
	i := slices.IndexFunc(a.Sites, func(s vantage.Site) bool { return s.Here })
	if sock == nil || i < 0 {
		return
	}
	s := &survey{
		c: c, server: l.v.server.ID, token: a.Token, here: l.remote,
		replies: make(chan arrival, replyRoom), copies: make(map[uint64]sent),
	}
	defer s.close()
	hereIP := l.remote.Addr()
	if len(a.Token) > 0 {
		s.trial(sock, byte(i), hereIP, true)
	}
	ports := slices.DeleteFunc(slices.Clone(a.Sites[i].Ports), func(p uint16) bool { return p == l.remote.Port() })
	for _, p := range ports {
		s.look(sock, netip.AddrPortFrom(hereIP, p))
	}
	if len(ports) > 0 {
		c.reflects(netip.AddrPortFrom(hereIP, ports[0]))
		s.sample(netip.AddrPortFrom(hereIP, ports[0]))
	}
	var others []vantage.Site
	for j, site := range a.Sites {
		if j == i || len(others) == otherSites || len(site.Ports) == 0 || !l.reaches(site, a.Sites[i]) {
			continue
		}
		others = append(others, site)
		if len(a.Token) > 0 && !c.n.Contacted(UDP, site.IP) {
			s.trial(sock, byte(j), site.IP, false)
		}
	}
	s.run(ctx, func(q *question) bool { return q.probe != nil })
	for _, site := range others {
		c.n.Contact(UDP, site.IP)
		for _, p := range site.Ports[:min(len(site.Ports), 2)] {
			s.look(sock, netip.AddrPortFrom(site.IP, p))
		}
	}
	s.knocking = sock
	s.run(ctx, func(*question) bool { return true })
	s.report()
}

// trial asks for packets from a site.
func (s *survey) trial(from *socket, site byte, source netip.Addr, known bool) {
	s.asked = append(s.asked, &question{
		from: from, remote: s.here, site: site, source: source,
		probe: &nat.Trial{Server: s.server.String(), Known: known},
	})
}

// look asks where packets come from that go to an endpoint.
func (s *survey) look(from *socket, to netip.AddrPort) {
	s.asked = append(s.asked, &question{from: from, remote: to})
}

// sample opens ports and asks the same of them, once in a family.
func (s *survey) sample(to netip.AddrPort) {
	s.c.mu.Lock()
	taken := s.c.sampled[familyOf(to.Addr())]
	s.c.sampled[familyOf(to.Addr())] = true
	s.c.mu.Unlock()
	wild := netip.IPv6Unspecified()
	if to.Addr().Is4() {
		wild = netip.IPv4Unspecified()
	}
	for range samples {
		if taken {
			return
		}
		conn, err := s.c.n.ListenUDP(netip.AddrPortFrom(wild, 0))
		if err != nil {
			return // the pattern stays unknown
		}
		sock := newSocket(vantage.NewClient(conn))
		s.extra = append(s.extra, sock)
		s.asked = append(s.asked, &question{from: sock, remote: to, sample: true})
	}
}

// knockAtOwn sends to the node's outside address from another of its ports and back,
// so that a filter on either has been written through. It waits until both outside
// addresses are known.
func (s *survey) knockAtOwn() {
	sock := s.knocking
	if sock == nil {
		return
	}
	var main, other *question
	for _, q := range s.asked {
		switch {
		case !q.seen.IsValid():
		case q.sample:
			other = q
		case q.from == sock && main == nil:
			main = q
		}
	}
	if main == nil || other == nil || slices.Contains(s.c.own, main.seen.Addr()) {
		return // not yet, or no outside
	}
	s.knocking = nil
	last := time.Now().Add(max(main.rtt, hairpinWait))
	s.asked = append(s.asked,
		&question{from: sock, remote: other.seen, knock: true, last: last},
		&question{from: other.from, remote: main.seen, knock: true, last: last})
}

// run sends and listens until every question for which until holds is done.
func (s *survey) run(ctx context.Context, until func(*question) bool) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s.knockAtOwn()
		now := time.Now()
		wake, open := now.Add(giveUp), false
		for _, q := range s.asked {
			if q.done(now) {
				continue
			}
			open = open || until(q)
			s.send(q, now)
			wake = earliest(wake, q.next, q.settled, q.last)
		}
		if !open {
			return
		}
		timer.Reset(time.Until(wake))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case a := <-s.replies:
			s.take(a)
		}
	}
}

// earliest is the first of several moments, but for those that are zero.
func earliest(first time.Time, more ...time.Time) time.Time {
	for _, t := range more {
		if !t.IsZero() && t.Before(first) {
			first = t
		}
	}
	return first
}

// send sends a copy of a question if it is time.
func (s *survey) send(q *question, now time.Time) {
	if now.Before(q.next) {
		return
	}
	if q.copies == 0 && q.last.IsZero() {
		q.last = now.Add(giveUp)
	}
	id := newID()
	s.copies[id] = sent{q, now}
	var err error
	switch {
	case q.probe != nil:
		q.from.expect(id, s.replies)
		err = q.from.AskProbe(id, q.remote, q.site, s.token)
	case q.knock:
		for _, other := range s.asked {
			other.from.expect(id, s.replies) // it comes in at another port
		}
		err = q.from.Knock(id, q.remote)
	default:
		q.from.expect(id, s.replies)
		err = q.from.Reflect(id, q.remote)
	}
	q.copies++
	q.next = now.Add(pace)
	if more := q.copies - burst; more >= 0 {
		q.next = now.Add(patience << more)
	}
	if err != nil {
		q.last = now // no way there
	}
}

// take notes a reply.
func (s *survey) take(a arrival) {
	copied, ok := s.copies[a.ID]
	if !ok {
		return
	}
	q := copied.q
	switch {
	case q.knock:
		s.hairpin = new(true)
	case a.Probe():
		// Only from where nothing was sent to, as was asked for.
		if q.probe != nil && a.From.Addr() == q.source && a.From != q.remote && (q.probe.Known || !s.c.n.Contacted(UDP, q.source)) {
			q.probe.Came = true
		}
	case a.at == q.from && a.From == q.remote:
		if q.acks++; q.acks == sureAcks && q.probe != nil {
			q.settled = a.At.Add(grace)
		}
		if rtt := a.At.Sub(copied.at); q.rtt == 0 || rtt < q.rtt {
			q.rtt = rtt
		}
		q.seen = a.Observed
	}
}

// report hands the evidence on.
func (s *survey) report() {
	answered := make(map[netip.Addr]bool) // by a port other than the connection's
	steady := true                        // every endpoint sees the same
	var first netip.AddrPort
	told := make(map[[2]netip.AddrPort]bool)
	for _, q := range s.asked {
		pair := [2]netip.AddrPort{q.from.Local(), q.remote}
		if !q.seen.IsValid() || told[pair] {
			continue
		}
		told[pair] = true
		answered[q.remote.Addr()] = answered[q.remote.Addr()] || q.remote != s.here
		if !q.sample {
			steady = steady && (!first.IsValid() || first == q.seen)
			first = q.seen
		}
		s.c.saw(Sight{
			Server: s.server, Local: q.from.Local(), Observed: q.seen, Transport: UDP, RTTms: new(ms(q.rtt)),
			Remote: q.remote, By: ByReflector, Sample: q.sample,
		})
	}
	open := slices.ContainsFunc(s.asked, func(q *question) bool { return q.probe != nil && q.probe.Came })
	knocked := slices.ContainsFunc(s.asked, func(q *question) bool { return q.knock })
	if s.hairpin == nil && knocked && steady && open {
		// Where each remote sees another port, nobody knows which one to knock at. And
		// a NAT that lets in exact endpoints alone may have moved the answer to
		// another port, for the first knock came unasked.
		s.hairpin = new(false)
	}
	s.c.add(familyOf(s.here.Addr()), UDP, func(e *nat.Evidence) {
		if s.hairpin != nil {
			e.Hairpin = s.hairpin
		}
		for _, q := range s.asked {
			if q.probe != nil {
				q.probe.Sure = q.acks >= sureAcks && answered[q.source]
				e.Trials = append(e.Trials, *q.probe)
			}
		}
	})
}

func (s *survey) close() {
	for _, sock := range s.extra {
		sock.close()
	}
}
