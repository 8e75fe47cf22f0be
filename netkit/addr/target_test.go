package addr

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"pgregory.net/rapid"
)

// plain is a Target in text, for comparison.
type plain struct {
	ID    string
	Addrs []string
	Name  string
}

func plainOf(t Target) plain {
	p := plain{Name: t.Name}
	if t.ID != "" {
		p.ID = t.ID.String()
	}
	for _, a := range t.Addrs {
		p.Addrs = append(p.Addrs, a.String())
	}
	return p
}

func plainsOf(targets []Target) []plain {
	var all []plain
	for _, t := range targets {
		all = append(all, plainOf(t))
	}
	return all
}

func TestParseTarget(t *testing.T) {
	const quic = "/ip4/10.0.0.1/udp/4001/quic-v1"
	tests := map[string]plain{
		quic + "/p2p/" + idA:              {ID: idA, Addrs: []string{quic}},
		quic + "/p2p/" + idA + "/":        {ID: idA, Addrs: []string{quic}},
		" " + quic + "/p2p/" + idA + "\t": {ID: idA, Addrs: []string{quic}},
		quic + "/ipfs/" + idB:             {ID: idB, Addrs: []string{quic}},
		quic + "/p2p/" + idBBase32:        {ID: idB, Addrs: []string{quic}},
		"/p2p/" + idA:                     {ID: idA},
		idA:                               {ID: idA},
		idBBase32:                         {ID: idB},
		quic + "/p2p/" + idA + "/p2p-circuit/p2p/" + idB: {
			ID: idB, Addrs: []string{quic + "/p2p/" + idA + "/p2p-circuit"},
		},
		quic + "/ipfs/" + idA + "/p2p-circuit/ipfs/" + idB: {
			ID: idB, Addrs: []string{quic + "/p2p/" + idA + "/p2p-circuit"},
		},
		"/dnsaddr/a.example/p2p/" + idA:          {ID: idA, Addrs: []string{"/dnsaddr/a.example"}},
		"/dns4/a.example/tcp/443/wss/p2p/" + idA: {ID: idA, Addrs: []string{"/dns4/a.example/tcp/443/wss"}},
		"/dns6/a.example/tcp/1/p2p/" + idA:       {ID: idA, Addrs: []string{"/dns6/a.example/tcp/1"}},
		"/dns/a.example/tcp/1/p2p/" + idA:        {ID: idA, Addrs: []string{"/dns/a.example/tcp/1"}},
		`{"ID":"` + idA + `","Addrs":["` + quic + `","` + quic + `/p2p/` + idA + `","/ip4/1.2.3.4/tcp/1"]}`: {
			ID: idA, Addrs: []string{quic, "/ip4/1.2.3.4/tcp/1"},
		},
		`{"id":"` + idA + `","addrs":null}`: {ID: idA},
		`{"ID":"` + idB + `","Addrs":["` + quic + `/p2p/` + idA + `/p2p-circuit"]}`: {
			ID: idB, Addrs: []string{quic + "/p2p/" + idA + "/p2p-circuit"},
		},
	}
	for s, want := range tests {
		got, err := ParseTarget(s, Options{})
		if err != nil {
			t.Errorf("%s: %v", s, err)
		} else if diff := cmp.Diff(want, plainOf(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s, diff)
		}
	}
}

