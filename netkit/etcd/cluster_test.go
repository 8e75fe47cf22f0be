package etcd_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
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

// newMember starts an etcd that ends with the test, which is skipped where there is none.
func newMember(t testing.TB) *member {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		t.Skip("no etcd in PATH (Debian: etcd-server): the shared registry is not tested")
	}
	m := &member{at: freeAddr(t)}
	peers := freeAddr(t)
	m.args = []string{
		"--data-dir", t.TempDir(), "--listen-client-urls", "http://" + m.at, "--advertise-client-urls", "http://" + m.at,
		"--listen-peer-urls", "http://" + peers, "--initial-advertise-peer-urls", "http://" + peers, "--initial-cluster", "default=http://" + peers,
	}
	m.start(t)
	t.Cleanup(func() { m.kill() })
	s := m.space(t, etcd.Config{Attempt: 30 * time.Second})
	if _, _, err := s.Get(t.Context(), "ready"); err != nil {
		t.Fatalf("etcd does not come up: %v\n%s", err, m.log.String())
	}
	return m
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
	cfg.Endpoints, cfg.Prefix = []string{m.at}, "/test"
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
