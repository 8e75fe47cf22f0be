//go:build linux

package netns_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dibber/netkit/natlab"
	"dibber/netkit/netns"
)

func TestProcess(t *testing.T) {
	lab := netns.New(t, natlab.Config{})
	alice := lab.Behind("alice", natlab.RouterConfig{})
	p := alice.Start("sh", "-c", `echo '{"event":"other"}'; echo noise; echo '{"event":"ready","n":7}'; read x < /dev/null; exec sleep 1000`)
	if got := p.Event("ready")["n"]; got != 7.0 {
		t.Errorf("n is %v", got)
	}
	alice.Start("sh", "-c", "echo starting >&2; echo listening >&2; exec sleep 1000").Says("listening")
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(); code != -1 {
		t.Errorf("a killed program ended with %d", code)
	}
	if code := alice.Start("sh", "-c", "exit 3").Wait(); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	if out := alice.Run("ip", "-4", "-o", "addr", "show", "up0"); !strings.Contains(out, alice.Addr().String()) {
		t.Errorf("up0 has no %s: %s", alice.Addr(), out)
	}
}

// crashEnv makes TestNothingStaysAfterACrash the program that crashes.
const crashEnv = "NETNS_TEST_CRASH"

// TestNothingStaysAfterACrash kills a test that holds a lab with running programs:
// they end, and nothing keeps a namespace: no process, no file, no name.
func TestNothingStaysAfterACrash(t *testing.T) {
	lab := netns.New(t, natlab.Config{})
	if os.Getenv(crashEnv) != "" {
		office := lab.Router(lab.Internet(), "office", netns.RouterConfig{})
		for _, h := range []*netns.Host{office.Inside("bob"), lab.Behind("alice", natlab.RouterConfig{}), office.Host} {
			h.Start("sh", "-c", "readlink /proc/self/ns/net; exec sleep 1000")
			fmt.Println(h.Run("readlink", "/proc/self/ns/net"))
		}
		fmt.Println("standing")
		select {}
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run=^TestNothingStaysAfterACrash$")
	cmd.Env = append(os.Environ(), crashEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for buffer := make([]byte, 1000); !strings.Contains(text.String(), "standing"); {
		n, err := out.Read(buffer)
		if text.Write(buffer[:n]); err != nil {
			t.Fatalf("it printed %q: %v", &text, err)
		}
	}
	namespaces := strings.Fields(strings.TrimSuffix(text.String(), "standing\n"))
	if held := holders(t, namespaces); len(namespaces) != 3 || len(held) < 4 {
		t.Fatalf("namespaces %q are held by %q: expected its three programs and itself", namespaces, held)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		held := holders(t, namespaces)
		if len(held) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("namespaces are still held by %q", held)
		}
	}
}

// holders lists what keeps one of the namespaces: the processes that are in it or
// have a file of it open, and names that were given to it.
func holders(t *testing.T, namespaces []string) (held []string) {
	t.Helper()
	const names = "/run/netns"
	named, err := os.ReadDir(names)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, n := range named {
		var s syscall.Stat_t
		if syscall.Stat(filepath.Join(names, n.Name()), &s) == nil && slices.Contains(namespaces, fmt.Sprintf("net:[%d]", s.Ino)) {
			held = append(held, n.Name())
		}
	}
	processes, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		links, err := filepath.Glob(filepath.Join("/proc", p.Name(), "fd", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range append(links, filepath.Join("/proc", p.Name(), "ns/net")) {
			target, err := os.Readlink(link) // a process may end meanwhile
			if err == nil && slices.Contains(namespaces, target) {
				held = append(held, p.Name())
				break
			}
		}
	}
	return held
}
