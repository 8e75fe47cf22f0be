package mdns

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/miekg/dns"
	ma "github.com/multiformats/go-multiaddr"
	"pgregory.net/rapid"
)

const (
	idA = "12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm"
	idB = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
)

func mustID(t testing.TB, s string) peer.ID {
	t.Helper()
	id, err := peer.Decode(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func mustAddrs(t testing.TB, texts ...string) []ma.Multiaddr {
	t.Helper()
	var addrs []ma.Multiaddr
	for _, s := range texts {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, a)
	}
	return addrs
}

func textOf(addrs []ma.Multiaddr) []string {
	var texts []string
	for _, a := range addrs {
		texts = append(texts, a.String())
	}
	return texts
}

func mustNames(t testing.TB) names {
	t.Helper()
	us, err := newNames("")
	if err != nil {
		t.Fatal(err)
	}
	return us
}

// plain is a found in text, for comparison.
type plain struct {
	ID    string
	Addrs []string
	TTL   time.Duration
}

func plainsOf(all []found) []plain {
	var out []plain
	for _, f := range all {
		p := plain{Addrs: textOf(f.info.Addrs), TTL: f.ttl}
		if f.info.ID != "" {
			p.ID = f.info.ID.String()
		}
		out = append(out, p)
	}
	return out
}

func mustPack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packet
}

func rr(t testing.TB, text string) dns.RR {
	t.Helper()
	r, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(text, err)
	}
	return r
}

func rrs(t testing.TB, texts ...string) []dns.RR {
	t.Helper()
	var all []dns.RR
	for _, text := range texts {
		all = append(all, rr(t, text))
	}
	return all
}

const (
	svc   = "_p2p._udp.local."
	addr1 = "/ip4/10.0.0.1/udp/4001/quic-v1"
	addr2 = "/ip4/10.0.0.1/tcp/4001"
	txtA1 = `"dnsaddr=` + addr1 + `/p2p/` + idA + `"`
	txtA2 = `"dnsaddr=` + addr2 + `/p2p/` + idA + `"`
)

