package etcd_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"dibber/netkit/etcd"
)

// member is a real etcd of one member.
type member struct {
	at   string
	args []string
	cmd  *exec.Cmd
	log  bytes.Buffer
}

// needEtcd skips a test where there is none.
func needEtcd(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		t.Skip("no etcd in PATH (Debian: etcd-server): the shared registry is not tested")
	}
}

// newMember starts an etcd that ends with the test, which is skipped where there is none.
func newMember(t testing.TB) *member {
	t.Helper()
	return startMember(t, etcd.Config{})
}

// startMember is newMember with arguments of its own. It is there once cfg can read.
func startMember(t testing.TB, cfg etcd.Config, args ...string) *member {
	t.Helper()
	m := newMembers(t, 1, cfg, args...)[0]
	m.await(t, cfg)
	return m
}

// newMembers starts an etcd of n members, which speak to clients as cfg does.
func newMembers(t testing.TB, n int, cfg etcd.Config, args ...string) (members []*member) {
	t.Helper()
	needEtcd(t)
	scheme := "http://"
	if cfg.TLS != nil {
		scheme = "https://"
	}
	var peers []string
	for i := range n {
		peers = append(peers, fmt.Sprintf("m%d=http://%s", i, freeAddr(t)))
	}
	for _, peer := range peers {
		name, at, _ := strings.Cut(peer, "=")
		m := &member{at: freeAddr(t)}
		m.args = append([]string{
			"--name", name, "--data-dir", t.TempDir(), "--listen-client-urls", scheme + m.at, "--advertise-client-urls", scheme + m.at,
			"--listen-peer-urls", at, "--initial-advertise-peer-urls", at, "--initial-cluster", strings.Join(peers, ","),
		}, args...)
		m.start(t)
		t.Cleanup(func() { m.kill() })
		members = append(members, m)
	}
	return members
}

// await waits until the member answers.
func (m *member) await(t testing.TB, cfg etcd.Config) {
	t.Helper()
	cfg.Attempt = 30 * time.Second
	if _, _, err := m.space(t, cfg).Get(t.Context(), "ready"); err != nil {
		t.Fatalf("etcd does not come up: %v\n%s", err, m.log.String())
	}
}

func (m *member) start(t testing.TB) {
	t.Helper()
	m.cmd = exec.CommandContext(context.Background(), "etcd", m.args...)
	m.cmd.Stderr = &m.log
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func (m *member) kill() {
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait()
}

// space opens the member's keys.
func (m *member) space(t testing.TB, cfg etcd.Config) *etcd.Space {
	t.Helper()
	if cfg.Prefix = cmp.Or(cfg.Prefix, "/test"); cfg.Endpoints == nil {
		cfg.Endpoints = []string{m.at}
	}
	s, err := etcd.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return fmt.Sprintf("127.0.0.1:%d", l.Addr().(*net.TCPAddr).Port)
}
