package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"dibber/netkit/rendezvous"
	"dibber/scripts/node"
)

// process is a server in a process of its own.
type process struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *json.Decoder
	ready ready
	// tookS is how long it took from its start until it served.
	tookS float64
	info  peer.AddrInfo
}

func startServer(ctx context.Context, dir string, flooded bool) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	mode := "open"
	if flooded {
		mode = "flooded"
	}
	p := &process{cmd: exec.CommandContext(ctx, self, childSubcommand, "server", dir, mode)}
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.out = json.NewDecoder(bufio.NewReader(out))
	if err := p.out.Decode(&p.ready); err != nil {
		return nil, errors.Join(fmt.Errorf("server did not start: %w", err), p.stop())
	}
	p.tookS = time.Since(begun).Seconds()
	for _, addr := range p.ready.Addrs {
		info, err := peer.AddrInfoFromString(addr)
		if err != nil {
			return nil, err
		}
		p.info.ID = info.ID
		p.info.Addrs = append(p.info.Addrs, info.Addrs...)
	}
	return p, nil
}

// tcpAddr is an address that a client can dial from a source of its choice.
func (p *process) tcpAddr() string {
	return p.ready.Addrs[slices.IndexFunc(p.ready.Addrs, func(addr string) bool { return strings.Contains(addr, "/tcp/") })]
}

// tell sends a line and returns the stats it is answered with.
func (p *process) tell(line string) (s rendezvous.Stats, err error) {
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		return s, err
	}
	return s, p.out.Decode(&s)
}

// stop ends the process in good order.
func (p *process) stop() error { return errors.Join(p.in.Close(), p.cmd.Wait()) }

// kill ends it with SIGKILL.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// memory returns a figure of /proc/PID/status in MiB: VmRSS, or VmHWM for its peak.
func (p *process) memory(field string) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024, err
		}
	}
	return 0, errors.New("no " + field)
}

// cpu is the processor time in seconds that this process and p have used.
func (p *process) cpu() (float64, error) {
	sum, err := p.ownCPU()
	if err != nil {
		return 0, err
	}
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return 0, err
	}
	return sum + time.Duration(own.Utime.Nano()+own.Stime.Nano()).Seconds(), nil
}

// ownCPU is the processor time in seconds that p has used.
func (p *process) ownCPU() (float64, error) { return node.CPU(p.cmd.Process.Pid) }
