package punch

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/nat"
	"dibber/netkit/natlab"
	"dibber/netkit/relay"
	"dibber/netkit/vantage"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"
)

// siege is a host that punches, behind a NAT and with a reservation; peers that lie to
// it; and somebody else, who counts what he is sent.
type siege struct {
	lab     *natlab.Lab
	relay   *host.Node
	target  *host.Node
	service *Service
	victim  *victim
}

// victim is a machine that asked for nothing.
type victim struct {
	at netip.Addr

	mu  sync.Mutex // guards following
	got []natlab.Arrival
}

func (v *victim) arrived(a natlab.Arrival) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.got = append(v.got, a)
}

func (v *victim) packets() []natlab.Arrival {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.got)
}

func newSiege(t *testing.T, lab *natlab.Lab, kind natlab.NAT, cfg Config) *siege {
	t.Helper()
	far := natlab.LinkConfig{Latency: 20 * time.Millisecond}
	s := &siege{lab: lab, relay: lab.Internet().Machine("relay", natlab.MachineConfig{Link: far, Addresses: 2}).Host(host.Config{})}
	served, err := relay.New(s.relay, relay.Config{Requests: 1000, Burst: 1000}) // it lies, and so has no limits
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = served.Close() })
	sees, err := vantage.New(s.relay, vantage.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sees.Close() })
	m := lab.Internet().Machine("victim", natlab.MachineConfig{Link: far})
	s.victim = &victim{at: m.Addrs()[0]}
	m.Tap(s.victim.arrived)
	s.target = lab.Internet().Router("router", natlab.RouterConfig{NAT: kind, Link: far}).LAN().Machine("target", natlab.MachineConfig{}).Host(host.Config{})
	s.service = New(s.target, cfg)
	t.Cleanup(func() { _ = s.service.Close() })
	held := relay.NewClient(s.target, relay.ClientConfig{Relay: s.at()})
	t.Cleanup(func() { _ = held.Close() })
	time.Sleep(3 * time.Second) // virtual: it knows its NAT
	return s
}

func (s *siege) at() peer.AddrInfo {
	return peer.AddrInfo{ID: s.relay.ID(), Addrs: s.relay.ListenAddrs()[:1]}
}

// liar is a peer that offers what is not so.
type liar struct {
	*host.Node
	s   *siege
	key crypto.PrivKey
	id  peer.ID
}

func (s *siege) liar(t *testing.T, name string) liar {
	t.Helper()
	l := liar{s.lab.Internet().Machine(name, natlab.MachineConfig{Link: natlab.LinkConfig{Latency: 20 * time.Millisecond}}).Host(host.Config{}), s, nil, ""}
	l.key, l.id = newKey(t)
	if _, err := l.Dial(t.Context(), s.relay.ID(), s.at().Addrs); err != nil {
		t.Fatal(err)
	}
	return l
}

// claim is an offer to be somebody at an endpoint.
func (l liar) claim(t *testing.T, at netip.AddrPort, kind nat.Kind, attested vantage.Attestation) intro {
	t.Helper()
	a, err := quicreuse.ToQuicMultiaddr(net.UDPAddrFromAddrPort(at), quic.Version1)
	if err != nil {
		t.Fatal(err)
	}
	in := newIntro(l.s.target.ID(), []ma.Multiaddr{a})
	in.run = newNonce()[:runBytes]
	in.paths = []path{{observed: at, kind: kind, next: 5000}}
	signed, err := attested.Sign(l.s.relay.Peerstore().PrivKey(l.s.relay.ID()))
	if err != nil {
		t.Fatal(err)
	}
	in.attested = [][]byte{signed}
	return in
}

// seen is what the relay would attest of l at an address if it lied for it.
func (l liar) seen(at netip.Addr) vantage.Attestation {
	return vantage.Attestation{Peer: l.id, Observed: netip.AddrPortFrom(at, 4001), At: time.Now()}
}

// send has the relay carry an offer; it returns the answer's paths.
func (l liar) send(t *testing.T, in intro) (answer intro, err error) {
	t.Helper()
	signed, err := in.sign(l.key)
	if err != nil {
		t.Fatal(err)
	}
	return l.carry(t, signed, in.nonce)
}

func (l liar) carry(t *testing.T, signed, nonce []byte) (answer intro, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	raw, err := relay.Introduce(ctx, l.Node, l.Conns(l.s.relay.ID())[0], l.s.target.ID(), signed)
	if err != nil {
		return intro{}, err
	}
	return openIntroOf(l.s.target.ID(), raw, l.id, nonce)
}

