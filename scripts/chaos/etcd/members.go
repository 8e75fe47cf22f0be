//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"dibber/scripts/node"
)

// firstUser is the user that the first member runs as; the kernel tells packets of members apart by it.
const firstUser = 64_101

// ownNetwork gives a process a network namespace of its own.
func ownNetwork() *syscall.SysProcAttr { return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET} }

// members are the processes of one etcd.
type members struct{ list []*member }

// member is an etcd process, always started by the same command line.
type member struct {
	client, peers int // ports
	user          uint32
	args          []string
	cmd           *exec.Cmd
	log           bytes.Buffer
	exited        chan struct{}
}

func newMembers(ctx context.Context, dir string) (*members, error) {
	m := &members{}
	var cluster []string
	ports, err := node.FreePorts(6)
	if err != nil {
		return nil, err
	}
	for i := range 3 {
		one := &member{client: ports[2*i], peers: ports[2*i+1], user: firstUser + uint32(i)}
		m.list = append(m.list, one)
		cluster = append(cluster, fmt.Sprintf("m%d=http://127.0.0.1:%d", i, one.peers))
	}
	for i, one := range m.list {
		data := filepath.Join(dir, fmt.Sprintf("member%d", i))
		if err := os.Mkdir(data, 0o700); err != nil {
			return nil, err
		}
		if err := os.Chown(data, int(one.user), int(one.user)); err != nil {
			return nil, err
		}
		at := func(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }
		one.args = []string{
			"--name", fmt.Sprintf("m%d", i), "--data-dir", data, "--initial-cluster", strings.Join(cluster, ","),
			"--listen-client-urls", at(one.client), "--advertise-client-urls", at(one.client),
			"--listen-peer-urls", at(one.peers), "--initial-advertise-peer-urls", at(one.peers),
		}
		if err := one.start(ctx); err != nil {
			m.close()
			return nil, err
		}
	}
	return m, nil
}

// registry is how a server names keys of this etcd.
func (m *members) registry(prefix string) string {
	var at []string
	for _, one := range m.list {
		at = append(at, fmt.Sprintf("127.0.0.1:%d", one.client))
	}
	return "etcd://" + strings.Join(at, ",") + "/" + prefix
}

func (m *members) close() {
	for _, one := range m.list {
		one.kill()
	}
}

// start starts the process. It takes part as soon as it finds the others.
func (m *member) start(ctx context.Context) error {
	m.log.Reset()
	m.cmd = exec.CommandContext(ctx, "etcd", m.args...)
	m.cmd.Stderr = &m.log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: m.user, Gid: m.user}}
	m.exited = make(chan struct{})
	if err := m.cmd.Start(); err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(m.cmd, m.exited)
	return nil
}

// kill ends it with SIGKILL.
func (m *member) kill() {
	if m.cmd != nil && m.cmd.Process != nil {
		_ = m.cmd.Process.Kill()
		<-m.exited
	}
}

// cut drops whatever a member and the others send each other. Clients reach it as before.
func (m *members) cut(ctx context.Context, which int) error {
	var others []string
	for i, one := range m.list {
		if i != which {
			others = append(others, fmt.Sprint(one.peers))
		}
	}
	off := m.list[which]
	err := nft(ctx, fmt.Sprintf(`table ip chaos {
	chain output {
		type filter hook output priority 0;
		tcp dport %d drop
		tcp sport %d drop
		meta skuid %d tcp dport { %s } drop
	}
}`, off.peers, off.peers, off.user, strings.Join(others, ", ")))
	if err != nil {
		return err
	}
	dialer := net.Dialer{Timeout: time.Second}
	if conn, err := dialer.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", off.peers)); err == nil {
		return errors.Join(errors.New("the member that was cut off still answers others"), conn.Close())
	}
	return nil
}

// heal ends the cut.
func (m *members) heal(ctx context.Context) error { return nft(ctx, "delete table ip chaos") }

func nft(ctx context.Context, rules string) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// settle is how long members and servers may take to be there again after a fault.
const settle = 20 * time.Second
