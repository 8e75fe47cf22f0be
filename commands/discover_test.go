package commands

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dibber/netkit/discover"
	"dibber/netkit/mdns"
	"dibber/netkit/rendezvous"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
)

const (
	foundPeer  = "12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm"
	serverPeer = "12D3KooWDaAnDbAyRbKs5izoL4V1L4g6HBAacyJTFht9TeguCKfi"
)

// sampleDiscover is a result with something in every field; what others wrote tries to steer the terminal.
func sampleDiscover(t *testing.T) discover.Result {
	t.Helper()
	a, errA := peer.Decode(foundPeer)
	b, errB := peer.Decode(serverPeer)
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	server := "/dns4/home.example/udp/4001/quic-v1/p2p/" + serverPeer
	return discover.Result{
		Namespace: new("chat"), Count: 2,
		Peers: []discover.Peer{
			{
				ID: a, Sources: []string{"rendezvous", "mdns"}, Namespace: new("chat"), TTL: new(int64(7199)),
				Addrs: []string{"/ip4/192.0.2.1/udp/4001/quic-v1/p2p/" + foundPeer, server + "/p2p-circuit/p2p/" + foundPeer},
				Probe: discover.Probe{State: discover.Reachable, RTT: new(1.25), Agent: new("agent\x1b[2J")},
				Found: []discover.Finding{
					{Source: "rendezvous", Server: &server, Namespace: new("chat"), TTL: new(int64(7199)), Seq: new(uint64(7)), Record: new("standard"), Newest: true},
					{Source: "mdns", TTL: new(int64(118)), Newest: true},
				},
			},
			{
				ID: b, Sources: []string{"table"}, Addrs: []string{"/ip4/192.0.2.2/tcp/1/p2p/" + serverPeer},
				Probe: discover.Probe{State: discover.Unreachable, Error: new("timeout")},
				Found: []discover.Finding{{Source: "table", Newest: true}},
			},
		},
		Sources: []discover.SourceResult{
			{Source: "rendezvous", Server: &server, OK: true, MS: new(38.5), Count: 1, Skipped: 2, Via: new("push")},
			{Source: "dnsaddr", Server: new("/dnsaddr/nowhere.example"), Error: new("no such\nhost")},
			{Source: "mdns", OK: true, Count: 1},
			{Source: "table", OK: true, MS: new(0.0), Count: 1},
		},
		Registrations: []discover.Registered{
			{Server: server, Namespace: "chat", State: "registered", TTL: new(int64(7200)), Addrs: []string{"/ip4/192.0.2.9/tcp/4001"}},
			{Server: server, Namespace: "two\nlines", State: "failed", Error: new("rendezvous E_UNAVAILABLE: full")},
		},
	}
}

// golden compares got with a file under testdata/golden, or writes it there when UPDATE_GOLDEN is set.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("..", "testdata", "golden", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestDiscoverGolden(t *testing.T) {
	t.Parallel()
	doc := discoverDoc{Result: sampleDiscover(t), o: &discoverOptions{Output: outputText, Probe: true}}
	line, err := encode(envelope{Schema: "discover/1", Time: time.Date(2026, 11, 20, 12, 0, 0, 5, time.UTC), ElapsedMS: 41}, doc, verdict{OK: true})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "discover.json", string(line))
	text := newText(newEnv(Stdio{}))
	doc.renderText(text)
	golden(t, "discover.txt", string(text.bytes()))
	if strings.Contains(string(text.bytes()), "\x1b") {
		t.Error("an agent steers the terminal")
	}
}

func TestDiscoverAddrs(t *testing.T) {
	t.Parallel()
	r := sampleDiscover(t)
	want := strings.Join(r.Peers[0].Addrs, "\n") + "\n" // the other peer was probed in vain
	for _, watch := range []bool{false, true} {
		doc := discoverDoc{Result: r, o: &discoverOptions{Output: outputAddrs, Watch: watch}}
		text := newText(newEnv(Stdio{}))
		doc.renderText(text)
		if watch {
			want = "" // they were printed as they came
		}
		if got := string(text.bytes()); got != want {
			t.Errorf("watch %v: printed %q, want %q", watch, got, want)
		}
		if got := doc.quiet() + "\n"; !watch && got != want {
			t.Errorf("quiet: %q, want %q", got, want)
		}
	}
	if got := (discoverDoc{Result: r, o: &discoverOptions{Output: outputText}}).quiet(); got != foundPeer+"\n"+serverPeer {
		t.Errorf("quiet: %q", got)
	}
}

