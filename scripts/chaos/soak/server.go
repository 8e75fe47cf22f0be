package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// server is dibber serve in a process of its own.
type server struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	exited chan struct{}

	info  peer.AddrInfo
	http  string // where the dashboard is
	admin string // the control socket
}

// start starts the server and waits until it is ready.
func start(ctx context.Context, binary, dir string) (*server, error) {
	ready := filepath.Join(dir, "ready")
	s := &server{exited: make(chan struct{})}
	s.cmd = exec.CommandContext(ctx, binary, "serve", "--relay", "--rendezvous", "--http", "127.0.0.1:0", "--http-pprof", "--quiet",
		"--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--listen", "/ip4/127.0.0.1/tcp/0", "--state-dir", filepath.Join(dir, "state"), "--ready-file", ready)
	s.cmd.Stderr = &s.stderr
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	go func() { // ends with the process, which kill ends
		_ = s.cmd.Wait()
		close(s.exited)
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		line, err := os.ReadFile(ready)
		if err == nil {
			return s, s.read(line)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
		select {
		case <-ctx.Done():
			s.kill()
			return nil, context.Cause(ctx)
		case <-s.exited:
			return nil, fmt.Errorf("the server did not start: %s", s.stderr.Bytes())
		case <-tick.C:
		}
	}
}

func (s *server) read(line []byte) error {
	var event struct {
		Addrs []string `json:"addrs"`
		Admin string   `json:"admin"`
		HTTP  string   `json:"http"`
	}
	if err := json.Unmarshal(line, &event); err != nil {
		return fmt.Errorf("ready event: %w", err)
	}
	infos := make([]peer.AddrInfo, 0, len(event.Addrs))
	for _, a := range event.Addrs {
		info, err := peer.AddrInfoFromString(a)
		if err != nil {
			return err
		}
		infos = append(infos, *info)
	}
	if len(infos) == 0 || event.HTTP == "" || event.Admin == "" {
		return fmt.Errorf("ready event lacks something: %s", line)
	}
	s.info = infos[0]
	for _, i := range infos[1:] {
		s.info.Addrs = append(s.info.Addrs, i.Addrs...)
	}
	s.http, s.admin = event.HTTP, event.Admin
	return nil
}

// get asks over HTTP.
func (s *server) get(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	body, err := s.open(ctx, path)
	if err != nil {
		return "", err
	}
	defer body.Close() // it was only read
	text, err := io.ReadAll(body)
	return string(text), err
}

func (s *server) open(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.http+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("GET %s: %s", path, answer.Status), answer.Body.Close())
	}
	return answer.Body, nil
}

// stop ends the process in order, and returns its exit code.
func (s *server) stop() int {
	_ = s.cmd.Process.Signal(os.Interrupt) // it may have ended already
	<-s.exited
	return s.cmd.ProcessState.ExitCode()
}

func (s *server) kill() {
	_ = s.cmd.Process.Kill() // it may have ended already
	<-s.exited
}
