package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dibber/netkit/nat"
)

// unset is an environment without variables.
func unset(string) (string, bool) { return "", false }

// running is a long-lived command in this process.
type running struct {
	t    *testing.T
	end  context.CancelCauseFunc
	done chan struct{}
	code int

	mu     sync.Mutex
	out    bytes.Buffer
	grown  chan struct{} // closed and replaced when out has grown
	stderr bytes.Buffer
}

// start runs dibber with --ndjson until the test or stop ends it.
func start(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	r := &running{t: t, end: cancel, done: make(chan struct{}), grown: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.code = Main(ctx, append(args, "--ndjson"), Stdio{Out: r, Err: &r.stderr, LookupEnv: unset})
	}()
	t.Cleanup(func() { r.stop() })
	return r
}

// Write takes stdout.
func (r *running) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.grown)
	r.grown = make(chan struct{})
	return r.out.Write(b)
}

// event waits for an event and returns its line.
func (r *running) event(name string) string {
	r.t.Helper()
	limit := time.After(scriptPatience)
	for {
		r.mu.Lock()
		text, grown := r.out.String(), r.grown
		r.mu.Unlock()
		for line := range strings.Lines(text) {
			if strings.Contains(line, `"event":"`+name+`"`) {
				return line
			}
		}
		select {
		case <-grown:
		case <-r.done:
			r.t.Fatalf("exit %d before %s: %s", r.code, name, r.stderr.String())
		case <-limit:
			r.t.Fatalf("no %s within %s", name, scriptPatience)
		}
	}
}

// stop ends the command as Ctrl-C does and returns all that it printed.
func (r *running) stop() string {
	r.end(&signalError{syscall.SIGINT})
	<-r.done
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

// ready are the fields of a ready event that others need.
type ready struct {
	Peer  string
	Addrs []string
}

func (r *running) ready() ready {
	r.t.Helper()
	var doc ready
	if err := json.Unmarshal([]byte(r.event("ready")), &doc); err != nil {
		r.t.Fatal(err)
	}
	return doc
}

// succeeds runs dibber and returns the document of a run that must end well.
func succeeds(t *testing.T, args ...string) string {
	t.Helper()
	got := (session{}).run(t.Context(), append(args, "--json")...)
	if got.code != 0 {
		t.Fatalf("%q: exit %d: %s", args, got.code, got.stderr)
	}
	return got.stdout
}

// fails runs dibber and returns the document of a run that must end with this code.
func fails(t *testing.T, code exitCode, args ...string) string {
	t.Helper()
	got := (session{}).run(t.Context(), append(args, "--json")...)
	if got.code != int(code) {
		t.Fatalf("%q: exit %d, want %d: %s", args, got.code, code, got.stderr)
	}
	return got.stdout
}

// TestDocumentsOfNewKeys pins the documents of the commands that need no network and no given key.
func TestDocumentsOfNewKeys(t *testing.T) {
	t.Parallel()
	goldenDocument(t, "key.new.json", succeeds(t, "key", "new", "-o", filepath.Join(t.TempDir(), "new.key")))
	goldenDocument(t, "key.invite.json", succeeds(t, "key", "invite", "--state-dir", t.TempDir(), "--addr", "/ip4/192.0.2.7/udp/4001/quic-v1", "--namespace", "chat"))
	goldenDocument(t, "schema.json", succeeds(t, "schema", "psk", "new"))
}

// TestDocumentsOfHosts pins the documents of the commands that open a host, and every event that they print on the way.
func TestDocumentsOfHosts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const quic, tcp = "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"
	server := start(t, "serve", "--relay", "--rendezvous", "--vantage", "--perf", "--state-dir", filepath.Join(dir, "server"), "--listen", quic)
	at := server.ready()
	relayed := start(t, "serve", "--use-relay", at.Addrs[0], "--state-dir", filepath.Join(dir, "relayed"), "--listen", tcp)
	registered := start(t, "serve", "--register", at.Addrs[0], "--namespace", "chat",
		"--state-dir", filepath.Join(dir, "registered"), "--listen", tcp)
	piped := start(t, "pipe", "listen", "--tcp", "127.0.0.1:1", "--listen", tcp)
	goldenDocument(t, "pipe.listen.ready.json", piped.event("ready"))
	documentsFit(t, piped.stop())
	listens := start(t, "holepunch", "listen", "--relay", at.Addrs[0], "--listen", tcp)
	relayed.event("reservation.reserved")
	listens.event("reservation.reserved")
	registered.event("registration.registered")
	peer := relayed.ready()

	ready := strings.ReplaceAll(server.event("ready"), dir, "<dir>")
	goldenDocument(t, "serve.ready.json", ready)
	goldenDocument(t, "dial.json", succeeds(t, "dial", at.Addrs[0], "--listen", quic))
	goldenDocument(t, "dial.each.json", succeeds(t, "dial", at.Addrs[0], "--listen", quic, "--each"))
	goldenDocument(t, "dial.relayed.json", succeeds(t, "dial", at.Addrs[0]+"/p2p-circuit/p2p/"+peer.Peer, "--relay-only", "--listen", tcp, "--ping", "1"))
	goldenDocument(t, "dial.several.json", fails(t, exitPartial, "dial", at.Addrs[0], "/ip4/127.0.0.1/tcp/1/p2p/"+peer.Peer, "--listen", quic))
	goldenDocument(t, "dial.failed.json", fails(t, exitUnreachable, "dial", "/ip4/127.0.0.1/tcp/1/p2p/"+at.Peer, "--listen", quic))
	goldenDocument(t, "holepunch.failed.json", fails(t, exitUnreachable, "holepunch", "/ip4/127.0.0.1/tcp/1/p2p/"+at.Peer+"/p2p-circuit/p2p/"+peer.Peer, "--listen", quic))
	goldenDocument(t, "pipe.json", fails(t, exitProtocol, "pipe", at.Addrs[0], "--tcp", "127.0.0.1:1", "--listen", quic))
	goldenDocument(t, "ping.json", succeeds(t, "ping", at.Addrs[0], "--listen", quic, "-c", "2", "-i", "1ms"))
	goldenDocument(t, "perf.json", succeeds(t, "perf", at.Addrs[0], "--listen", quic, "--bytes", "1000", "--raw"))
	goldenDocument(t, "natcheck.json", fails(t, exitInconclusive, "natcheck", "--server", at.Addrs[0], "--listen", quic, "--no-history"))
	goldenDocument(t, "id.json", succeeds(t, "id", "--state-dir", filepath.Join(dir, "own"), "--listen", quic))
	goldenDocument(t, "id.remote.json", succeeds(t, "id", at.Addrs[0], "--listen", quic))
	goldenDocument(t, "discover.live.json", succeeds(t, "discover", "--rendezvous", at.Addrs[0], "--listen", quic, "--probe"))

	for _, line := range [][]string{
		{"dial", at.Addrs[0]},
		{"dial", at.Addrs[0] + "/p2p-circuit/p2p/" + peer.Peer, "--relay-only"},
		{"ping", at.Addrs[0], "-c", "2", "-i", "1ms"},
		{"holepunch", at.Addrs[0] + "/p2p-circuit/p2p/" + listens.ready().Peer},
		{"holepunch", at.Addrs[0] + "/p2p-circuit/p2p/" + listens.ready().Peer, "--count", "2", "--interval", "1ms"},
		{"id", at.Addrs[0]},
		{"natcheck", "--server", at.Addrs[0], "--no-history"},
		{"explain", at.Addrs[0]},
		{"discover", "--rendezvous", at.Addrs[0], "--register", "--namespace", "chat", "--for", "100ms"},
	} {
		documentsFit(t, (session{}).run(t.Context(), append(line, "--ndjson", "--listen", tcp)...).stdout)
	}
	documentsFit(t, registered.stop())
	documentsFit(t, relayed.stop())
	told := listens.stop()
	documentsFit(t, told)
	goldenDocument(t, "holepunch.listen.json", lastDocument(told))
	all := server.stop()
	documentsFit(t, all)
	goldenDocument(t, "serve.json", oneCircuit(lastDocument(all)))
}

