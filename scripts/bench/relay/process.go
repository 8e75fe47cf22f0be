package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// child is a process of this program in another role. It answers each line on
// its standard input with one on its standard output.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	enc *json.Encoder
	dec *json.Decoder
}

// request is a line to a child, reply its answer.
type (
	request struct {
		Op   string          `json:"op"`
		Args json.RawMessage `json:"args"`
	}
	reply struct {
		Error string          `json:"error,omitempty"`
		Value json.RawMessage `json:"value,omitempty"`
	}
)

// start runs this program again in a role.
func start(ctx context.Context, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &child{cmd: cmd, in: in, enc: json.NewEncoder(in), dec: json.NewDecoder(bufio.NewReader(out))}, nil
}

// ask sends a request and waits for its value.
func (c *child) ask(op string, args, value any) error {
	raw, err := json.Marshal(args)
	if err != nil {
		return err
	}
	if err := c.enc.Encode(request{op, raw}); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	var r reply
	if err := c.dec.Decode(&r); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if r.Error != "" {
		return fmt.Errorf("%s: %s", op, r.Error)
	}
	if value == nil {
		return nil
	}
	return json.Unmarshal(r.Value, value)
}

// close ends the process and waits for it.
func (c *child) close() error {
	return errors.Join(c.in.Close(), c.cmd.Wait())
}

// part is what a child does.
type part interface {
	do(ctx context.Context, op string, args json.RawMessage) (any, error)
	close() error
}

// serveChild answers requests until the parent closes the input.
func serveChild(ctx context.Context, o options) (err error) {
	p, err := newPart(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	dec, enc := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var req request
		if err := dec.Decode(&req); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var r reply
		value, err := p.do(ctx, req.Op, req.Args)
		if err == nil {
			r.Value, err = json.Marshal(value)
		}
		if err != nil {
			r = reply{Error: err.Error()}
		}
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
}

func newPart(o options) (part, error) {
	switch o.role {
	case "relay":
		return newRelay(o)
	case "sink":
		return newSinks(o), nil
	case "source":
		return newSources(o), nil
	case "crowd":
		return newCrowd()
	default:
		return nil, fmt.Errorf("no role %q", o.role)
	}
}

// usage is what a process has used.
type usage struct {
	CPU float64 `json:"cpu_s"`   // user and system
	RSS float64 `json:"rss_mib"` // 0 where /proc does not tell
}

// ownUsage tells it of this process.
func ownUsage() (usage, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return usage{}, err
	}
	u := usage{CPU: (time.Duration(r.Utime.Nano()) + time.Duration(r.Stime.Nano())).Seconds()}
	u.RSS = ownRSS()
	return u, nil
}

// ownRSS is the resident memory of this process in MiB; 0 where /proc does not
// tell it.
func ownRSS() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			kib, err := strconv.ParseFloat(string(bytes.Fields(rest)[0]), 64)
			if err != nil {
				return 0
			}
			return kib / 1024
		}
	}
	return 0
}
