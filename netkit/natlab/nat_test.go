package natlab

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var (
	external = netip.MustParseAddr("17.0.1.1")
	epoch    = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

func endpoint(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// out sends a packet through the table and returns the external endpoint.
func out(t rapid.TB, table *Table, now time.Time, src, dst netip.AddrPort) netip.AddrPort {
	t.Helper()
	public, verdict := table.Outbound(now, src, dst)
	if verdict != Passed {
		t.Fatalf("packet from %s to %s: %s", src, dst, verdict)
	}
	return public
}

// TestMappingAndFiltering spells out RFC 4787 for each kind: one inside endpoint
// talks to a remote; then what do another port of that remote and another remote
// see of it, and who of them may send to the endpoint that the first one saw?
func TestMappingAndFiltering(t *testing.T) {
	inside, server := endpoint("10.0.1.2:4001"), endpoint("17.0.9.1:1000")
	otherPort, otherAddr := endpoint("17.0.9.1:2000"), endpoint("17.0.8.1:1000")
	for _, n := range Kinds(Preserved) {
		t.Run(n.String(), func(t *testing.T) {
			table := NewTable(n, external, 0)
			seen := out(t, table, epoch, inside, server)
			for _, remote := range []struct {
				from   netip.AddrPort
				passes bool
			}{
				{server, true},
				{otherPort, n.Filtering != AddressAndPortDependent},
				{otherAddr, n.Filtering == EndpointIndependent},
			} {
				got, verdict := table.Inbound(epoch, remote.from, seen)
				if (verdict == Passed) != remote.passes {
					t.Errorf("packet from %s: %s", remote.from, verdict)
				}
				if verdict == Passed && got != inside {
					t.Errorf("packet from %s went to %s", remote.from, got)
				}
			}
			if same := out(t, table, epoch, inside, otherPort) == seen; same != (n.Mapping != AddressAndPortDependent) {
				t.Errorf("another port of the remote sees the same endpoint: %v", same)
			}
			if same := out(t, table, epoch, inside, otherAddr) == seen; same != (n.Mapping == EndpointIndependent) {
				t.Errorf("another remote sees the same endpoint: %v", same)
			}
		})
	}
}

// TestGridIsOneOfEach: the names by which the kinds are known, in order.
func TestGridIsOneOfEach(t *testing.T) {
	var names []string
	for _, n := range Grid() {
		names = append(names, n.String())
	}
	want := []string{"EIM/EIF", "EIM/ADF", "EIM/APDF", "ADM/ADF random", "APDM/APDF sequential", "APDM/APDF random"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("kinds (-want +got):\n%s", diff)
	}
}

func TestPortsPreserved(t *testing.T) {
	table := NewTable(NAT{}, external, 0)
	server := endpoint("17.0.9.1:1000")
	for _, c := range []struct {
		inside string
		want   uint16
	}{
		{"10.0.1.2:4001", 4001},
		{"10.0.1.3:4001", 4002}, // taken: the next one above
		{"10.0.1.4:65535", 65535},
		{"10.0.1.5:65535", lowestPort}, // wraps round past the well-known ports
	} {
		if got := out(t, table, epoch, endpoint(c.inside), server).Port(); got != c.want {
			t.Errorf("%s leaves from port %d, want %d", c.inside, got, c.want)
		}
	}
}

func TestPortsSequential(t *testing.T) {
	table := NewTable(NAT{Mapping: AddressAndPortDependent, Ports: Sequential}, external, 0)
	inside := endpoint("10.0.1.2:4001")
	for i, remote := range []string{"17.0.9.1:1", "17.0.9.1:2", "17.0.9.2:1"} {
		if got := out(t, table, epoch, inside, endpoint(remote)).Port(); got != firstSequential+uint16(i) {
			t.Errorf("to %s from port %d, want %d", remote, got, firstSequential+i)
		}
	}
}

func TestPortsRandomBySeed(t *testing.T) {
	draw := func(seed uint64) (ports [8]uint16) {
		table := NewTable(NAT{Mapping: AddressAndPortDependent, Ports: Random}, external, seed)
		for i := range ports {
			ports[i] = out(t, table, epoch, endpoint("10.0.1.2:4001"), netip.AddrPortFrom(external, uint16(i+1))).Port()
		}
		return ports
	}
	if a, b := draw(1), draw(1); a != b {
		t.Errorf("equal seeds gave %v and %v", a, b)
	}
	if a, b := draw(1), draw(2); a == b {
		t.Errorf("different seeds both gave %v", a)
	}
}

// TestEveryPortTaken fills the table: the last packet has no port to leave from.
func TestEveryPortTaken(t *testing.T) {
	table := NewTable(NAT{Mapping: AddressAndPortDependent, Ports: Sequential}, external, 0)
	inside := endpoint("10.0.1.2:4001")
	for port := lowestPort; port < 1<<16; port++ {
		out(t, table, epoch, inside, netip.AddrPortFrom(external, uint16(port)))
	}
	if _, verdict := table.Outbound(epoch, inside, endpoint("17.0.9.1:1")); verdict != Exhausted {
		t.Errorf("packet with no port left: %s", verdict)
	}
	later := epoch.Add(DefaultTimeout)
	out(t, table, later, inside, endpoint("17.0.9.1:1"))
}

func TestTimeout(t *testing.T) {
	inside, server := endpoint("10.0.1.2:4001"), endpoint("17.0.9.1:1000")
	for _, c := range []struct {
		name          string
		nat           NAT
		out, in, want time.Duration // refreshed from inside, from outside; first moment the mapping is gone
	}{
		{"no refresh", NAT{Timeout: time.Minute}, 0, 0, time.Minute},
		{"packet from inside", NAT{Timeout: time.Minute}, 30 * time.Second, 0, 90 * time.Second},
		{"packet from outside", NAT{Timeout: time.Minute}, 0, 30 * time.Second, time.Minute},
		{"packet from outside that refreshes", NAT{Timeout: time.Minute, InboundRefresh: true}, 0, 30 * time.Second, 90 * time.Second},
		{"two minutes unless told otherwise", NAT{}, 0, 0, 2 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, at := range []time.Duration{c.want - 1, c.want} {
				table := NewTable(c.nat, external, 0)
				seen := out(t, table, epoch, inside, server)
				out(t, table, epoch.Add(c.out), inside, server)
				table.Inbound(epoch.Add(c.in), server, seen)
				_, verdict := table.Inbound(epoch.Add(at), server, seen)
				if alive := verdict == Passed; alive != (at < c.want) {
					t.Errorf("mapping alive after %s: %v", at, alive)
				}
			}
		})
	}
}

// TestUnsolicited: only the poisoned NAT changes what leaves later, and only
// towards the intruder.
func TestUnsolicited(t *testing.T) {
	inside, server, intruder := endpoint("10.0.1.2:4001"), endpoint("17.0.9.1:1000"), endpoint("17.0.8.1:4001")
	for _, c := range []struct {
		policy  Unsolicited
		verdict Verdict
		moves   bool
	}{{Drop, Dropped, false}, {Reject, Rejected, false}, {Poison, Poisoned, true}} {
		for _, mapping := range []Dependence{EndpointIndependent, AddressDependent, AddressAndPortDependent} {
			n := NAT{Mapping: mapping, Filtering: AddressAndPortDependent, Unsolicited: c.policy}
			t.Run(c.policy.String()+" "+n.String(), func(t *testing.T) {
				table := NewTable(n, external, 0)
				seen := netip.AddrPortFrom(external, inside.Port())
				if _, verdict := table.Inbound(epoch, intruder, seen); verdict != c.verdict {
					t.Fatalf("unsolicited packet: %s, want %s", verdict, c.verdict)
				}
				moved := out(t, table, epoch, inside, intruder)
				if (moved != seen) != c.moves {
					t.Errorf("towards the intruder: %s", moved)
				}
				if again := out(t, table, epoch, inside, intruder); again != moved {
					t.Errorf("next packet towards the intruder from %s, the first from %s", again, moved)
				}
				if got, verdict := table.Inbound(epoch, intruder, moved); verdict != Passed || got != inside {
					t.Errorf("answer to %s: %s", moved, verdict)
				}
				if mapping == EndpointIndependent && out(t, table, epoch, inside, server) != seen {
					t.Error("another remote sees another endpoint")
				}
				if later := epoch.Add(DefaultTimeout); out(t, table, later, inside, intruder) != seen {
					t.Error("the intruder is remembered past the time-out")
				}
			})
		}
	}
}