// oneCircuit replaces what the relay has counted, which depends on how often its clients
// tried.
func oneCircuit(doc string) string {
	totals := regexp.MustCompile(`"relay":\{"reservations":\d+,"renewals":\d+,"circuits":\d+,"bytes":\d+,"refused":\{\},"closed":\{[^}]+\}\}`)
	return totals.ReplaceAllString(doc, `"relay":{"reservations":1,"renewals":0,"circuits":1,"bytes":1,"refused":{},"closed":{"source-gone":1}}`)
}

// TestDocumentOfExplain pins what explain prints of two hosts that cannot connect directly.
func TestDocumentOfExplain(t *testing.T) {
	t.Parallel()
	d := document()
	d.Verdict, d.Families.IP4.UDP.Filtering, d.Families.IP4.UDP.PortPattern = nat.Hard, new(nat.APDF), new(nat.Random)
	d.Families.IP4.UDP.Mapping, d.Families.IP4.UDP.MappingVaries, d.Families.IP4.UDP.LetsOtherPort = new(nat.APDM), new(true), new(false)
	dir := t.TempDir()
	var files []string
	for name, at := range map[string]string{"a.json": "17.0.0.1:4001", "b.json": "17.0.0.2:4001"} {
		d.Families.IP4.UDP.Observed = []netip.AddrPort{netip.MustParseAddrPort(at)}
		raw, err := encode(envelope{Schema: "natcheck/1"}, d)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, filepath.Join(dir, name))
	}
	slices.Sort(files)
	goldenDocument(t, "explain.json", strings.ReplaceAll(succeeds(t, "explain", files[0], files[1]), dir, "<dir>"))
}

// lastDocument is the document that the last line of --ndjson stands for.
func lastDocument(lines string) string {
	all := strings.Split(strings.TrimSpace(lines), "\n")
	return strings.Replace(all[len(all)-1], `"event":"summary",`, "", 1)
}

// TestEveryDocumentIsPinned holds that there is a golden file for each command.
func TestEveryDocumentIsPinned(t *testing.T) {
	t.Parallel()
	walk(newEnv(Stdio{}).root, func(s *spec) {
		name := filepath.Join("..", "testdata", "golden", strings.Join(s.path, "."))
		whole, err := filepath.Glob(name + ".json")
		variants, moreErr := filepath.Glob(name + ".*.json")
		if err := errors.Join(err, moreErr); err != nil {
			t.Fatal(err)
		}
		if len(whole)+len(variants) == 0 {
			t.Errorf("no golden file is called %s.json", name)
		}
	})
}
