//go:build linux

package commands

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"dibber/netkit/nat"
	"dibber/netkit/natlab"
	"dibber/netkit/netns"

	"github.com/google/go-cmp/cmp"
)

// checked is what a run of natcheck in a namespace says.
func checked(t *testing.T, h *netns.Host, server string, args ...string) (doc natcheckDoc, code int) {
	t.Helper()
	p := h.Start("dibber", append([]string{"natcheck", "--server", server, "--ndjson", "--state-dir", t.TempDir(), "-4"}, args...)...)
	b, err := json.Marshal(p.Event("summary"))
	if err == nil {
		err = json.Unmarshal(b, &doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	return doc, p.Wait()
}

// vantageAt starts a vantage point with two addresses and returns where it is reached
// over QUIC.
func vantageAt(t *testing.T, lab *netns.Lab, link natlab.LinkConfig, flags ...string) string {
	t.Helper()
	h := lab.Host(lab.Internet(), "vantage", natlab.MachineConfig{Addresses: 2, Link: link})
	p := h.Start("dibber", append([]string{"serve", "--vantage", "--ndjson", "--state-dir", t.TempDir()}, flags...)...)
	return addrOf(t, p.Event("ready")["addrs"].([]any), "quic", h)
}

// TestNatcheckInNamespaces runs processes of dibber behind NATs: those of natlab, of
// every mapping, filtering and way of choosing ports, and the two of the kernel, each
// with every way to treat what comes unasked. UDP and TCP are told alike.
func TestNatcheckInNamespaces(t *testing.T) {
	lab := netns.New(t, natlab.Config{})
	server := vantageAt(t, lab, natlab.LinkConfig{})
	type told struct {
		Mapping   nat.Mapping
		Filtering nat.Filtering
	}
	look := func(t *testing.T, h *netns.Host, want told, pattern nat.Pattern, verdict nat.Verdict) {
		t.Helper()
		doc, code := checked(t, h, server, "--no-portmap")
		if doc.Verdict != verdict || code != 0 {
			t.Errorf("verdict %s, exit %d, want %s", doc.Verdict, code, verdict)
		}
		udp, tcp := doc.Families.IP4.UDP, doc.Families.IP4.TCP
		if diff := cmp.Diff([]any{&want.Mapping, &want.Filtering}, []any{udp.Mapping, udp.Filtering}); diff != "" {
			t.Errorf("udp: %s", diff)
		}
		// A connection that is let in comes about only if its answer leaves by the port
		// that it came to.
		opens := want.Filtering
		switch {
		case want.Mapping == nat.APDM, want.Mapping == nat.ADM && opens == nat.APDF:
			opens = nat.APDF
		case want.Mapping == nat.ADM:
			opens = nat.ADF
		}
		if diff := cmp.Diff([]any{&want.Mapping, &opens}, []any{tcp.Mapping, tcp.Filtering}); diff != "" {
			t.Errorf("tcp: %s", diff)
		}
		if p := doc.Families.IP4.UDP.PortPattern; p == nil || *p != pattern {
			t.Errorf("ports %v, want %s", p, pattern)
		}
	}
	mappings := map[natlab.Dependence]nat.Mapping{natlab.EndpointIndependent: nat.EIM, natlab.AddressDependent: nat.ADM, natlab.AddressAndPortDependent: nat.APDM}
	filterings := map[natlab.Dependence]nat.Filtering{natlab.EndpointIndependent: nat.EIF, natlab.AddressDependent: nat.ADF, natlab.AddressAndPortDependent: nat.APDF}
	patterns := map[natlab.Ports]nat.Pattern{natlab.Preserved: nat.Preserved, natlab.Sequential: nat.Sequential, natlab.Random: nat.Random}
	for ports, pattern := range patterns {
		for _, kind := range natlab.Kinds(ports) {
			t.Run(fmt.Sprintf("%s %s", kind, ports), func(t *testing.T) {
				t.Parallel()
				want := told{mappings[kind.Mapping], filterings[kind.Filtering]}
				verdict := nat.Hard
				switch {
				case want.Mapping == nat.EIM && want.Filtering == nat.APDF:
					verdict = nat.PortRestricted
				case want.Mapping == nat.EIM:
					verdict = nat.Easy
				}
				look(t, lab.Behind("node", natlab.RouterConfig{NAT: kind}), want, pattern, verdict)
			})
		}
	}
	for _, unasked := range []natlab.Unsolicited{natlab.Drop, natlab.Reject, natlab.Poison} {
		t.Run(fmt.Sprintf("kernel keeping ports, %s", unasked), func(t *testing.T) {
			t.Parallel()
			r := lab.Router(lab.Internet(), "router", netns.RouterConfig{Unsolicited: unasked})
			look(t, r.Inside("node"), told{nat.EIM, nat.APDF}, nat.Preserved, nat.PortRestricted)
		})
		t.Run(fmt.Sprintf("kernel random, %s", unasked), func(t *testing.T) {
			t.Parallel()
			r := lab.Router(lab.Internet(), "router", netns.RouterConfig{RandomPorts: true, Unsolicited: unasked})
			look(t, r.Inside("node"), told{nat.APDM, nat.APDF}, nat.Random, nat.Hard)
		})
	}
}

// TestNatcheckMapsPorts asks a real router for a port, and has it verified.
func TestNatcheckMapsPorts(t *testing.T) {
	netns.Need(t, netns.Have("miniupnpd", "miniupnpd-nftables"))
	lab := netns.New(t, natlab.Config{})
	server := vantageAt(t, lab, natlab.LinkConfig{}, "--autonat")
	home := lab.Router(lab.Internet(), "home", netns.RouterConfig{})
	node := home.Inside("node")
	home.MapPorts()
	doc, _ := checked(t, node, server)
	m := doc.PortMap
	if m == nil || m.Protocol == nil || m.External == nil || m.External.Addr() != home.External() ||
		m.Verified == nil || !*m.Verified || m.DoubleNAT == nil || *m.DoubleNAT {
		t.Errorf("port map %+v", m)
	}
	if doc.CGNAT == nil || *doc.CGNAT {
		t.Errorf("a provider's NAT: %v", doc.CGNAT)
	}
	if rules := home.Run("nft", "list", "table", "inet", "mapper"); strings.Contains(rules, node.Addr().String()) {
		t.Errorf("the mapping is still there:\n%s", rules)
	}
	if doc, _ := checked(t, node, server, "--no-portmap"); doc.PortMap != nil {
		t.Errorf("port map %+v, though told not to", doc.PortMap)
	}
}

// TestNatcheckWithoutUDP: only TCP gets out of the network, and the vantage point says
// that it listens for datagrams.
func TestNatcheckWithoutUDP(t *testing.T) {
	lab := netns.New(t, natlab.Config{})
	server := vantageAt(t, lab, natlab.LinkConfig{})
	router := lab.Router(lab.Internet(), "router", netns.RouterConfig{})
	router.Run("nft", "add", "rule", "ip", "lab", "through", "meta", "l4proto", "udp", "drop")
	router.Run("nft", "insert", "rule", "ip", "lab", "through", "meta", "l4proto", "udp", "drop")
	tcp := strings.Replace(strings.Replace(server, "/udp/", "/tcp/", 1), "/quic-v1", "", 1)
	doc, code := checked(t, router.Inside("node"), tcp)
	if doc.Verdict != nat.UDPBlocked || code != 0 {
		t.Errorf("verdict %s, exit %d", doc.Verdict, code)
	}
	if p := doc.Families.IP4.TCP; p.Mapping == nil || *p.Mapping != nat.EIM {
		t.Errorf("TCP mapping %v", p.Mapping)
	}
}

// TestNatcheckLifetime: whether an unused mapping lives as long as was asked for.
func TestNatcheckLifetime(t *testing.T) {
	t.Parallel()
	lab := netns.New(t, natlab.Config{})
	server := vantageAt(t, lab, natlab.LinkConfig{})
	for lives, want := range map[time.Duration]nat.Lifetime{
		2 * time.Second: {LessThanS: new(5.0)}, time.Minute: {AtLeastS: new(5.0)},
	} {
		t.Run(lives.String(), func(t *testing.T) {
			t.Parallel()
			node := lab.Behind("node", natlab.RouterConfig{NAT: natlab.NAT{Timeout: lives}})
			doc, code := checked(t, node, server, "--lifetime", "5s", "--no-portmap")
			if diff := cmp.Diff(&want, doc.Families.IP4.UDP.Lifetime); diff != "" || code != 0 {
				t.Errorf("exit %d: %s", code, diff)
			}
		})
	}
}