// The kinds that liars say they have: each makes the host at the other end, which is
// behind EIM/APDF or APDM, do something else.
func lies() map[nat.Method]nat.Kind {
	return map[nat.Method]nat.Kind{
		nat.MethodDial:     {NAT: true, Mapping: nat.EIM, Filtering: nat.EIF},
		nat.MethodTogether: {NAT: true, Mapping: nat.EIM, Filtering: nat.APDF},
		nat.MethodSpray:    {NAT: true, Mapping: nat.ADM, Filtering: nat.ADF, Pattern: nat.Random},
	}
}

// TestOffersHitNobodyElse: whatever a peer offers, nothing is sent where the relay has
// not seen that peer within the last minute.
func TestOffersHitNobodyElse(t *testing.T) {
	for method, kind := range lies() {
		t.Run(string(method), func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				s := newSiege(t, lab, natlab.NAT{Filtering: natlab.AddressAndPortDependent}, Config{Every: time.Millisecond})
				at := netip.AddrPortFrom(s.victim.at, 4001)
				for name, change := range map[string]func(l liar, a *vantage.Attestation){
					"of another address": func(l liar, a *vantage.Attestation) { a.Observed = netip.AddrPortFrom(l.at(), 4001) },
					"of another peer":    func(_ liar, a *vantage.Attestation) { a.Peer = s.target.ID() },
					"too old":            func(_ liar, a *vantage.Attestation) { a.At = a.At.Add(-attestedFor - time.Second) },
					"of the future":      func(_ liar, a *vantage.Attestation) { a.At = a.At.Add(2 * slack) },
				} {
					l := s.liar(t, name)
					said := l.seen(s.victim.at)
					change(l, &said)
					if answer, err := l.send(t, l.claim(t, at, kind, said)); err != nil || len(answer.paths) == 0 {
						t.Fatalf("%s: %v, the answer has %d paths", name, err, len(answer.paths))
					}
				}
				none := s.liar(t, "none")
				in := none.claim(t, at, kind, none.seen(s.victim.at))
				in.attested = nil
				if _, err := none.send(t, in); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Second) // virtual
				if got := s.victim.packets(); len(got) != 0 {
					t.Errorf("%d packets, the first %+v", len(got), got[0])
				}
				// That the test can fail: a relay that lies, too, brings it about.
				l := s.liar(t, "in league")
				if _, err := l.send(t, l.claim(t, at, kind, l.seen(s.victim.at))); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Second)
				if len(s.victim.packets()) == 0 {
					t.Error("nothing was sent where the relay said that the peer is")
				}
			})
		})
	}
}

// at is where the liar really is.
func (l liar) at() netip.Addr {
	ip, _ := addr.IP(l.ListenAddrs()[0])
	return ip
}

// TestColludingRelay: what a relay can make a host send to somebody else, with as many
// peers as it likes, a thousand here, is what the host's own limits allow.
func TestColludingRelay(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s := newSiege(t, lab, natlab.NAT{Filtering: natlab.AddressAndPortDependent}, Config{})
		at := netip.AddrPortFrom(s.victim.at, 4001)
		l := s.liar(t, "liar")
		var all sync.WaitGroup
		most := 0
		for range 1000 {
			l.key, l.id = newKey(t)
			one := l
			all.Go(func() {
				_, _ = one.send(t, one.claim(t, at, lies()[nat.MethodSpray], one.seen(s.victim.at))) // many are refused
			})
			time.Sleep(10 * time.Millisecond)
			s.service.mu.Lock()
			most = max(most, len(s.service.runs))
			s.service.mu.Unlock()
		}
		all.Wait()
		if most > mostRuns {
			t.Errorf("%d runs at once", most)
		}
		time.Sleep(30 * time.Second) // virtual
		got := s.victim.packets()
		if len(got) != host.ProbesPerMinute {
			t.Errorf("%d packets within a minute, the budget is %d", len(got), host.ProbesPerMinute)
		}
		for i, p := range got {
			if p.Bytes != probeLen {
				t.Errorf("a packet of %d bytes", p.Bytes)
			}
			if j := i + host.ProbesPerSecond + 10; j < len(got) && got[j].At.Sub(p.At) < time.Second {
				t.Fatalf("%d packets within %s", j-i, got[j].At.Sub(p.At))
			}
		}
	})
}

