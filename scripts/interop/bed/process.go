package bed

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// grace is how long a process has to end by itself.
const grace = 5 * time.Second

// Process is a program in a process group of its own, which ends with the feature that started it.
type Process struct {
	Name  string
	cmd   *exec.Cmd
	in    io.Closer
	lines chan string // of its standard output
	read  sync.WaitGroup
	done  chan struct{}
	err   error // why it ended, once done is closed
}

// launch starts cmd in dir; what it says goes to log, and from standard output, line by line, to the Process if log is not meant for it.
func launch(cmd *exec.Cmd, dir string, log io.Writer) (*Process, error) {
	p := &Process{Name: cmd.Args[0], cmd: cmd, done: make(chan struct{})}
	cmd.Dir = dir
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = grace
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = cmd.Wait()
		// Whatever it has left behind in its group goes with it.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		close(p.done)
	}()
	return p, nil
}

// wait waits until the process has ended.
func (p *Process) wait(ctx context.Context) error {
	<-p.done // ctx is the command's, too
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return p.err
}

// talk starts a program whose standard output is read line by line; it lives until its input ends, it is told to end, or ctx ends.
func talk(ctx context.Context, dir, log string, env []string, path string, args ...string) (*Process, error) {
	file, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	out, into := io.Pipe()
	cmd.Stdout = into
	p, err := launch(cmd, dir, file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	p.in, p.lines = in, make(chan string, 4096)
	p.read.Go(func() {
		defer close(p.lines)
		scanner := bufio.NewScanner(out)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			_, _ = fmt.Fprintln(file, scanner.Text()) // a log that is lost fails nothing
			p.lines <- scanner.Text()
		}
		_, _ = io.Copy(file, out)
	})
	go func() {
		<-p.done
		_ = into.Close()
		p.read.Wait()
		_ = file.Close()
	}()
	return p, nil
}

// Line waits for a line of its standard output that begins with a prefix, and returns the rest.
func (p *Process) Line(ctx context.Context, prefix string) (string, error) {
	last := ""
	for {
		select {
		case line, open := <-p.lines:
			if !open {
				err := fmt.Errorf("%s ended before it said %q; last: %.200q", p.Name, prefix, last)
				return "", errors.Join(err, p.wait(ctx))
			}
			if rest, found := strings.CutPrefix(line, prefix); found {
				return strings.TrimSpace(rest), nil
			}
			last = line
		case <-ctx.Done():
			return "", fmt.Errorf("%s did not say %q in time; last: %.200q", p.Name, prefix, last)
		}
	}
}

// Ended waits for the end of a program that ends by itself.
func (p *Process) Ended(ctx context.Context) error {
	for {
		select {
		case _, open := <-p.lines:
			if !open {
				return p.wait(ctx)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Stop asks the process to end, as Ctrl-C at its terminal would, and sees to it that it does.
func (p *Process) Stop() {
	_ = p.in.Close()
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
	go func() {
		for range p.lines { // so that it is not held up by what nobody reads
		}
	}()
	select {
	case <-p.done:
	case <-time.After(grace):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
}
