package commands

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"dibber/netkit/replicate"
)

// TestKilledWhileAppending kills a process again and again while it signs lines: what it said is on disk is there, in order and
// proven, and the next one goes on from it.
func TestKilledWhileAppending(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("dibber")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	in := []string{"--store", filepath.Join(dir, "store"), "--state-dir", filepath.Join(dir, "state")}
	succeeds(t, append([]string{"replicate", "init"}, in...)...)
	succeeds(t, append([]string{"replicate", "log", "create", "lines"}, in...)...)
	held := uint64(0)
	for range 10 {
		acknowledged := killed(t, program, held, in)
		got := (session{}).run(t.Context(), append([]string{"replicate", "log", "cat", "lines"}, in...)...)
		if got.code != 0 {
			t.Fatalf("exit %d: %s", got.code, got.stderr)
		}
		lines := strings.Fields(got.stdout)
		for i, line := range lines {
			if line != fmt.Sprint(i+1) {
				t.Fatalf("entry %d holds %q", i+1, line)
			}
		}
		if held = uint64(len(lines)); held < acknowledged {
			t.Fatalf("%d entries were acknowledged, %d are left", acknowledged, held)
		}
		succeeds(t, append([]string{"replicate", "verify"}, in...)...)
	}
	if held == 0 {
		t.Error("nothing was ever stored")
	}
}

// killed lets a process append 3000 lines, numbers that begin after held, kills it somewhere in between, and returns the last number
// it acknowledged.
func killed(t *testing.T, program string, held uint64, in []string) uint64 {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, append([]string{"replicate", "log", "append", "lines", "-", "--lines", "--ndjson"}, in...)...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fed := make(chan struct{})
	go func() { // while the other end is there
		defer close(fed)
		for n := held + 1; n <= held+3000; n++ {
			if _, err := io.WriteString(stdin, fmt.Sprintln(n)); err != nil {
				return
			}
		}
	}()
	acknowledged := uint64(0)
	events := bufio.NewScanner(stdout)
	for enough := held + 1 + rand.Uint64N(2500); acknowledged < enough && events.Scan(); {
		var ev appendedEvent
		if err := json.Unmarshal(events.Bytes(), &ev); err != nil {
			t.Fatal(err)
		}
		acknowledged = ev.Last
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for events.Scan() { // what it said before it died counts
		var ev appendedEvent
		if json.Unmarshal(events.Bytes(), &ev) == nil && ev.Last > acknowledged {
			acknowledged = ev.Last
		}
	}
	_ = cmd.Wait() // killed
	<-fed
	return acknowledged
}

// TestDocumentsOfLogs pins the documents of replicate, with keys, ids and roots masked.
func TestDocumentsOfLogs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := []string{"--store", filepath.Join(dir, "store"), "--state-dir", filepath.Join(dir, "state")}
	hash := regexp.MustCompile(`(0020)?[0-9a-f]{64}`)
	for _, c := range []struct{ name, line string }{
		{"init", "replicate init"},
		{"log.create", "replicate log create notes"},
		{"log.append", "replicate log append notes hello"},
		{"log.ls", "replicate log ls"},
		{"log.cat", "replicate log cat notes"},
		{"log.tail", "replicate log tail notes"},
		{"grant", "replicate grant"},
		{"verify", "replicate verify"},
		{"forks", "replicate forks"},
		{"recover", "replicate recover"},
		{"stats", "replicate stats"},
	} {
		doc := succeeds(t, append(strings.Fields(c.line), in...)...)
		goldenDocument(t, "replicate."+c.name+".json", hash.ReplaceAllString(doc, "$1<hash>"))
	}
}

// TestDocumentsOfSync pins the documents of replication between two stores.
func TestDocumentsOfSync(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hash := regexp.MustCompile(`(0020)?[0-9a-f]{64}`)
	in := func(store string) []string { return []string{"--state-dir", filepath.Join(dir, store)} }
	do := func(store string, args ...string) string { return succeeds(t, append(args, in(store)...)...) }
	for _, store := range []string{"a", "b"} {
		do(store, "replicate", "init")
		do(store, "replicate", "log", "create", "notes")
		do(store, "replicate", "log", "append", "notes", "hello from "+store)
	}
	const quic = "/ip4/127.0.0.1/udp/0/quic-v1"
	served := start(t, append([]string{"replicate", "run", "--accept-any", "--listen", quic}, in("b")...)...)
	at := served.ready()
	pin := func(name, doc string) {
		t.Helper()
		goldenDocument(t, "replicate."+name+".json", hash.ReplaceAllString(doc, "$1<hash>"))
	}
	pin("sync.missing", do("a", "replicate", "sync", at.Addrs[0], "--dry-run", "--listen", quic))
	pin("sync", do("a", "replicate", "sync", at.Addrs[0], "--listen", quic))
	pin("sync.same", do("a", "replicate", "sync", at.Addrs[0], "--listen", quic))
	session := served.event("session")
	if err := fitsSchema([]byte(session)); err != nil {
		t.Error(err)
	}
	pin("run", lastDocument(served.stop()))
	pin("export", do("a", "replicate", "export", filepath.Join(dir, "bundle")))
	pin("import", do("b", "replicate", "import", filepath.Join(dir, "bundle")))
}

// TestProgressLine shows entries, bytes, rate, path and the time that is left.
func TestProgressLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		p    replicate.Progress
		path string
		want string
	}{
		{replicate.Progress{}, "", "[....................] 0 of 0 entries  0 B  0 B/s"},
		{
			replicate.Progress{Pulled: replicate.Count{Entries: 20, Bytes: 2048}, Pushed: replicate.Count{Entries: 5, Bytes: 2048}, Have: 10, Need: 90},
			"relayed",
			"[#####...............] 25 of 100 entries  4.0 KiB  2.0 KiB/s  relayed  6 s left",
		},
		{
			replicate.Progress{Pulled: replicate.Count{Entries: 4, Bytes: 10}, Need: 4},
			"direct",
			"[####################] 4 of 4 entries  10 B  5 B/s  direct",
		},
	} {
		if got := progressLine(c.p, 2*time.Second, c.path); got != c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}
