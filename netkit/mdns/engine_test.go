package mdns

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"
)

var (
	t0       = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	neighbor = netip.MustParseAddr("10.0.0.7")
	eth      = link{iface: 2}
)

// hear gives the engine a packet from another machine.
func (e *engine) hear(now time.Time, on link, packet []byte) []Event {
	return e.receive(now, received{on: on, from: neighbor, data: packet})
}

func at(d time.Duration) time.Time { return t0.Add(d) }

func testEngine(t testing.TB, self string, config Config) *engine {
	t.Helper()
	e, err := newEngine(mustNames(t), mustID(t, self), config.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	e.restart(t0)
	return e
}

// kind tells what a packet is.
func kind(t testing.TB, us names, packet []byte) string {
	t.Helper()
	msg, err := parse(packet, us)
	switch {
	case err != nil:
		t.Fatal(err)
	case msg.asks:
		return "query"
	case len(msg.found) == 1 && msg.found[0].ttl == 0:
		return "goodbye"
	case len(msg.found) == 1:
		return "records"
	}
	return "services"
}

// run steps the engine whenever it asks for it until the time until, and notes what it sends.
func run(t testing.TB, e *engine, from, until time.Time) (log []string, events []Event) {
	t.Helper()
	for now := from; !now.After(until); {
		out, ev, next := e.step(now)
		events = append(events, ev...)
		for _, s := range out {
			for _, p := range s.packets {
				log = append(log, fmt.Sprintf("%.1fs %s to %d", now.Sub(t0).Seconds(), kind(t, e.names, p), s.to.iface))
			}
		}
		if next.IsZero() {
			return log, events
		}
		if !next.After(now) {
			t.Fatalf("wants to be called at %v again", next.Sub(t0))
		}
		now = next
	}
	return log, events
}

func TestQuestionsSlowDown(t *testing.T) {
	e := testEngine(t, idA, Config{Browse: true, Interval: 5 * time.Second})
	log, _ := run(t, e, t0, at(18*time.Second))
	want := []string{"0.0s query to 0", "1.0s query to 0", "3.0s query to 0", "7.0s query to 0", "12.0s query to 0", "17.0s query to 0"}
	if diff := cmp.Diff(want, log); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAnnouncementsAtStartAndOnChange(t *testing.T) {
	e := testEngine(t, idA, Config{Announce: true})
	e.setAddrs(t0, mustAddrs(t, addr1), nil)
	log, _ := run(t, e, t0, at(10*time.Second))
	e.setAddrs(at(10*time.Second), mustAddrs(t, addr1), nil) // no change
	again, _ := run(t, e, at(10*time.Second), at(20*time.Second))
	log = append(log, again...)
	e.setAddrs(at(20*time.Second), mustAddrs(t, addr2), nil)
	again, _ = run(t, e, at(20*time.Second), at(30*time.Second))
	log = append(log, again...)
	want := []string{"0.0s records to 0", "1.0s records to 0", "20.0s records to 0", "21.0s records to 0"}
	if diff := cmp.Diff(want, log); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOneAnswerForManyQuestionsAndNoMoreThanOneASecond(t *testing.T) {
	e := testEngine(t, idA, Config{Announce: true})
	e.setAddrs(t0, mustAddrs(t, addr1), nil)
	run(t, e, t0, at(9*time.Second))
	var answers []time.Time
	now := at(10 * time.Second)
	for end := at(15 * time.Second); now.Before(end); now = now.Add(10 * time.Millisecond) {
		e.hear(now, eth, e.query) // a hundred questions a second
		out, _, _ := e.step(now)
		for _, s := range out {
			if s.to != eth || len(s.packets) != 1 || kind(t, e.names, s.packets[0]) != "records" {
				t.Fatalf("sends %+v", s)
			}
			answers = append(answers, now)
		}
	}
	if len(answers) < 4 || len(answers) > 5 {
		t.Errorf("%d answers in 5 s", len(answers))
	}
	if delay := answers[0].Sub(at(10 * time.Second)); delay < minDelay || delay > maxDelay+10*time.Millisecond {
		t.Errorf("first answer after %v", delay)
	}
	for i := 1; i < len(answers); i++ {
		if gap := answers[i].Sub(answers[i-1]); gap < minGap {
			t.Errorf("answers %v apart", gap)
		}
	}
}

func TestAnswersGoWhereTheQuestionCameFrom(t *testing.T) {
	e := testEngine(t, idA, Config{Announce: true})
	e.setAddrs(t0, mustAddrs(t, addr1), nil)
	run(t, e, t0, at(9*time.Second))
	other := link{iface: 3, ip6: true}
	e.hear(at(10*time.Second), eth, e.query)
	e.hear(at(10*time.Second), other, e.query)
	out, _, _ := e.step(at(11 * time.Second))
	got := map[link]int{}
	for _, s := range out {
		got[s.to] += len(s.packets)
	}
	if diff := cmp.Diff(map[link]int{eth: 1, other: 1}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBrowsersOfServicesAreAnswered(t *testing.T) {
	e := testEngine(t, idA, Config{Announce: true})
	e.setAddrs(t0, mustAddrs(t, addr1), nil)
	run(t, e, t0, at(9*time.Second))
	ask := e.names
	ask.service = metaService
	question, err := buildQuery(ask)
	if err != nil {
		t.Fatal(err)
	}
	e.hear(at(10*time.Second), eth, question)
	log, _ := run(t, e, at(11*time.Second), at(12*time.Second))
	if diff := cmp.Diff([]string{"11.0s services to 2"}, log); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Without Announce nothing but the question leaves the machine, whatever others send.
func TestNothingIsAnnouncedUnasked(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		e := testEngine(t, idA, Config{})
		e.setAddrs(t0, mustAddrs(t, addr1), nil)
		packets := buildAnswers(mustNames(t), mustID(t, idB), mustAddrs(t, addr2), recordTTL)
		packets = append(packets, e.query, e.services)
		now := t0
		for range rapid.IntRange(0, 30).Draw(rt, "packets") {
			now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(rt, "ms")) * time.Millisecond)
			e.hear(now, eth, rapid.SampledFrom(packets).Draw(rt, "packet"))
			e.setAddrs(now, mustAddrs(t, addr2), nil)
			out, _, _ := e.step(now)
			for _, s := range out {
				for _, p := range s.packets {
					if string(p) != string(e.query) {
						rt.Fatalf("sends %q", p)
					}
				}
			}
		}
		if p := e.goodbye(); p != nil {
			rt.Fatalf("takes leave with %q", p)
		}
	})
}

func TestGoodbyeOnlyAfterSomethingWasSaid(t *testing.T) {
	e := testEngine(t, idA, Config{Announce: true})
	if p := e.goodbye(); p != nil {
		t.Errorf("takes leave with %q before it said anything", p)
	}
	e.setAddrs(t0, mustAddrs(t, addr1), nil)
	e.step(t0)
	packets := e.goodbye()
	if len(packets) != 1 || kind(t, e.names, packets[0]) != "goodbye" {
		t.Errorf("takes leave with %q", packets)
	}
}

func TestPeersComeChangeAndGo(t *testing.T) {
	e := testEngine(t, idA, Config{})
	b := mustID(t, idB)
	us := mustNames(t)
	tell := func(now time.Time, ttl time.Duration, addrs ...string) []Event {
		var events []Event
		for _, p := range buildAnswers(us, b, mustAddrs(t, addrs...), ttl) {
			events = append(events, e.hear(now, eth, p)...)
		}
		return events
	}
	event := func(kind EventKind, ttl time.Duration, addrs ...string) []Event {
		return []Event{{Kind: kind, Peer: peer.AddrInfo{ID: b, Addrs: mustAddrs(t, addrs...)}, TTL: ttl}}
	}
	sweep := func(now time.Time) []Event { _, events, _ := e.step(now); return events }
	steps := []struct {
		name      string
		got, want []Event
	}{
		{"new", tell(t0, time.Minute, addr1), event(Found, time.Minute, addr1)},
		{"heard again", tell(at(10*time.Second), time.Minute, addr1), nil},
		{"another address", tell(at(30*time.Second), 2*time.Minute, addr2), event(Updated, 2*time.Minute, addr1, addr2)},
		{"still there", sweep(at(69 * time.Second)), nil},
		{"one expired", sweep(at(70 * time.Second)), event(Updated, 80*time.Second, addr2)},
		{"all expired", sweep(at(150 * time.Second)), event(Expired, 0)},
		{"new once more", tell(at(200*time.Second), time.Minute, addr1), event(Found, time.Minute, addr1)},
		{"leave", tell(at(201*time.Second), 0, addr1), event(Expired, 0)},
		{"left already", tell(at(202*time.Second), 0, addr1), nil},
		{"ourselves", e.hear(at(203*time.Second), eth, buildAnswers(us, e.self, mustAddrs(t, addr1), recordTTL)[0]), nil},
		{"garbage", e.hear(at(204*time.Second), eth, []byte("garbage")), nil},
	}
	for _, step := range steps {
		if diff := cmp.Diff(step.want, step.got, cmp.Comparer(func(a, b peer.AddrInfo) bool { return a.String() == b.String() })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}

func TestLeaveByNameAlone(t *testing.T) {
	e := testEngine(t, idA, Config{})
	us := mustNames(t)
	e.hear(t0, eth, buildAnswers(us, mustID(t, idB), mustAddrs(t, addr1), recordTTL)[0])
	other := e.cache.update(t0, found{instance: "x"})
	ours := e.cache.update(t0, found{instance: us.instance})
	if len(other) != 0 || len(ours) != 1 || ours[0].Kind != Expired {
		t.Errorf("another's leave gave %v, the peer's own %v", other, ours)
	}
}

func TestLoopbackAddressesOfOtherMachinesAreDropped(t *testing.T) {
	const lo = "/ip4/127.0.0.1/tcp/1"
	packet := buildAnswers(mustNames(t), mustID(t, idB), mustAddrs(t, addr1, lo), recordTTL)[0]
	mine := netip.MustParseAddr("10.0.0.1")
	for name, test := range map[string]struct {
		from received
		want []string
	}{
		"another machine":               {received{on: eth, from: neighbor}, []string{addr1}},
		"one without an address":        {received{on: eth, from: netip.IPv4Unspecified()}, []string{addr1}},
		"ourselves, by the network":     {received{on: eth, from: mine}, []string{addr1, lo}},
		"ourselves, by loopback":        {received{on: eth, from: mine, loopback: true}, []string{addr1, lo}},
		"by loopback, without a source": {received{on: eth, from: netip.IPv4Unspecified(), loopback: true}, []string{addr1, lo}},
	} {
		e := testEngine(t, idA, Config{})
		e.setAddrs(t0, nil, []netip.Addr{mine})
		test.from.data = packet
		events := e.receive(t0, test.from)
		if len(events) != 1 {
			t.Fatalf("%s: %v", name, events)
		}
		if diff := cmp.Diff(test.want, textOf(events[0].Peer.Addrs)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := cache{max: 2, peers: make(map[peer.ID]*entry)}
	for i := range 3 {
		events := c.update(t0, found{info: peer.AddrInfo{ID: peer.ID(fmt.Sprint(i)), Addrs: mustAddrs(t, addr1)}, ttl: time.Second})
		if want := i < 2; (len(events) == 1) != want {
			t.Errorf("peer %d: %v", i, events)
		}
	}
	for i := range maxAddrs + 3 {
		a := mustAddrs(t, fmt.Sprintf("/ip4/10.0.0.2/tcp/%d", i+1))
		c.update(t0, found{info: peer.AddrInfo{ID: "0", Addrs: a}, ttl: 1000 * time.Hour})
	}
	if n := len(c.peers["0"].addrs); n != maxAddrs {
		t.Errorf("%d addresses kept", n)
	}
	c.sweep(at(maxTTL))
	if len(c.peers) != 0 {
		t.Errorf("kept longer than %v: %v", maxTTL, c.peers)
	}
}

func TestAnnounceable(t *testing.T) {
	local := []netip.Addr{netip.MustParseAddr("2a01::1")}
	got := announceable(mustAddrs(t,
		"/ip4/127.0.0.1/tcp/1",
		addr2,
		addr1,
		"/ip6/2a01::1/udp/1/quic-v1", // on one of our interfaces
		"/ip4/8.8.8.8/udp/1/quic-v1", // mapped by a NAT
		"/ip6/fe80::1/tcp/1",
		"/ip6zone/eth0/ip6/fe80::1/tcp/1",
		"/ip4/0.0.0.0/tcp/1",
		"/ip4/10.0.0.1/tcp/1/ws",
		"/ip4/10.0.0.1/tcp/1/tls/ws",
		"/ip4/10.0.0.1/udp/1/quic-v1/webtransport",
		"/ip4/10.0.0.1/udp/1/webrtc-direct",
		"/dns4/example.com/tcp/1",
		"/dns4/host.local/tcp/1",
		"/ip4/10.0.0.1/tcp/1/p2p/"+idB+"/p2p-circuit",
	), local)
	want := []string{addr1, "/ip6/2a01::1/udp/1/quic-v1", addr2, "/dns4/host.local/tcp/1", "/ip4/127.0.0.1/tcp/1"}
	if diff := cmp.Diff(want, textOf(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var many []string
	for port := range maxAddrs + 1 {
		many = append(many, fmt.Sprintf("/ip4/10.0.0.1/tcp/%d", port+1))
	}
	if got := announceable(mustAddrs(t, many...), nil); len(got) != maxAddrs {
		t.Errorf("announces %d addresses", len(got))
	}
}
