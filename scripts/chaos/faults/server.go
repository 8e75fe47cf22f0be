package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// server is dibber serve in a process of its own.
type server struct {
	cmd    *exec.Cmd
	info   peer.AddrInfo
	stderr bytes.Buffer // to be read when it has ended
	exited chan struct{}
	code   int // when it has ended
}

// start starts the server and waits until it is ready or has ended.
func (b *bed) start(ctx context.Context) (*server, error) {
	ready := filepath.Join(b.dir, "ready")
	if err := os.Remove(ready); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	s := &server{exited: make(chan struct{})}
	s.cmd = exec.CommandContext(ctx, b.binary, "serve", "--relay", "--rendezvous", "--replicate", "--accept-any", "--blocks",
		"--rendezvous-per-peer", "100000", "--listen", "/ip4/127.0.0.1/tcp/0", "--state-dir", b.state(), "--ready-file", ready, "--quiet")
	s.cmd.Stderr = &s.stderr
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	go func() { // ends with the process, which kill ends
		_ = s.cmd.Wait()
		s.code = s.cmd.ProcessState.ExitCode()
		close(s.exited)
	}()
	b.server = s
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-s.exited:
			return s, nil
		case <-tick.C:
		}
		line, err := os.ReadFile(ready)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return s, s.read(line)
	}
}

func (s *server) read(line []byte) error {
	var event struct {
		Addrs []string `json:"addrs"`
	}
	if err := json.Unmarshal(line, &event); err != nil || len(event.Addrs) == 0 {
		return fmt.Errorf("ready event %s: %w", line, err)
	}
	info, err := peer.AddrInfoFromString(event.Addrs[0])
	if err != nil {
		return err
	}
	s.info = *info
	return nil
}

// lives reports whether the process is there.
func (s *server) lives() bool {
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// stop ends the process in order, and returns its exit code.
func (s *server) stop() int {
	_ = s.cmd.Process.Signal(os.Interrupt) // it may have ended already
	<-s.exited
	return s.code
}

// kill ends what runs.
func (b *bed) kill() {
	if b.server != nil {
		_ = b.server.cmd.Process.Kill() // it may have ended already
		<-b.server.exited
	}
}
