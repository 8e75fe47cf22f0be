// Package node runs dibber serve in a process of its own, for the programs that burden it and those that take things from it, and makes
// the peers that it serves.
package node

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

// Build builds dibber in dir, with the sources of the folder that it is called in, and returns the path of the program.
func Build(ctx context.Context, dir string) (program string, err error) {
	program = filepath.Join(dir, "dibber")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "dibber")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("build dibber: %w", err)
	}
	return program, nil
}

// Node is a dibber serve, always started by the same command line.
type Node struct {
	// What it said when it was last ready.
	Info  peer.AddrInfo // all its addresses
	HTTP  string        // where its dashboard is; empty without one
	Admin string        // its control socket
	// Took is how long that was after its start.
	Took time.Duration

	program, ready string
	args           []string
	begun          time.Time
	cmd            *exec.Cmd // nil before the first start
	stderr         bytes.Buffer
	exited         chan struct{}
}

// New prepares one with flags of serve. It writes ready, a file, when it is.
func New(program, ready string, flags ...string) *Node {
	return &Node{program: program, ready: ready, args: append([]string{"serve", "--quiet", "--ready-file", ready}, flags...)}
}

// Start starts it and waits until it is ready.
func (n *Node) Start(ctx context.Context) error {
	if err := n.Begin(ctx); err != nil {
		return err
	}
	return n.Await(ctx)
}

// Begin starts it. It lives until it is ended, or ctx ends.
func (n *Node) Begin(ctx context.Context) error {
	// A killed one has left its file, and the next removes it only when it is under way.
	if err := os.Remove(n.ready); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	n.stderr.Reset()
	cmd, exited := exec.CommandContext(ctx, n.program, n.args...), make(chan struct{})
	cmd.Stderr = &n.stderr
	n.begun = time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	n.cmd, n.exited = cmd, exited
	go func() { // ends with the process, which Stop and Kill wait for
		_ = cmd.Wait()
		close(exited)
	}()
	return nil
}

// Ready reports whether it is.
func (n *Node) Ready() bool {
	_, err := os.Stat(n.ready)
	return err == nil
}

// Await waits until it is ready. That it ended instead is an error with what it said.
func (n *Node) Await(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !n.Ready() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the server: %w", context.Cause(ctx))
		case <-n.exited:
			return fmt.Errorf("the server did not start: %s", bytes.TrimSpace(n.stderr.Bytes()))
		case <-tick.C:
		}
	}
	n.Took = time.Since(n.begun)
	line, err := os.ReadFile(n.ready)
	if err != nil {
		return err
	}
	if err := n.read(line); err != nil {
		return fmt.Errorf("ready event %s: %w", line, err)
	}
	return nil
}

func (n *Node) read(line []byte) error {
	var event struct {
		Addrs []string `json:"addrs"`
		HTTP  string   `json:"http"`
		Admin string   `json:"admin"`
	}
	if err := json.Unmarshal(line, &event); err != nil {
		return err
	}
	if len(event.Addrs) == 0 {
		return errors.New("it has no address")
	}
	n.Info, n.HTTP, n.Admin = peer.AddrInfo{}, event.HTTP, event.Admin
	for _, a := range event.Addrs {
		at, err := peer.AddrInfoFromString(a)
		if err != nil {
			return err
		}
		n.Info.ID, n.Info.Addrs = at.ID, append(n.Info.Addrs, at.Addrs...)
	}
	return nil
}

// Lives reports whether the process is there.
func (n *Node) Lives() bool {
	select {
	case <-n.exited:
		return false
	default:
		return n.cmd != nil
	}
}

// Stop ends the process in order, if it has not ended yet, and returns its exit code.
func (n *Node) Stop() int {
	_ = n.cmd.Process.Signal(os.Interrupt) // it may have ended already
	<-n.exited
	return n.cmd.ProcessState.ExitCode()
}

// Kill ends with SIGKILL what runs.
func (n *Node) Kill() {
	if n.cmd != nil {
		_ = n.cmd.Process.Kill() // it may have ended already
		<-n.exited
	}
}

// FreePorts returns TCP ports of 127.0.0.1 that are free now.
func FreePorts(n int) (ports []int, err error) {
	for range n {
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at once, so that no two are the same
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
