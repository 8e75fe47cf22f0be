package punch

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch/pb"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"
)

// names has a liar call the target through the relay, and say by DCUtR, as often as it is
// asked, that it is at these addresses.
func (l liar) names(t *testing.T, addrs []ma.Multiaddr) {
	t.Helper()
	l.SetStreamHandler(holepunch.Protocol, func(st network.Stream) {
		defer st.Close()
		frames := wire.NewReader(st, maxMessage)
		if _, _, _, err := readConnect(frames); err == nil && writeConnect(st, addrs, "") == nil {
			_, _ = read(frames, pb.HolePunch_SYNC) // then the other end begins
		}
	})
	circuit := l.s.at().Addrs[0].Encapsulate(ma.StringCast("/p2p/" + l.s.relay.ID().String() + "/p2p-circuit"))
	if _, err := l.Dial(t.Context(), l.s.target.ID(), []ma.Multiaddr{circuit}); err != nil {
		t.Fatal(err)
	}
}

// TestCallersNameOthers: callers who by DCUtR name somebody else's address, and many of
// them, cause no more dials there than the budget allows, however many they are.
func TestCallersNameOthers(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		var mu sync.Mutex
		reasons := make(map[string]int)
		s := newSiege(t, lab, natlab.NAT{Filtering: natlab.AddressAndPortDependent}, Config{On: func(e Event) {
			if e.Report == nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, d := range e.Report.Dropped {
				reasons[d.Reason]++
			}
		}})
		began := time.Now()
		for i := range 5 {
			var addrs []ma.Multiaddr
			for port := range maxAddrs {
				a, err := quicreuse.ToQuicMultiaddr(net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.victim.at, uint16(5000+100*i+port))), quic.Version1)
				if err != nil {
					t.Fatal(err)
				}
				addrs = append(addrs, a)
			}
			s.liar(t, "liar"+string(rune('a'+i))).names(t, addrs)
		}
		time.Sleep(time.Until(began.Add(30 * time.Second))) // virtual
		got, dialled := s.victim.packets(), make(map[netip.AddrPort]bool)
		for _, p := range got {
			dialled[p.To] = true
		}
		most := host.ProbesPerMinute / host.ProbesOfDial
		if len(got) == 0 || len(dialled) > most {
			t.Errorf("%d packets to %d ports, %d dials are allowed", len(got), len(dialled), most)
		}
		mu.Lock()
		defer mu.Unlock()
		t.Logf("%d packets, %d ports; not dialled: %v", len(got), len(dialled), reasons)
		if reasons[DroppedSpent] == 0 {
			t.Errorf("no report says what was not dialled for the budget's sake: %v", reasons)
		}
	})
}

// TestOwnTransports: addresses of a transport that this host does not use are not dialled, and the report says so.
func TestOwnTransports(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		n := lab.Internet().Machine("quic", natlab.MachineConfig{}).Host(host.Config{Transports: []host.Transport{host.QUIC}})
		s := New(n, Config{})
		defer s.Close()
		udp, tcp := ma.StringCast("/ip4/17.0.0.1/udp/4001/quic-v1"), ma.StringCast("/ip4/17.0.0.1/tcp/4001")
		use, dropped := s.dialable([]ma.Multiaddr{tcp, udp})
		if len(use) != 1 || !use[0].Equal(udp) || len(dropped) != 1 || dropped[0].Reason != DroppedTransport || dropped[0].Addr != tcp.String() {
			t.Errorf("dialled %v, not dialled %v", use, dropped)
		}
	})
}

// TestFewIPs: of the addresses that DCUtR names those at the first few IPs are dialled.
func TestFewIPs(t *testing.T) {
	var addrs []ma.Multiaddr
	for i := range 6 {
		for _, transport := range []string{"/udp/4001/quic-v1", "/tcp/4001"} {
			addrs = append(addrs, ma.StringCast(fmt.Sprintf("/ip4/17.0.0.%d%s", i+1, transport)))
		}
	}
	var raw [][]byte
	for _, a := range slices.Concat(addrs[2:], addrs) { // the peer's order, in which others come twice
		raw = append(raw, a.Bytes())
	}
	if use, _ := chosen(raw); len(use) != len(addrs) || !use[0].Equal(addrs[2]) || !use[len(use)-1].Equal(addrs[1]) {
		t.Errorf("chosen: %v", use)
	}
	kept, dropped := few(addrs)
	if len(kept) != 2*mostIPs || len(dropped) != 2*(6-mostIPs) || !kept[len(kept)-1].Equal(addrs[2*mostIPs-1]) || dropped[0].Reason != DroppedTooMany {
		t.Errorf("kept %v, dropped %v", kept, dropped)
	}
}
