package rendezvous

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
)

// TestInterop runs against peers made of other implementations: programs named
// in DIBBER_RENDEZVOUS_PEERS as a list of paths. Two are in testdata/interop;
// in the top folder of the repository:
//
//	(cd testdata/interop/waku && go build -o /tmp/waku-peer .)
//	(cd testdata/interop/rust && cargo build --locked --target-dir /tmp/rust-peer)
//	DIBBER_RENDEZVOUS_PEERS=/tmp/waku-peer:/tmp/rust-peer/debug/rust-rendezvous-peer \
//		go test ./netkit/rendezvous -run TestInterop
func TestInterop(t *testing.T) {
	programs := filepath.SplitList(os.Getenv("DIBBER_RENDEZVOUS_PEERS"))
	if len(programs) == 0 {
		t.Skip("DIBBER_RENDEZVOUS_PEERS names no programs")
	}
	for _, program := range programs {
		t.Run(filepath.Base(program), func(t *testing.T) {
			t.Run("our server", func(t *testing.T) {
				point := newHost(t)
				newServer(t, point, ServerConfig{})
				interop(t, program, addrOf(point), infoOf(point))
				readsOtherFlavour(t, program, point)
			})
			t.Run("their server", func(t *testing.T) {
				addr := start(t, program, "serve")
				info, err := peer.AddrInfoFromString(addr)
				if err != nil {
					t.Fatal(err)
				}
				interop(t, program, addr, *info)
			})
		})
	}
}

func addrOf(h host.Host) string { return h.Addrs()[0].String() + "/p2p/" + h.ID().String() }

// interop registers one of ours and one of theirs at a server, and lets both
// kinds look.
func interop(t *testing.T, program, addr string, server peer.AddrInfo) {
	ours, reader := newHost(t), newHost(t)
	if _, err := Register(testContext(t), ours, server, RegisterRequest{Namespace: "garden"}); err != nil {
		t.Fatal(err)
	}
	theirs := start(t, program, "register", addr, "garden")
	want := []string{ours.ID().String(), theirs}
	slices.Sort(want)

	page, err := DiscoverAll(testContext(t), reader, server, DiscoverRequest{Namespace: "garden"})
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, e := range page.Entries {
		found = append(found, e.Peer.String())
		if len(e.Addrs) == 0 || e.Namespace != "garden" || e.TTL == nil {
			t.Errorf("we found %+v", e)
		}
	}
	slices.Sort(found)
	if diff := cmp.Diff(want, found); diff != "" || page.Skipped != 0 {
		t.Errorf("we found, %d skipped: %s", page.Skipped, diff)
	}

	out, err := exec.CommandContext(testContext(t), program, "discover", addr, "garden").Output()
	if err != nil {
		t.Fatalf("they could not discover: %v", err)
	}
	found = nil
	for line := range bytes.FieldsSeq(out) {
		found = append(found, string(line))
	}
	slices.Sort(found)
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("they found: %s", diff)
	}

	if err := Unregister(testContext(t), ours, server, "garden"); err != nil {
		t.Fatal(err)
	}
	page, err = DiscoverAll(testContext(t), reader, server, DiscoverRequest{Namespace: "garden"})
	if err != nil || len(page.Entries) != 1 || page.Entries[0].Peer.String() != theirs {
		t.Errorf("after unregistering: %+v, %v", page.Entries, err)
	}
}

// readsOtherFlavour has them look where there is one record of each flavour
// alone: what they cannot read must not cost them the rest.
func readsOtherFlavour(t *testing.T, program string, point host.Host) {
	standard, legacy := newHost(t), newHost(t)
	for h, format := range map[host.Host]Format{standard: FormatStandard, legacy: FormatLegacy} {
		if _, err := Register(testContext(t), h, infoOf(point), RegisterRequest{Namespace: "mixed", Format: format}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(testContext(t), program, "discover", addrOf(point), "mixed").Output()
	if found := bytes.Fields(out); err != nil || len(found) != 1 {
		t.Errorf("they found %s, %v; want the one they can read", found, err)
	}
}

// start runs a program that lives until its input ends, and returns the first
// line it prints.
func start(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(testContext(t), program, args...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("%s %v said %q: %v", program, args, line, err)
	}
	go io.Copy(io.Discard, stdout)
	return line[:len(line)-1]
}