// TestColludingRelayDials: the same holds for what a host dials.
func TestColludingRelayDials(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s := newSiege(t, lab, natlab.NAT{Filtering: natlab.AddressAndPortDependent}, Config{})
		l := s.liar(t, "liar")
		began := time.Now()
		for i := range 200 {
			l.key, l.id = newKey(t)
			in := l.claim(t, netip.AddrPortFrom(s.victim.at, uint16(4001+i)), lies()[nat.MethodDial], l.seen(s.victim.at))
			_, _ = l.send(t, in) // many are refused
		}
		if took := time.Since(began); took > 55*time.Second {
			t.Fatalf("took %s", took)
		}
		time.Sleep(10 * time.Second) // virtual
		ports, bytes := make(map[uint16]bool), 0
		for _, p := range s.victim.packets() {
			ports[p.To.Port()] = true
			bytes += p.Bytes
		}
		if most := host.ProbesPerMinute / host.ProbesOfDial; len(ports) != most {
			t.Errorf("%d dials within a minute, %d are allowed", len(ports), most)
		}
		t.Logf("%d bytes", bytes)
	})
}

// TestSocketsAreFew: a host opens as many ports as it may, for one peer at a time.
func TestSocketsAreFew(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		kind := natlab.NAT{Mapping: natlab.AddressAndPortDependent, Filtering: natlab.AddressAndPortDependent, Ports: natlab.Random}
		s := newSiege(t, lab, kind, Config{})
		at := netip.AddrPortFrom(s.victim.at, 4001)
		var all sync.WaitGroup
		for i := range 10 {
			l := s.liar(t, "liar"+string(rune('a'+i)))
			all.Go(func() {
				_, _ = l.send(t, l.claim(t, at, lies()[nat.MethodTogether], l.seen(s.victim.at))) // it answers all
			})
		}
		all.Wait()
		time.Sleep(30 * time.Second) // virtual
		if got := s.victim.packets(); len(got) != opened {
			t.Errorf("%d packets, from %d sockets", len(got), opened)
		}
	})
}

// TestRunsAreSeldom: who offers again and again, or has his offers repeated by the relay,
// gets one run a minute; others are answered with nothing to act on.
func TestRunsAreSeldom(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		runs := 0
		s := newSiege(t, lab, natlab.NAT{Filtering: natlab.AddressAndPortDependent}, Config{On: func(e Event) {
			if e.Step != nil && e.Step.Event == "attempt.started" {
				runs++
			}
		}})
		l := s.liar(t, "liar")
		in := l.claim(t, netip.AddrPortFrom(s.victim.at, 4001), lies()[nat.MethodTogether], l.seen(s.victim.at))
		signed, err := in.sign(l.key)
		if err != nil {
			t.Fatal(err)
		}
		acted, offers := 0, 0
		for began := time.Now(); time.Since(began) < 55*time.Second; offers++ {
			if answer, err := l.carry(t, signed, in.nonce); err == nil && len(answer.paths) > 0 {
				acted++
			}
		}
		if acted != 1 || runs != 1 || offers < 300 {
			t.Errorf("%d of %d offers within a minute were acted on, %d runs begun", acted, offers, runs)
		}
		time.Sleep(time.Minute)
		if _, err := l.send(t, l.claim(t, netip.AddrPortFrom(s.victim.at, 4001), lies()[nat.MethodTogether], l.seen(s.victim.at))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if runs != 2 {
			t.Errorf("%d runs after another minute", runs)
		}
	})
}

// TestOffersComeByOwnRelays: a peer that is no relay of the host brings it no offers, and
// one that wants no more than DCUtR takes none.
func TestOffersComeByOwnRelays(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s := newSiege(t, lab, natlab.NAT{}, Config{})
		l := s.liar(t, "liar")
		in := l.claim(t, netip.AddrPortFrom(l.at(), 4001), lies()[nat.MethodDial], l.seen(l.at()))
		s.target.SetAccess(host.Access{DenyPeers: []peer.ID{l.id}})
		if _, err := l.send(t, in); err == nil {
			t.Error("an offer from a peer that may not connect was answered")
		}
		s.target.SetAccess(host.Access{})
		if _, err := l.send(t, in); err != nil {
			t.Errorf("an offer from a peer that may: %v", err)
		}
		time.Sleep(10 * time.Second) // virtual: that run is over
		s.target.SetCircuits(s.relay.ID(), nil)
		if _, err := l.send(t, in); err == nil {
			t.Error("an offer from a peer that is no relay of the host was answered")
		}
	})
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		s := newSiege(t, lab, natlab.NAT{}, Config{Method: MethodDCUtR})
		l := s.liar(t, "liar")
		if _, err := l.send(t, l.claim(t, netip.AddrPortFrom(l.at(), 4001), lies()[nat.MethodDial], l.seen(l.at()))); err == nil {
			t.Error("a host that wants DCUtR alone answered an offer")
		}
	})
}
