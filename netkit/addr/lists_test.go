package addr

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
)

// openIn returns an OpenFunc over files held in memory.
func openIn(files map[string]string) OpenFunc {
	mem := fstest.MapFS{}
	for name, text := range files {
		mem[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return func(name string) (io.ReadCloser, error) { return mem.Open(name) }
}

func mustTable(t testing.TB, text string) *Table {
	t.Helper()
	table, err := ParseTable(strings.NewReader(text), "peers")
	if err != nil {
		t.Fatal(err)
	}
	return table
}

const (
	addr1 = "/ip4/10.0.0.1/tcp/1"
	addr2 = "/ip4/10.0.0.2/tcp/2"
	addr3 = "/ip4/10.0.0.3/tcp/3"
)

func TestParseTargets(t *testing.T) {
	table := mustTable(t, "alice "+addr1+"/p2p/"+idA+"\nboth "+addr3+"/p2p/"+idB)
	open := openIn(map[string]string{
		"list": "# comment\n\n " + addr2 + "/p2p/" + idA + " \r\n@both\n",
		"both": idA,
	})
	tests := map[string]struct {
		args  []string
		stdin string
		want  []plain
	}{
		"nothing":          {},
		"stdin empty":      {args: []string{"-"}, stdin: "\n# nothing\n"},
		"address":          {args: []string{addr1 + "/p2p/" + idB}, want: []plain{{ID: idB, Addrs: []string{addr1}}}},
		"name":             {args: []string{"@alice"}, want: []plain{{ID: idA, Addrs: []string{addr1}, Name: "alice"}}},
		"known bare id":    {args: []string{idA}, want: []plain{{ID: idA, Addrs: []string{addr1}, Name: "alice"}}},
		"name before file": {args: []string{"@both"}, want: []plain{{ID: idB, Addrs: []string{addr3}, Name: "both"}}},
		"file": {args: []string{"@list"}, want: []plain{
			{ID: idA, Addrs: []string{addr2}}, {ID: idB, Addrs: []string{addr3}, Name: "both"},
		}},
		"stdin, merged with an argument": {
			args: []string{addr2 + "/p2p/" + idA, "-"}, stdin: "@alice\n" + idB + "\n",
			want: []plain{{ID: idA, Addrs: []string{addr2, addr1}, Name: "alice"}, {ID: idB, Addrs: []string{addr3}, Name: "both"}},
		},
	}
	for name, test := range tests {
		got, err := ParseTargets(test.args, strings.NewReader(test.stdin), open, table, Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(test.want, plainsOf(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestParseTargetsErrorsSayWhere(t *testing.T) {
	open := openIn(map[string]string{"list": "\n# c\n" + idA + "\n/ip4/1.2.3.4/tcp/1\n", "nested": "@list"})
	tests := map[string]struct {
		args  []string
		stdin string
		want  error
		text  string
	}{
		"line of a file": {args: []string{"@list"}, want: ErrNoPeerID, text: "list:4: "},
		"line of stdin":  {args: []string{"-"}, stdin: idA + "\nx", want: ErrBadPeerID, text: "stdin:2: "},
		"neither name nor file": {
			args: []string{"@bob"}, want: ErrUnknownName,
			text: "unknown name @bob: not in the table of peers, and as a file: open bob: file does not exist",
		},
		"and the file error is kept": {args: []string{"@bob"}, want: fs.ErrNotExist},
		"file within a file":         {args: []string{"@nested"}, want: ErrUnknownName, text: "nested:1: "},
		"argument":                   {args: []string{"/ip4/1.2.3.4/tcp/1"}, want: ErrNoPeerID},
	}
	for name, test := range tests {
		_, err := ParseTargets(test.args, strings.NewReader(test.stdin), open, nil, Options{})
		if !errors.Is(err, test.want) || !strings.HasPrefix(fmt.Sprint(err), test.text) {
			t.Errorf("%s: %v, want %v, beginning with %q", name, err, test.want, test.text)
		}
	}
	if _, err := ParseTargets([]string{"-", "-"}, strings.NewReader(idA), open, nil, Options{}); err == nil {
		t.Error("standard input was read twice")
	}
}

// endless is a reader that never ends and never has a newline.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

func TestListsAreBounded(t *testing.T) {
	oneLine := idA + "\n"
	tests := map[string]io.Reader{
		"endless line":  endless{},
		"many lines":    strings.NewReader(strings.Repeat(oneLine, MaxLines+1)),
		"many comments": io.MultiReader(strings.NewReader(strings.Repeat("#\n", MaxListBytes/2)), strings.NewReader("\n\n")),
	}
	for name, r := range tests {
		if _, err := ParseTargets([]string{"-"}, r, nil, nil, Options{}); !errors.Is(err, ErrTooLong) {
			t.Errorf("%s: %v", name, err)
		}
	}
	longest := `{"ID":"` + idA + `"` + strings.Repeat(" ", MaxTargetLen-len(idA)-9) + "}\r\n"
	if _, err := ParseTargets([]string{"-"}, strings.NewReader(longest), nil, nil, Options{}); err != nil {
		t.Errorf("a line of exactly the limit: %v", err)
	}
}

func TestTable(t *testing.T) {
	table := mustTable(t, `
# peers of the test
alice `+addr1+`/p2p/`+idA+` `+addr2+`/ipfs/`+idA+` # her desk
bob   `+idB+`
alice `+addr1+`/p2p/`+idA+`
al    `+addr3+`/p2p/`+idA+`
`)
	lookup := func(name string) plain { got, _ := table.Lookup(name); return plainOf(got) }
	a, _ := ParseID(idA)
	b, _ := ParseID(idB)
	byID, _ := table.ByID(a)
	got := map[string]any{
		"alice": lookup("alice"), "al": lookup("al"), "bob": lookup("bob"), "by id": plainOf(byID),
		"ids": table.IDs(), "peers": plainsOf(table.Peers()),
	}
	all := plain{ID: idA, Addrs: []string{addr1, addr2, addr3}, Name: "alice"}
	want := map[string]any{
		"alice": plain{ID: idA, Addrs: []string{addr1, addr2}, Name: "alice"},
		"al":    plain{ID: idA, Addrs: []string{addr3}, Name: "al"},
		"bob":   plain{ID: idB, Name: "bob"},
		"by id": all,
		"ids":   []peer.ID{a, b},
		"peers": []plain{all, {ID: idB, Name: "bob"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !table.Contains(b) || table.Contains("x") {
		t.Error("Contains is wrong")
	}
	if _, ok := table.Lookup("Alice"); ok {
		t.Error("names are compared without regard to case")
	}
}

func TestNoTableIsAnEmptyOne(t *testing.T) {
	var table *Table
	if _, ok := table.Lookup("a"); ok || table.Contains("a") || len(table.IDs()) != 0 {
		t.Error("a nil table has peers")
	}
	if _, ok := table.ByID("a"); ok {
		t.Error("a nil table has peers by id")
	}
}

func TestTableErrorsHaveTheLine(t *testing.T) {
	manyAddrs := "x"
	for port := range MaxAddrs + 1 {
		manyAddrs += fmt.Sprintf(" /ip4/1.2.3.4/tcp/%d/p2p/%s", port+1, idA)
	}
	for name, line := range map[string]string{
		"no address":       "alice",
		"only a comment":   "alice # " + idA,
		"no name":          addr1 + "/p2p/" + idA,
		"name of a target": "@alice " + idA,
		"control bytes":    "al\x1bice " + idA,
		"no utf-8":         "al\xff " + idA,
		"long name":        strings.Repeat("a", maxName+1) + " " + idA,
		"no peer id":       "alice " + addr1,
		"two peers":        "alice " + idA + " " + idB,
		"many addresses":   manyAddrs,
	} {
		_, err := ParseTable(strings.NewReader("# head\n"+line+"\n"), "peers")
		var at *LineError
		if !errors.As(err, &at) || at.Line != 2 || at.Source != "peers" {
			t.Errorf("%s: %v, want an error at peers:2", name, err)
		}
	}
}

func TestLookupHandsOutCopies(t *testing.T) {
	table := mustTable(t, "alice "+addr1+"/p2p/"+idA)
	first, _ := table.Lookup("alice")
	first.Addrs[0] = nil
	if again, _ := table.Lookup("alice"); again.Addrs[0] == nil {
		t.Error("a caller changed the table")
	}
}

func FuzzParseTable(f *testing.F) {
	f.Add("alice " + addr1 + "/p2p/" + idA + "\n# c\nbob " + idB + " # c\n")
	f.Add("a " + idA + "\nb " + idA + "\na " + addr2 + "/p2p/" + idA)
	f.Add("\x00 \xff\n#\n @ -")
	f.Fuzz(func(t *testing.T, text string) {
		table, err := ParseTable(strings.NewReader(text), "peers")
		if err != nil {
			return
		}
		var again strings.Builder
		for _, p := range table.Peers() {
			fmt.Fprint(&again, p.Name)
			for _, a := range p.P2PAddrs() {
				fmt.Fprint(&again, " ", a)
			}
			fmt.Fprintln(&again)
			if got, ok := table.Lookup(p.Name); !ok || got.ID != p.ID || !table.Contains(p.ID) {
				t.Fatalf("%q is listed but not found", p.Name)
			}
		}
		back, err := ParseTable(strings.NewReader(again.String()), "again")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(plainsOf(table.Peers()), plainsOf(back.Peers())); diff != "" {
			t.Fatalf("does not survive a round trip (-want +got):\n%s", diff)
		}
	})
}

func TestParseRange(t *testing.T) {
	for s, want := range map[string]string{
		"10.0.0.0/8":             "10.0.0.0/8",
		" 10.1.2.3/8 ":           "10.0.0.0/8",
		"10.0.0.1":               "10.0.0.1/32",
		"fd00::/8":               "fd00::/8",
		"::1":                    "::1/128",
		"::ffff:10.0.0.1":        "10.0.0.1/32",
		"::ffff:10.0.0.0/104":    "10.0.0.0/8",
		"0.0.0.0/0":              "0.0.0.0/0",
		"/ip4/10.0.0.0/ipcidr/8": "10.0.0.0/8",
		"/ip6/fd00::1/ipcidr/8":  "fd00::/8",
		"/ip4/10.0.0.1":          "10.0.0.1/32",
		"/ip6/::ffff:10.0.0.1":   "10.0.0.1/32",
	} {
		if got, err := ParseRange(s); err != nil || got != netip.MustParsePrefix(want) {
			t.Errorf("ParseRange(%s) = %v, %v, want %s", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", "10.0.0.0/33", "10.0.0.0/", "/8", "fe80::1%eth0", "fe80::%eth0/64", "::ffff:0.0.0.0/95", "a.com", "10.0.0/8",
		"/ip4/10.0.0.0/ipcidr/33", "/ip4/10.0.0.0/tcp/1", "/dns4/a/ipcidr/8", "/ip4/10.0.0.0/ipcidr/8/tcp/1",
		"/" + strings.Repeat("a", MaxAddrLen),
	} {
		if got, err := ParseRange(s); !errors.Is(err, ErrBadRange) {
			t.Errorf("ParseRange(%.40s) = %v, %v", s, got, err)
		}
	}
}

func TestRangesContain(t *testing.T) {
	open := openIn(map[string]string{"ranges": "# lab\n192.168.0.0/16\nfe80::/10\n", "bad": "\n\nx"})
	ranges, err := ParseRanges([]string{"10.0.0.0/8", "@ranges"}, open)
	if err != nil {
		t.Fatal(err)
	}
	for ip, want := range map[string]bool{
		"10.255.0.1": true, "192.168.3.4": true, "::ffff:10.0.0.1": true, "fe80::1%eth0": true,
		"11.0.0.1": false, "::1": false,
	} {
		if got := ranges.Contains(netip.MustParseAddr(ip)); got != want {
			t.Errorf("Contains(%s) = %v", ip, got)
		}
	}
	var at *LineError
	if _, err := ParseRanges([]string{"@bad"}, open); !errors.As(err, &at) || at.Line != 3 || !errors.Is(err, ErrBadRange) {
		t.Errorf("bad file: %v", err)
	}
	if _, err := ParseRanges([]string{"@none"}, open); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestParseIDs(t *testing.T) {
	open := openIn(map[string]string{"ids": "# c\n" + addr1 + "/p2p/" + idA + "\n"})
	got, err := ParseIDs([]string{idBBase32, "@ids"}, open)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := ParseID(idA)
	b, _ := ParseID(idB)
	if diff := cmp.Diff([]peer.ID{b, a}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := ParseIDs([]string{"x"}, open); !errors.Is(err, ErrBadPeerID) {
		t.Errorf("bad id: %v", err)
	}
}
