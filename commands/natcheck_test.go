package commands

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dibber/netkit/nat"
	"dibber/netkit/natcheck"

	"github.com/google/go-cmp/cmp"
)

// TestNoPortMap: routers are asked unless one says no. That they are is shown in
// network namespaces, that it works in portmap.TestEachProtocol.
func TestNoPortMap(t *testing.T) {
	t.Parallel()
	if !(&natcheckOptions{}).config(nil).PortMap || (&natcheckOptions{NoPortMap: true}).config(nil).PortMap {
		t.Error("--no-portmap makes no difference")
	}
}

// document is a document of a node behind a NAT.
func document() natcheckDoc {
	var d natcheckDoc
	d.Verdict = nat.Easy
	d.Families.IP4.UDP = nat.Path{
		Works: new(true), NAT: new(true), Mapping: new(nat.EIM),
		Observed: []netip.AddrPort{netip.MustParseAddrPort("17.0.0.1:4001")},
	}
	d.Forecast = make([]nat.Forecast, 2)
	return d
}

func TestAsserts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"verdict == easy": "",
		`verdict=="easy"`: "",
		"verdict != easy": "verdict != easy is false: it is easy",
		"families.ip4.udp.mapping == EIM && looks == 0":       "",
		"families.ip4.udp.hairpin == null":                    "",
		"families.ip4.udp.hairpin == false":                   "families.ip4.udp.hairpin == false is false: it is null",
		"families.ip4.udp.hairpin != true":                    "",
		"families.ip4.udp.observed has 17.0.0.1:4001":         "",
		"families.ip4.udp.observed.0 == 17.0.0.1:4001":        "",
		"families.ip4.udp.observed.7 == null":                 "",
		"looks < 1 && looks <= 0 && looks >= 0":               "",
		"looks > 0":                                           "looks > 0 is false: it is 0",
		"families.ip4.udp.hairpin < 1":                        "families.ip4.udp.hairpin < 1 is false: it is null",
		"advice has use-relay":                                "advice has use-relay is false: it is an empty list",
		"families.ip4.udp.observed has 17.0.0.9:1":            "families.ip4.udp.observed has 17.0.0.9:1 is false: it is 17.0.0.1:4001",
		"forecast has easy":                                   "forecast has easy is false: it is a list of 2 objects; compare a field of one of them",
		"families == x":                                       "families == x is false: it is an object; compare one of its fields",
		"families.ip4.udp.works == true && verdict == public": "verdict == public is false: it is easy",
	} {
		terms, err := parseAsserts(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		_, err = checkAsserts(terms, document())
		if got := fmt.Sprint(err); err != nil && got != want || err == nil && want != "" {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{"verdict", "== easy", "verdict ==", "verdict = easy", "verdikt == easy", "evidence.x.local == 1", "families == 1 &&", "verdict.x == 1"} {
		if terms, err := parseAsserts(text); err == nil {
			t.Errorf("%s was taken for %+v", text, terms)
		}
	}
}

func FuzzAsserts(f *testing.F) {
	f.Add("families.ip4.udp.mapping == EIM && advice has use-relay && looks >= 0")
	f.Fuzz(func(t *testing.T, text string) {
		terms, err := parseAsserts(text)
		if err != nil {
			return
		}
		if checked, _ := checkAsserts(terms, document()); len(checked) != len(terms) {
			t.Errorf("%q: %d terms, %d checked", text, len(terms), len(checked))
		}
	})
}

func TestDifferences(t *testing.T) {
	t.Parallel()
	before, err := encode(document())
	if err != nil {
		t.Fatal(err)
	}
	if diff, err := differences(before, document()); diff != nil || err != nil {
		t.Errorf("%v, %v to itself", diff, err)
	}
	now := document()
	now.Verdict = nat.Hard
	now.Families.IP4.UDP.Mapping = new(nat.APDM)
	now.Families.IP4.UDP.NAT = nil                // not known any more
	now.Families.IP4.UDP.Filtering = new(nat.EIF) // not known before
	now.Families.IP4.UDP.Observed[0] = netip.MustParseAddrPort("17.0.0.1:9")
	want := []difference{{"families.ip4.udp.mapping", "EIM", "APDM"}, {"verdict", "easy", "hard"}}
	got, err := differences(before, now)
	if diff := cmp.Diff(want, got); diff != "" || err == nil {
		t.Errorf("%v: %s", err, diff)
	}
	now = document()
	now.Families.IP4.UDP.Observed[0] = netip.MustParseAddrPort("17.0.0.2:4001")
	if got, _ := differences(before, now); len(got) != 1 || got[0].Before != "17.0.0.1" || got[0].After != "17.0.0.2" {
		t.Errorf("%v", got)
	}
}

// TestLongLists: of a long list a person is told the beginning.
func TestLongLists(t *testing.T) {
	t.Parallel()
	if got, want := foundText(`[1,2,3,4,5,6,7,8,9,10]`), "1, 2, 3, 4, 5, 6, 7, 8, 2 more"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestForeignDocuments: a file may be by anybody. One that no natcheck wrote is refused with
// the reason, and nothing in it gets at the terminal.
func TestForeignDocuments(t *testing.T) {
	t.Parallel()
	const escape = "\x1b[2J"
	const huge = `{"schema":"natcheck/1","verdict":"easy"}`
	for text, want := range map[string]string{
		"":                        "is empty",
		" \n":                     "is empty",
		"{}":                      "holds a document of",
		`{"schema":"natcheck/1"}`: "no verdict", `{"schema":"natcheck/1","verdict":"x"}`: "unknown word",
		`{"schema":"natcheck/1","verdict":"\u001b[2J"}`:                                                  "unknown word",
		`{"schema":"natcheck/1","verdict":"easy","families":{"ip4":{"udp":{"mapping":"\u001b[2J"}}}}`:    "unknown word",
		`{"schema":"natcheck/1","verdict":"easy","families":{"ip4":{"udp":{"observed":["\u001b[2J"]}}}}`: "not an ip:port",
		huge: "larger than 64.0 MiB",
	} {
		file := filepath.Join(t.TempDir(), "before.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if text == huge {
			if err := os.Truncate(file, maxDocument+1); err != nil {
				t.Fatal(err)
			}
		}
		_, err := readBefore(file, "natcheck/1")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), escape) {
			t.Errorf("%.80q: %v, want %q", text, err, want)
		}
	}
	before := []byte(`{"addresses":[{"addr":"\u001b[2J","reachability":"\u001b[2J"}]}`)
	now := document()
	now.Addresses = []natcheck.Address{{Addr: escape, Reachability: natcheck.Reachable}}
	if now.Diff, _ = differences(before, now); len(now.Diff) != 1 {
		t.Fatalf("%v", now.Diff)
	}
	shown := &text{}
	now.Addresses = nil
	if now.renderText(shown); bytes.Contains(shown.bytes(), []byte(escape)) {
		t.Errorf("%q", shown.bytes())
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	const id = "12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm"
	r := newRedactor()
	for text, want := range map[string]string{
		"":                                     "",
		"127.0.0.1 ::1 0.0.0.0:4001 ::":        "127.0.0.1 ::1 0.0.0.0:4001 ::",
		"18:40:22 version 1.2.3 sha256:abcdef": "18:40:22 version 1.2.3 sha256:abcdef",
	} {
		if got := string(r.redact([]byte(text))); got != want {
			t.Errorf("%q became %q", text, got)
		}
	}
	line := `{"a":"/ip4/17.0.0.1/udp/1/quic-v1/p2p/` + id + `","b":"17.0.0.1:4001","c":"[2a01:4f8::7]:9","d":"/dns4/home.example.org/tcp/1","e":"/ip6/2a01:4f8::7/tcp/1","f":"` + id + `"}`
	got := r.redact([]byte(line))
	if !json.Valid(got) {
		t.Errorf("%s is no JSON", got)
	}
	for _, secret := range []string{id, "17.0.0.1", "2a01", "home.example.org"} {
		if bytes.Contains(got, []byte(secret)) {
			t.Errorf("%s is still in %s", secret, got)
		}
	}
	want := `{"a":"/ip4/192.0.2.1/udp/1/quic-v1/p2p/redacted-peer-1","b":"192.0.2.1:4001","c":"[2001:db8::1]:9","d":"/dns4/name-1.example/tcp/1","e":"/ip6/2001:db8::1/tcp/1","f":"redacted-peer-1"}`
	fresh := string(newRedactor().redact([]byte(line)))
	if fresh != want {
		t.Errorf("got  %s\nwant %s", fresh, want)
	}
	if again := string(newRedactor().redact(got)); strings.Count(again, "redacted-peer-1") != 2 {
		t.Errorf("redacted twice: %s", again)
	}
	if again := string(r.redact(got)); again != string(got) {
		t.Errorf("redacted twice by the same: %s\nwant %s", again, got)
	}
}

// TestRedactedColumns: what is replaced does not shift what stands beside it.
func TestRedactedColumns(t *testing.T) {
	t.Parallel()
	shown := &text{mask: newRedactor().redact}
	shown.table([]string{"BY", "SAW"}, [][]string{{"2a01:4f8:1:2:3:4:5:6", "a"}, {"-", "b"}})
	lines := strings.Split(string(shown.bytes()), "\n")
	if at := strings.Index(lines[0], "SAW"); at < 0 || strings.Index(lines[1], "a") != at || strings.Index(lines[2], "b") != at || strings.Contains(lines[1], "2a01") {
		t.Errorf("%s", shown.bytes())
	}
}
