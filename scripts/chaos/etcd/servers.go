//go:build linux

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

// server is dibber serve --rendezvous in a process of its own, always started by the same command line.
type server struct {
	binary, ready string
	args          []string
	info          peer.AddrInfo
	cmd           *exec.Cmd
	log           bytes.Buffer
	exited        chan struct{}
}

// startServers starts n servers with one registry; an empty one is that of the state folder.
func startServers(ctx context.Context, binary, dir, name string, n int, registry string) (list []*server, err error) {
	for i := range n {
		port, _, err := freePorts()
		if err != nil {
			return list, err
		}
		home := filepath.Join(dir, fmt.Sprintf("%s-server%d", name, i))
		s := &server{binary: binary, ready: home + ".ready"}
		s.args = []string{
			"serve", "--rendezvous", "--rendezvous-min-ttl", "1m", "--state-dir", home, "--ready-file", s.ready, "--quiet",
			"--listen", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port),
		}
		if registry != "" {
			s.args = append(s.args, "--registry", registry)
		}
		list = append(list, s)
		if err := s.start(ctx); err != nil {
			closeServers(list)
			return nil, err
		}
	}
	return list, nil
}

func closeServers(list []*server) {
	for _, s := range list {
		s.kill()
	}
}

// start starts the process and waits until it is ready. A registry that is not there at that moment may come.
func (s *server) start(ctx context.Context) error {
	for end := time.Now().Add(settle); ; {
		err := s.try(ctx)
		if err == nil || time.Now().After(end) || ctx.Err() != nil {
			return err
		}
	}
}

func (s *server) try(ctx context.Context) error {
	if err := os.Remove(s.ready); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.log.Reset()
	s.cmd = exec.CommandContext(ctx, s.binary, s.args...)
	s.cmd.Stderr = &s.log
	s.exited = make(chan struct{})
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(s.cmd, s.exited)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		line, err := os.ReadFile(s.ready)
		if err == nil {
			return s.read(line)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.exited:
			return fmt.Errorf("the server did not start: %s", s.log.Bytes())
		case <-tick.C:
		}
	}
}

// read takes the address out of the ready event.
func (s *server) read(line []byte) error {
	var event struct {
		Addrs []string `json:"addrs"`
	}
	if err := json.Unmarshal(line, &event); err != nil || len(event.Addrs) == 0 {
		return fmt.Errorf("ready event: %w: %s", err, line)
	}
	info, err := peer.AddrInfoFromString(event.Addrs[0])
	if err == nil {
		s.info = *info
	}
	return err
}

func (s *server) kill() {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
}