func TestParseTargetReadsWhatGoLibp2pWrites(t *testing.T) {
	id, _ := ParseID(idA)
	written, err := json.Marshal(peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{mustAddr(t, "/ip4/1.2.3.4/tcp/1")}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseTarget(string(written), Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := plain{ID: idA, Addrs: []string{"/ip4/1.2.3.4/tcp/1"}}
	if diff := cmp.Diff(want, plainOf(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseTargetRefuses(t *testing.T) {
	many := strings.Repeat(`"/ip4/1.2.3.4/tcp/1",`, MaxAddrs) + `"/ip4/1.2.3.4/tcp/1"`
	tests := map[string]struct {
		in   string
		want error
	}{
		"no peer id":           {"/ip4/1.2.3.4/tcp/1", ErrNoPeerID},
		"something after it":   {"/ip4/1.2.3.4/tcp/1/p2p/" + idA + "/http", ErrBadAddr},
		"circuit to nobody":    {"/ip4/1.2.3.4/tcp/1/p2p/" + idA + "/p2p-circuit", ErrNoPeerID},
		"two peers":            {"/ip4/1.2.3.4/tcp/1/p2p/" + idA + "/p2p/" + idB, ErrBadAddr},
		"bad relay id":         {"/ip4/1.2.3.4/tcp/1/p2p/QmBad/p2p-circuit/p2p/" + idB, ErrBadAddr},
		"protocol misspelt":    {"/ip4/1.2.3.4/tpc/1/p2p/" + idA, ErrBadAddr},
		"peer id is no key":    {"/ip4/1.2.3.4/tcp/1/p2p/" + mustCID(t, []byte{0, 3, 'a', 'b', 'c'}), ErrBadPeerID},
		"host and port":        {"example.com:4001", ErrBadPeerID},
		"empty":                {"", ErrBadPeerID},
		"slash":                {"/", ErrBadAddr},
		"long":                 {strings.Repeat("1", MaxTargetLen+1), ErrTooLong},
		"long address":         {"/dns/" + strings.Repeat("a", MaxAddrLen), ErrTooLong},
		"addrinfo without id":  {`{"Addrs":["/ip4/1.2.3.4/tcp/1"]}`, ErrNoPeerID},
		"addrinfo, bad id":     {`{"ID":"QmBad"}`, ErrBadPeerID},
		"addrinfo, bad addr":   {`{"ID":"` + idA + `","Addrs":["nonsense"]}`, ErrBadAddr},
		"addrinfo, other peer": {`{"ID":"` + idA + `","Addrs":["/p2p/` + idB + `"]}`, ErrBadAddr},
		"addrinfo, many":       {`{"ID":"` + idA + `","Addrs":[` + many + `]}`, ErrTooLong},
	}
	for name, test := range tests {
		if got, err := ParseTarget(test.in, Options{}); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, test.want)
		} else if len(err.Error()) > 400 {
			t.Errorf("%s: message of %d bytes", name, len(err.Error()))
		}
	}
	for _, s := range []string{`{`, `{}x`, `{"ID":1}`, `{"ID":"` + idA + `"} {}`} {
		if got, err := ParseTarget(s, Options{}); err == nil {
			t.Errorf("%s: read as %v", s, got)
		}
	}
}

func TestBadAddrSaysWhyOnce(t *testing.T) {
	_, err := ParseTarget("/ip4/1.2.3.4/tpc/1", Options{})
	const want = `bad multiaddr "/ip4/1.2.3.4/tpc/1": unknown protocol tpc`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestUnknownPeerOnRequest(t *testing.T) {
	opts := Options{AllowUnknownPeer: true}
	got, err := ParseTarget("/ip4/1.2.3.4/tcp/1", opts)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(plain{Addrs: []string{"/ip4/1.2.3.4/tcp/1"}}, plainOf(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("/ip4/1.2.3.4/tcp/1", joinAddrs(got.P2PAddrs())); diff != "" {
		t.Errorf("P2PAddrs (-want +got):\n%s", diff)
	}
	// A relay is asked for a peer by id: without one there is nobody to reach.
	if _, err := ParseTarget("/ip4/1.2.3.4/tcp/1/p2p/"+idA+"/p2p-circuit", opts); !errors.Is(err, ErrNoPeerID) {
		t.Errorf("circuit to nobody: %v", err)
	}
}

func TestP2PAddrsReadBack(t *testing.T) {
	relayed := "/ip4/1.2.3.4/tcp/1/p2p/" + idB + "/p2p-circuit/p2p/" + idA
	for _, s := range []string{"/p2p/" + idA, "/ip4/1.2.3.4/tcp/1/p2p/" + idA, relayed} {
		target, err := ParseTarget(s, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := joinAddrs(target.P2PAddrs()); got != s {
			t.Errorf("got %s, want %s", got, s)
		}
	}
}

// go-multiaddr's AppendComponent writes behind the end of its receiver.
func TestWithPeerLeavesItsArgumentAlone(t *testing.T) {
	a, _ := ParseID(idA)
	b, _ := ParseID(idB)
	whole := mustAddr(t, "/ip4/1.2.3.4/tcp/1/p2p/"+idA)
	shared := whole[:2] // as peer.SplitAddr returns it, with room for one more
	withB := WithPeer(shared, b)
	withA := WithPeer(shared, a)
	for got, want := range map[string]string{
		whole.String(): "/ip4/1.2.3.4/tcp/1/p2p/" + idA,
		withA.String(): "/ip4/1.2.3.4/tcp/1/p2p/" + idA,
		withB.String(): "/ip4/1.2.3.4/tcp/1/p2p/" + idB,
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestMergeKeepsEveryAddressOnceAndInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var targets []Target
		order := map[string][]string{}
		for range rapid.IntRange(0, 20).Draw(t, "n") {
			id, _ := ParseID(rapid.SampledFrom([]string{idA, idB}).Draw(t, "id"))
			a, _ := ma.NewMultiaddr(fmt.Sprintf("/ip4/10.0.0.1/tcp/%d", rapid.IntRange(1, 4).Draw(t, "port")))
			targets = append(targets, Target{ID: id, Addrs: []ma.Multiaddr{a}})
			if list := order[id.String()]; !strings.Contains(strings.Join(list, " ")+" ", a.String()+" ") {
				order[id.String()] = append(list, a.String())
			}
		}
		got := map[string][]string{}
		for _, m := range Merge(targets) {
			got[m.ID.String()] = plainOf(m).Addrs
		}
		if diff := cmp.Diff(order, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{
		idA, idB, idBBase32, "/ip4/1.2.3.4/udp/1/quic-v1/p2p/" + idA, "/dnsaddr/a/p2p/" + idB,
		"/ip6zone/x/ip6/fe80::1/tcp/1/ipfs/" + idA + "/p2p-circuit/p2p/" + idB, "/unix/a/p2p/" + idA,
		`{"ID":"` + idA + `","Addrs":["/ip4/1.2.3.4/tcp/1"]}`, `{"id":"` + idB + `"}`, "/", "{", "", "@x", "-",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target, err := ParseTarget(s, Options{})
		if err != nil {
			return
		}
		if err := checkID(target.ID); err != nil {
			t.Fatalf("accepted %q with id %q: %v", s, target.ID, err)
		}
		var again []Target
		for _, a := range target.P2PAddrs() {
			one, err := ParseTarget(a.String(), Options{})
			if err != nil {
				t.Fatalf("%q: does not read its own %s: %v", s, a, err)
			}
			again = append(again, one)
		}
		if diff := cmp.Diff([]plain{plainOf(target)}, plainsOf(Merge(again))); diff != "" {
			t.Fatalf("%q does not survive a round trip (-want +got):\n%s", s, diff)
		}
		for _, a := range target.Addrs {
			ScopeOf(a)
			Transport(a)
			IP(a)
		}
	})
}