func TestDiscoverLines(t *testing.T) {
	t.Parallel()
	p := sampleDiscover(t).Peers[1]
	for kind, want := range map[discover.EventKind]string{
		discover.PeerAdded:   "+ " + serverPeer + "  table  unreachable\n  /ip4/192.0.2.2/tcp/1",
		discover.PeerUpdated: "~ " + serverPeer + "  table  unreachable\n  /ip4/192.0.2.2/tcp/1",
		discover.PeerExpired: "- " + serverPeer + "  table",
	} {
		if got := (peerLines{p, kind}).line(); got != want {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
}

func TestDiscoverFailures(t *testing.T) {
	t.Parallel()
	source := func(err error) error {
		return &discover.SourceError{Source: discover.SourceRendezvous, Server: "/ip4/127.0.0.1/tcp/1", Err: err}
	}
	for _, c := range []struct {
		err  error
		exit exitCode
		code string
	}{
		{source(errors.New("connection refused")), exitUnreachable, "unreachable"},
		{source(&rendezvous.StatusError{Status: rendezvous.StatusNotAuthorized}), exitRefused, "refused"},
		{source(rendezvous.ErrUnsupported), exitProtocol, "no_rendezvous"},
		{source(rendezvous.ErrMalformedReply), exitProtocol, "malformed_reply"},
		{source(sec.ErrPeerIDMismatch{}), exitIdentity, "id_mismatch"},
		{&discover.SourceError{Source: discover.SourceMDNS, Err: mdns.ErrServiceName}, exitInternal, "mdns"},
		{&discover.SourceError{Source: discover.SourceDNSAddr, Err: errors.New("no such host")}, exitUnreachable, "name_unresolved"},
		{&discover.PartialError{Failed: 1, Of: 2, Err: source(rendezvous.ErrUnsupported)}, exitPartial, "partial"},
		{&discover.TooFewError{Min: 1, Err: source(rendezvous.ErrUnsupported)}, exitNotFound, "too_few"},
		{discover.ErrNotFound, exitNotFound, "not_found"},
	} {
		f := classify(c.err, nil)
		if f.Exit != c.exit || f.Code != c.code {
			t.Errorf("%v: exit %d %s, want %d %s", c.err, f.Exit, f.Code, c.exit, c.code)
		}
	}
}

func TestNamesOfDNSAddr(t *testing.T) {
	t.Parallel()
	got, err := dnsAddrs([]string{"home.example", "_dnsaddr.home.example", "/dnsaddr/home.example", "/dnsaddr/home.example/p2p/" + foundPeer})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"/dnsaddr/home.example", "/dnsaddr/home.example", "/dnsaddr/home.example", "/dnsaddr/home.example/p2p/" + foundPeer} {
		if got[i].String() != want {
			t.Errorf("%s, want %s", got[i], want)
		}
	}
	for _, bad := range []string{"/dns4/home.example", "/", "a/b"} {
		if got, err := dnsAddrs([]string{bad}); err == nil {
			t.Errorf("%s is read as %s", bad, got)
		}
	}
}

// TestOneNameForASwitchAndAFlag holds that a flag may stand before its command although another command has a switch of its name.
func TestOneNameForASwitchAndAFlag(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ line, command, flags string }{
		{"--rendezvous @home discover", "discover", "rendezvous=@home"},
		{"--rendezvous=@home discover", "discover", "rendezvous=@home"},
		{"--rendezvous serve", "serve", "rendezvous=true"},
		{"--rendezvous --relay serve", "serve", "rendezvous=true relay=true"},
		{"--rendezvous=false serve", "serve", "rendezvous=false"},
		{"--register @home serve", "serve", "register=@home"},
		{"--register discover --rendezvous @home", "discover", "register=true rendezvous=@home"},
	} {
		in, err := parse(newEnv(Stdio{}), strings.Fields(c.line))
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
			continue
		}
		var flags []string
		for _, g := range in.flags {
			flags = append(flags, g.name+"="+g.value)
		}
		if got := strings.Join(flags, " "); in.spec.name != c.command || got != c.flags {
			t.Errorf("%s: %s with %s, want %s with %s", c.line, in.spec.name, got, c.command, c.flags)
		}
	}
	session{}.run(t.Context(), "--rendezvous", "discover").wrongUsage(t, "--rendezvous needs a value")
	session{}.run(t.Context(), "--rendezvous", "@home", "serve").wrongUsage(t, `--rendezvous: "@home" is not true or false`)
}

func TestSourcesAreShared(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(file, []byte("rendezvous = ['@a', '@b']\nmdns = true\n[dial]\nnamespace = 'chat'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := session{env: map[string]string{"DIBBER_CONFIG": file, "DIBBER_NAMESPACE": "other"}}
	for _, command := range []string{"discover", "dial", "ping", "id"} {
		got := s.run(t.Context(), "config", "show", command, "--json").document(t)
		values := map[string]any{}
		for _, one := range got["settings"].([]any) {
			setting := one.(map[string]any)
			values[setting["key"].(string)] = setting["value"]
		}
		want := map[string]any{"rendezvous": []any{"@a", "@b"}, "mdns": true, "namespace": "other"}
		for key, v := range want {
			if diff := cmp.Diff(v, values[key]); diff != "" {
				t.Errorf("%s --%s: %s", command, key, diff)
			}
		}
	}
}
