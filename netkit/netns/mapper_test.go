//go:build linux

package netns_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"dibber/netkit/natlab"
	"dibber/netkit/netns"
)

// TestMapPorts asks a real router for mappings in the three protocols, and reaches
// each from outside, by UPnP over TCP too.
func TestMapPorts(t *testing.T) {
	netns.Need(t, netns.Have("miniupnpd", "miniupnpd-nftables"))
	netns.Need(t, netns.Have("upnpc", "miniupnpc"))
	lab := netns.New(t, natlab.Config{})
	server := lab.Host(lab.Internet(), "server", natlab.MachineConfig{})
	home := lab.Router(lab.Internet(), "home", netns.RouterConfig{})
	alice := home.Inside("alice")
	home.MapPorts()

	gateway := netip.AddrPortFrom(alice.Addr().Prev(), 5351) // alice is the first host behind it
	outside := open(t, server, at(server, 0, 1000))
	peers := listen(t, alice, at(alice, 0, 4004))
	for name, ask := range map[string]func(t *testing.T, port uint16) (mapped netip.AddrPort){
		"NAT-PMP": func(t *testing.T, port uint16) netip.AddrPort {
			reply := request(t, alice, gateway, natPMP(port))
			return netip.AddrPortFrom(home.External(), binary.BigEndian.Uint16(reply[10:]))
		},
		"PCP": func(t *testing.T, port uint16) netip.AddrPort {
			reply := request(t, alice, gateway, pcp(alice.Addr(), port))
			external, _ := netip.AddrFromSlice(reply[44:60])
			return netip.AddrPortFrom(external.Unmap(), binary.BigEndian.Uint16(reply[42:]))
		},
		"UPnP": func(_ *testing.T, port uint16) netip.AddrPort {
			alice.Run("upnpc", "-m", "up0", "-r", fmt.Sprint(port), "udp", "4004", "tcp")
			if got := dialed(t, server, at(server, 0, 2000), netip.AddrPortFrom(home.External(), 4004), peers); got != at(server, 0, 2000) {
				t.Errorf("a connection from %s", got)
			}
			return netip.AddrPortFrom(home.External(), port)
		},
	} {
		t.Run(name, func(t *testing.T) {
			port := map[string]uint16{"NAT-PMP": 4001, "PCP": 4002, "UPnP": 4003}[name]
			inner := open(t, alice, at(alice, 0, port))
			mapped := ask(t, port)
			if mapped.Addr() != home.External() {
				t.Errorf("mapped to %s, the router is %s", mapped, home.External())
			}
			outside.send(mapped, "anybody may knock")
			if got, from := inner.hear(); got != "anybody may knock" || from != at(server, 0, 1000) {
				t.Errorf("heard %q from %s", got, from)
			}
		})
	}
}

// natPMP asks to map a UDP port for a minute (RFC 6886 section 3.3).
func natPMP(port uint16) []byte {
	b := make([]byte, 12)
	b[1] = 1
	binary.BigEndian.PutUint16(b[4:], port)
	binary.BigEndian.PutUint16(b[6:], port)
	binary.BigEndian.PutUint32(b[8:], 60)
	return b
}

// pcp asks the same (RFC 6887 sections 7.1 and 11.1).
func pcp(client netip.Addr, port uint16) []byte {
	const version, opMap, udp = 2, 1, 17
	b := make([]byte, 60)
	b[0], b[1] = version, opMap
	binary.BigEndian.PutUint32(b[4:], 60)
	from := client.As16()
	copy(b[8:], from[:])
	copy(b[24:36], "nonce of ten")
	b[36] = udp
	binary.BigEndian.PutUint16(b[40:], port)
	binary.BigEndian.PutUint16(b[42:], port)
	copy(b[44:], netip.MustParseAddr("::ffff:0.0.0.0").AsSlice())
	return b
}

// request sends a request to the router and returns its answer, which tells of
// success in the fourth byte.
func request(t *testing.T, h *netns.Host, gateway netip.AddrPort, ask []byte) []byte {
	t.Helper()
	s := open(t, h, at(h, 0, 0))
	s.send(gateway, string(ask))
	s.SetReadDeadline(time.Now().Add(patience))
	reply := make([]byte, 1100)
	n, err := s.Read(reply)
	if err != nil {
		t.Fatal(err)
	}
	if n < len(ask) || reply[3] != 0 {
		t.Fatalf("the router answers %x", reply[:n])
	}
	return reply[:n]
}
