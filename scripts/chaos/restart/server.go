package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// server is dibber serve in a process of its own, always started by the same command line.
type server struct {
	binary    string
	args      []string
	readyFile string

	info   peer.AddrInfo
	tookS  float64 // from its last start until it was ready
	cmd    *exec.Cmd
	begun  time.Time
	stderr bytes.Buffer
	exited chan struct{}
}

// newServer prepares a server on a port that is free now, with its state in dir.
func newServer(binary, dir string) (*server, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	if err := l.Close(); err != nil {
		return nil, err
	}
	s := &server{binary: binary, readyFile: filepath.Join(dir, "ready")}
	s.args = []string{
		"serve", "--relay", "--rendezvous", "--state-dir", filepath.Join(dir, "state"), "--ready-file", s.readyFile,
		"--listen", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", l.Addr().(*net.TCPAddr).Port), "--quiet",
	}
	return s, nil
}

func (s *server) start(ctx context.Context) error {
	// A killed server has left its file, and the next removes it only when it is under way.
	if err := os.Remove(s.readyFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.stderr.Reset()
	s.cmd = exec.CommandContext(ctx, s.binary, s.args...)
	s.cmd.Stderr = &s.stderr
	s.begun, s.exited = time.Now(), make(chan struct{})
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(s.cmd, s.exited)
	return nil
}

func (s *server) ready() bool {
	_, err := os.Stat(s.readyFile)
	return err == nil
}

// await waits until the server is ready.
func (s *server) await(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	patience := time.After(maxStart)
	for !s.ready() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.exited:
			return fmt.Errorf("the server did not start: %s", s.stderr.Bytes())
		case <-patience:
			return fmt.Errorf("the server was not ready within %s", maxStart)
		case <-tick.C:
		}
	}
	s.tookS = time.Since(s.begun).Seconds()
	line, err := os.ReadFile(s.readyFile)
	if err != nil {
		return err
	}
	var event struct {
		Addrs []string `json:"addrs"`
	}
	if err := json.Unmarshal(line, &event); err != nil {
		return fmt.Errorf("ready event: %w", err)
	}
	if len(event.Addrs) != 1 {
		return fmt.Errorf("the server listens on %d addresses", len(event.Addrs))
	}
	info, err := peer.AddrInfoFromString(event.Addrs[0])
	if err != nil {
		return err
	}
	s.info = *info
	return nil
}

// kill ends the process with SIGKILL and returns when it is gone.
func (s *server) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
}
