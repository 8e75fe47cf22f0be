package natlab

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTraceKeepsTheLast(t *testing.T) {
	tr := trace{limit: 3}
	for i := range 5 {
		tr.add(step{
			at: time.Duration(i) * time.Millisecond, place: "here", what: fmt.Sprint(i),
			src: endpoint("10.0.1.2:1"), dst: endpoint("17.0.1.1:2"), kind: "1-RTT", bytes: 40,
		})
	}
	want := `       2.000ms here             10.0.1.2:1 > 17.0.1.1:2 1-RTT 40 bytes: 2
       3.000ms here             10.0.1.2:1 > 17.0.1.1:2 1-RTT 40 bytes: 3
       4.000ms here             10.0.1.2:1 > 17.0.1.1:2 1-RTT 40 bytes: 4
`
	if diff := cmp.Diff(want, tr.String()); diff != "" {
		t.Errorf("trace (-want +got):\n%s", diff)
	}
}

func TestPacketKinds(t *testing.T) {
	for head, want := range map[byte]string{0xc3: "initial", 0xd0: "0-RTT", 0xe0: "handshake", 0xf0: "retry", 0x40: "1-RTT", 0x00: "other", 0x80: "other"} {
		if got := (packet{head: head, bytes: 1}).kind(); got != want {
			t.Errorf("first byte %#x: %s, want %s", head, got, want)
		}
	}
	if got := (packet{}).kind(); got != "empty" {
		t.Errorf("no byte: %s", got)
	}
}

// failing is a test that has failed, and what it printed.
type failing struct {
	testing.TB
	printed strings.Builder
}

func (f *failing) Failed() bool               { return true }
func (f *failing) Logf(s string, args ...any) { fmt.Fprintf(&f.printed, s, args...) }

// TestFailurePrintsTrace follows one packet through a NAT that keeps it out.
func TestFailurePrintsTrace(t *testing.T) {
	Run(t, func(t *testing.T, _ *Lab) {
		f := &failing{TB: t}
		lab := newLab(f, Config{})
		home := lab.Internet().Router("home", RouterConfig{NAT: NAT{Unsolicited: Reject}})
		conn, err := lab.Internet().Machine("server", MachineConfig{}).ListenUDP("udp4", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(home.External(), 4001))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		lab.close()
		for _, want := range []string{"0.000ms server ", "10.000ms home ", "not let in: rejected"} {
			if !strings.Contains(f.printed.String(), want) {
				t.Errorf("printed without %q:\n%s", want, f.printed.String())
			}
		}
	})
}