// The shapes of responses that implementations send.
func TestParseResponsesOfOthers(t *testing.T) {
	both := []plain{{ID: idA, Addrs: []string{addr1, addr2}, TTL: 120 * time.Second}}
	tests := map[string]struct {
		answer, extra []string
		want          []plain
	}{
		"rust-libp2p: a name without the service, TXT additional, one an address": {
			answer: []string{svc + " 360 PTR abc."},
			extra:  []string{"abc. 360 TXT " + txtA1, "abc. 360 TXT " + txtA2},
			want:   []plain{{ID: idA, Addrs: []string{addr1, addr2}, TTL: 360 * time.Second}},
		},
		"js-libp2p: all in the answer": {
			answer: []string{svc + " 120 PTR abc." + svc, "abc." + svc + " 120 TXT " + txtA1, "abc." + svc + " 120 TXT " + txtA2},
			want:   both,
		},
		"zeroconf answering: one TXT with several strings": {
			answer: []string{svc + " 120 PTR abc." + svc},
			extra: []string{
				"abc." + svc + " 120 SRV 0 0 4001 abc.local.", "abc." + svc + " 120 TXT " + txtA1 + " " + txtA2,
				"abc.local. 120 A 10.0.0.1",
			},
			want: both,
		},
		"zeroconf announcing: another service type in between": {
			answer: []string{
				"abc." + svc + " 120 SRV 0 0 4001 abc.local.", "abc." + svc + " 120 TXT " + txtA1 + " " + txtA2,
				svc + " 120 PTR abc." + svc, metaService + " 120 PTR " + svc,
			},
			want: both,
		},
		"TXT without PTR": {answer: []string{"abc." + svc + " 120 TXT " + txtA1 + " " + txtA2}, want: both},
		"other case": {
			answer: []string{"_P2P._UDP.Local. 120 PTR ABC." + svc}, extra: []string{"abc." + svc + " 120 TXT " + txtA1 + " " + txtA2},
			want: both,
		},
		"leave": {
			answer: []string{svc + " 0 PTR abc." + svc}, extra: []string{"abc." + svc + " 0 TXT " + txtA1},
			want: []plain{{ID: idA, Addrs: []string{addr1}}},
		},
		"leave by name alone": {answer: []string{svc + " 0 PTR abc." + svc}, want: []plain{{}}},
		"two peers": {
			answer: []string{svc + " 120 PTR a.", svc + " 60 PTR b."},
			extra:  []string{`b. 60 TXT "dnsaddr=` + addr2 + `/p2p/` + idB + `"`, "a. 120 TXT " + txtA1},
			want: []plain{
				{ID: idA, Addrs: []string{addr1}, TTL: 120 * time.Second}, {ID: idB, Addrs: []string{addr2}, TTL: time.Minute},
			},
		},
		"another service": {
			answer: []string{"_ipp._tcp.local. 120 PTR abc._ipp._tcp.local."}, extra: []string{"abc._ipp._tcp.local. 120 TXT " + txtA1},
		},
		"no address": {answer: []string{svc + " 120 PTR abc."}},
		"addresses left out": {
			answer: []string{svc + " 120 PTR abc."},
			extra: []string{
				`abc. 120 TXT "txtvers=1" "dnsaddr=nonsense" "dnsaddr=` + addr1 + `"`, // no peer id
				"abc. 120 TXT " + txtA1,
				`abc. 120 TXT "dnsaddr=` + addr2 + `/p2p/` + idB + `"`, // not the peer of this name
				`abc. 120 TXT "dnsaddr=/ip4/0.0.0.0/tcp/1/p2p/` + idA + `" "dnsaddr=/ip4/224.0.0.1/tcp/1/p2p/` + idA + `"`,
				`abc. 120 TXT "dnsaddr=/dns4/example.com/tcp/1/p2p/` + idA + `" "dnsaddr=/dns4/a.local/tcp/1/p2p/` + idA + `"`,
				`abc. 120 TXT "dnsaddr=/ip4/10.0.0.1/tcp/1/p2p/` + idB + `/p2p-circuit/p2p/` + idA + `"`,
				`abc. 120 TXT "dnsaddr=/p2p/` + idA + `"`,
			},
			want: []plain{{ID: idA, Addrs: []string{addr1, "/dns4/a.local/tcp/1"}, TTL: 120 * time.Second}},
		},
	}
	for name, test := range tests {
		m := &dns.Msg{MsgHdr: dns.MsgHdr{Response: true}, Answer: rrs(t, test.answer...), Extra: rrs(t, test.extra...)}
		got, err := parse(mustPack(t, m), mustNames(t))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(test.want, plainsOf(got.found)); diff != "" || got.asks || got.asksServices {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestParseQuestions(t *testing.T) {
	us := mustNames(t)
	ask := func(name string, qtype, class uint16) *dns.Msg {
		return &dns.Msg{Question: []dns.Question{{Name: name, Qtype: qtype, Qclass: class}}}
	}
	knowing := func(ttl int) *dns.Msg {
		m := ask(svc, dns.TypePTR, dns.ClassINET)
		m.Answer = rrs(t, fmt.Sprintf("%s %d PTR %s", svc, ttl, us.instance))
		return m
	}
	two := ask("_ipp._tcp.local.", dns.TypePTR, dns.ClassINET)
	two.Question = append(two.Question, ask(svc, dns.TypePTR, dns.ClassINET).Question...)
	tests := map[string]struct {
		m    *dns.Msg
		want message
	}{
		"service":                 {ask(svc, dns.TypePTR, dns.ClassINET), message{asks: true}},
		"service, other case":     {ask("_P2P._udp.LOCAL.", dns.TypePTR, dns.ClassINET), message{asks: true}},
		"service, any":            {ask(svc, dns.TypeANY, dns.ClassANY), message{asks: true}},
		"unicast wanted":          {ask(svc, dns.TypePTR, dns.ClassINET|1<<15), message{asks: true}},
		"second question":         {two, message{asks: true}},
		"service, other type":     {ask(svc, dns.TypeA, dns.ClassINET), message{}},
		"service, other class":    {ask(svc, dns.TypePTR, dns.ClassCHAOS), message{}},
		"name, text":              {ask(us.instance, dns.TypeTXT, dns.ClassINET), message{asks: true}},
		"name, server":            {ask(us.instance, dns.TypeSRV, dns.ClassINET), message{asks: true}},
		"host":                    {ask(us.host, dns.TypeAAAA, dns.ClassINET), message{asks: true}},
		"another name":            {ask("x."+svc, dns.TypeTXT, dns.ClassINET), message{}},
		"services":                {ask(metaService, dns.TypePTR, dns.ClassINET), message{asksServices: true}},
		"another service":         {ask("_ipp._tcp.local.", dns.TypePTR, dns.ClassINET), message{}},
		"we are known":            {knowing(60), message{}},
		"we are almost forgotten": {knowing(59), message{asks: true}},
	}
	for name, test := range tests {
		got, err := parse(mustPack(t, test.m), us)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(message{}, found{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	us := mustNames(t)
	query, err := buildQuery(us)
	if err != nil {
		t.Fatal(err)
	}
	response := &dns.Msg{MsgHdr: dns.MsgHdr{Response: true}, Answer: rrs(t, svc+" 120 PTR abc.", "abc. 120 TXT "+txtA1)}
	refused := response.Copy()
	refused.Rcode = dns.RcodeRefused
	update := &dns.Msg{MsgHdr: dns.MsgHdr{Opcode: dns.OpcodeUpdate}, Question: []dns.Question{{Name: svc, Qtype: dns.TypePTR, Qclass: 1}}}
	many := response.Copy()
	for range maxRecords {
		many.Extra = append(many.Extra, rr(t, "abc. 120 TXT "+txtA1))
	}
	many.Compress = true
	claims := append([]byte(nil), query...)
	claims[6], claims[7] = 0xff, 0xff // answers that do not follow
	for name, packet := range map[string][]byte{
		"empty":            {},
		"half a header":    query[:11],
		"cut short":        query[:len(query)-1],
		"too long":         make([]byte, maxPacket+1),
		"counts that lie":  claims,
		"many records":     mustPack(t, many),
		"an error":         mustPack(t, refused),
		"another opcode":   mustPack(t, update),
		"endless pointers": append([]byte{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12}, 0, 12, 0, 1),
	} {
		if got, err := parse(packet, us); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestAddressesOfOnePeerAreBounded(t *testing.T) {
	m := &dns.Msg{MsgHdr: dns.MsgHdr{Response: true}, Answer: rrs(t, svc+" 120 PTR abc."), Compress: true}
	for port := range maxAddrs + 8 {
		m.Extra = append(m.Extra, rr(t, fmt.Sprintf(`abc. 120 TXT "dnsaddr=/ip4/10.0.0.1/tcp/%d/p2p/%s"`, port+1, idA)))
	}
	got, err := parse(mustPack(t, m), mustNames(t))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.found[0].info.Addrs); n != maxAddrs {
		t.Errorf("kept %d addresses, want %d", n, maxAddrs)
	}
}

// Whatever is announced is read back whole, packets fit every link, and each is complete for
// readers that look at one packet and one section only.
func TestAnswersReadBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		us, id := mustNames(t), mustID(t, idA)
		var want []string
		for i := range rapid.IntRange(1, maxAddrs).Draw(rt, "n") {
			ip := rapid.SampledFrom([]string{"/ip4/10.0.0.1", "/ip6/fd00:1111:2222:3333:4444:5555:6666:7777"}).Draw(rt, "ip")
			want = append(want, fmt.Sprintf("%s/udp/%d/quic-v1", ip, i+1))
		}
		ttl := rapid.SampledFrom([]time.Duration{0, recordTTL}).Draw(rt, "ttl")
		var got []string
		for _, packet := range buildAnswers(us, id, mustAddrs(t, want...), ttl) {
			if len(packet) > 1400 {
				rt.Fatalf("packet of %d bytes", len(packet))
			}
			msg, err := parse(packet, us)
			if err != nil || len(msg.found) != 1 || msg.found[0].ttl != ttl || msg.found[0].info.ID != id {
				rt.Fatalf("%+v, %v", msg, err)
			}
			got = append(got, textOf(msg.found[0].info.Addrs)...)
			checkForOthers(rt, packet, us)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// checkForOthers checks what js-libp2p, rust-libp2p and zeroconf need.
func checkForOthers(t *rapid.T, packet []byte, us names) {
	var m dns.Msg
	if err := m.Unpack(packet); err != nil {
		t.Fatal(err)
	}
	if len(m.Answer) != 1 || m.Answer[0].Header().Rrtype != dns.TypePTR || len(m.Question) != 0 || !m.Response {
		t.Fatalf("not one PTR as the answer: %v", m.String())
	}
	count := map[uint16]int{}
	for _, r := range m.Extra {
		count[r.Header().Rrtype]++
		if srv, ok := r.(*dns.SRV); ok && srv.Target != us.host {
			t.Fatalf("SRV leads to %s", srv.Target)
		}
	}
	if count[dns.TypeTXT] != 1 || count[dns.TypeSRV] != 1 || count[dns.TypeA]+count[dns.TypeAAAA] == 0 {
		t.Fatalf("additional records: %v", m.String())
	}
}

func TestLongAddressesAreNotAnnounced(t *testing.T) {
	long := "/dns4/" + strings.Repeat("a", 63) + "." + strings.Repeat("b", 63) + "." + strings.Repeat("c", 63) + ".local/tcp/1"
	packets := buildAnswers(mustNames(t), mustID(t, idA), mustAddrs(t, long, addr1), recordTTL)
	if len(packets) != 1 {
		t.Fatalf("%d packets", len(packets))
	}
	msg, err := parse(packets[0], mustNames(t))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]plain{{ID: idA, Addrs: []string{addr1}, TTL: recordTTL}}, plainsOf(msg.found)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestServiceNames(t *testing.T) {
	for name, want := range map[string]string{
		"": svc, "_p2p._udp": svc, "_p2p._udp.local": svc, "_p2p._udp.local.": svc, "_P2P._udp": svc, "_x-1._tcp": "_x-1._tcp.local.",
	} {
		us, err := newNames(name)
		if err != nil || us.service != want {
			t.Errorf("%q: %q, %v, want %q", name, us.service, err, want)
		}
		label, rest, _ := strings.Cut(us.instance, ".")
		if len(label) < 32 || len(label) > 63 || rest != us.service || us.host != label+".local." {
			t.Errorf("%q: names %+v", name, us)
		}
	}
	for _, name := range []string{".", "p2p", "_p2p", "p2p.udp", "_p2p._udp.example.com", "_._udp", "_a b\\._udp", "_" + strings.Repeat("a", 63) + "._udp", "_a.._udp"} {
		if us, err := newNames(name); err == nil {
			t.Errorf("%q: accepted as %+v", name, us)
		}
	}
	if one, other := mustNames(t), mustNames(t); one.instance == other.instance {
		t.Error("names are not random")
	}
}
