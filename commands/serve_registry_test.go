package commands

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dibber/netkit/etcd"
	"dibber/netkit/rendezvous"
)

// TestSharedRegistry holds what --registry and the flags about it accept; netkit/etcd tests what they do.
func TestSharedRegistry(t *testing.T) {
	for at, want := range map[string]string{
		"etcd://a:1,b/x/y/": "[a:1 b:2379] /x/y false",
		"etcds://[::1]:7":   "[[::1]:7]  true",
	} {
		o := registryOptions{At: at}
		cfg, secure, err := o.parse()
		if got := fmt.Sprint(cfg.Endpoints, " ", cfg.Prefix, " ", secure); err != nil || got != want {
			t.Errorf("%s: %s, %v, not %s", at, got, err, want)
		}
	}
	for _, line := range []string{
		"--registry a:1", "--registry http://a", "--registry etcd://", "--registry etcd://a,,b", "--registry-ca ca",
		"--registry etcds://a --registry-cert c", "--registry etcds://a --registry-key k", "--registry etcd://a --registry-ca ca",
		"--registry etcd://a --registry-user u", "--registry etcd://a --registry-password-file p",
		"--registry etcds://a --registry-ca /nowhere", "--registry etcds://a --registry-cert /nowhere --registry-key /nowhere",
		"--registry etcd://a --registry-user u --registry-password-file /nowhere",
	} {
		args := append(strings.Fields("serve --rendezvous --identity ephemeral --listen /ip4/127.0.0.1/udp/0/quic-v1 --state-dir"), t.TempDir())
		session{}.run(t.Context(), append(args, strings.Fields(line)...)...).wrongUsage(t, "--registry")
	}
}

// sharingArgs start a node with a shared registry.
func sharingArgs(dir, registry string, more ...string) []string {
	return append([]string{
		"serve", "--rendezvous", "--registry", registry, "--state-dir", dir, "--identity", "ephemeral", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1",
	}, more...)
}

// TestRegistryRefuses: a registry that does not let the node in ends serve at once, with a class, a cause and a hint.
func TestRegistryRefuses(t *testing.T) {
	t.Parallel()
	stranger := httptest.NewUnstartedServer(nil) // whose certificate nobody trusts
	stranger.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	stranger.StartTLS()
	defer stranger.Close()
	got := (session{}).run(t.Context(), sharingArgs(t.TempDir(), "etcds://"+stranger.Listener.Addr().String(), "--json")...)
	doc := got.document(t)["error"].(map[string]any)
	if got.code != int(exitIdentity) || doc["code"] != "registry_tls" || doc["hint"] == nil || !strings.Contains(fmt.Sprint(doc["message"]), "x509: ") {
		t.Errorf("exit %d: %v", got.code, doc)
	}
	for reason, want := range map[error]exitCode{
		etcd.ErrTLS: exitIdentity, etcd.ErrLogin: exitRefused, etcd.ErrNoRight: exitRefused, rendezvous.ErrSpaceForeign: exitProtocol,
	} {
		if f := classify(fmt.Errorf("open: %w: %w", rendezvous.ErrSpaceRefused, reason), nil); f.Exit != want || !strings.HasPrefix(f.Code, "registry_") || f.Hint == "" {
			t.Errorf("%v: %+v", reason, f)
		}
	}
	if f := classify(errors.Join(rendezvous.ErrSpaceAway), nil); f.Exit != exitInternal {
		t.Errorf("away: %+v", f)
	}
}

// TestRegistryAway starts a node before its registry: it comes up, says to everybody who may ask that it cannot use the registry, and
// then that it can.
func TestRegistryAway(t *testing.T) {
	if _, err := exec.LookPath("etcd"); err != nil {
		t.Skip("no etcd in PATH (Debian: etcd-server): a registry that comes is not tested")
	}
	var at []string // of its clients, and of members
	for range 2 {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, l.Addr().String())
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	told := manageService(t)
	statusIs := func(want string) {
		t.Helper()
		for {
			select {
			case message := <-told:
				if strings.HasPrefix(message, "STATUS="+want) {
					return
				}
			case <-time.After(scriptPatience):
				t.Fatalf("the service manager is not told %q", want)
			}
		}
	}
	dir := t.TempDir()
	node := start(t, sharingArgs(dir, "etcd://"+at[0]+"/chat", "--http", "127.0.0.1:0")...)
	var ready struct{ HTTP string }
	if err := json.Unmarshal([]byte(node.event("ready")), &ready); err != nil {
		t.Fatal(err)
	}
	if line := node.event("registry.lost"); !strings.Contains(line, "connection refused") {
		t.Errorf("it does not say why: %s", line)
	}
	statusIs("registry lost: ")
	looks := func(status int, word string, up bool) {
		t.Helper()
		if got, body := seen(t, ready.HTTP+"readyz"); got != status || body != word+"\n" {
			t.Errorf("readyz: %d %s", got, body)
		}
		var doc struct{ Registry registryDoc }
		if err := json.Unmarshal([]byte(succeeds(t, "ctl", "status", "--state-dir", dir)), &doc); err != nil || doc.Registry.Up != up || (doc.Registry.Error == nil) != up {
			t.Errorf("ctl status: %+v, %v", doc, err)
		}
	}
	looks(503, "registry away", false)
	member := exec.CommandContext(t.Context(), "etcd", "--data-dir", t.TempDir(), "--listen-client-urls", "http://"+at[0], "--advertise-client-urls", "http://"+at[0],
		"--listen-peer-urls", "http://"+at[1], "--initial-advertise-peer-urls", "http://"+at[1], "--initial-cluster", "default=http://"+at[1])
	if err := member.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = member.Process.Kill(); _ = member.Wait() }()
	node.event("registry.back")
	statusIs("registry back")
	looks(200, "ready", true)
	backup := succeeds(t, "ctl", "backup", filepath.Join(t.TempDir(), "a.tar"), "--state-dir", dir)
	if !strings.Contains(backup, `"registrations in etcd://`+at[0]+`/chat"`) {
		t.Errorf("the backup does not say what is not in it: %s", backup)
	}
	documentsFit(t, node.stop())
}
