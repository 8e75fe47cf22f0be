package bed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// buildLimit is how long the build of one peer may take: aquadoggo's is the longest, half an hour on two busy cores.
const buildLimit = 90 * time.Minute

// Builder builds one peer.
type Builder struct {
	Root   string // of the repository
	Source string // the repository's folder with the peer's own files
	Dir    string // where its program goes, outside the repository
	Log    string // what the tools say
}

// Run runs a build tool in a folder, at low priority.
func (b *Builder) Run(ctx context.Context, dir string, args ...string) error {
	if nice, err := exec.LookPath("nice"); err == nil {
		args = append([]string{nice, "-n", "19"}, args...)
	}
	log, err := os.OpenFile(b.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	if _, err := fmt.Fprintln(log, "#", strings.Join(args, " ")); err != nil {
		return err
	}
	p, err := launch(exec.CommandContext(ctx, args[0], args[1:]...), dir, log)
	if err != nil {
		return err
	}
	err = p.wait(ctx)
	if err != nil {
		return fmt.Errorf("%w: %s (%s)", err, lastLine(b.Log), b.Log)
	}
	return nil
}

// Go builds a Go program that is a module of its own, or a package of ours.
func (b *Builder) Go(ctx context.Context, dir, pkg, out string) error {
	return b.Run(ctx, dir, "go", "build", "-o", filepath.Join(b.Dir, out), pkg)
}

// Cargo builds the crate in the peer's folder; its program is then in debug of Dir.
func (b *Builder) Cargo(ctx context.Context) error {
	return b.Run(ctx, b.Source, "cargo", "build", "--locked", "-j1", "--target-dir", b.Dir)
}

// NPM copies the peer's program and the packages that its lock file names to Dir, and installs these unless they are there.
func (b *Builder) NPM(ctx context.Context, program ...string) error {
	if err := b.Copy(program...); err != nil {
		return err
	}
	lock, err := os.ReadFile(filepath.Join(b.Source, "package-lock.json"))
	if err != nil {
		return err
	}
	mark := filepath.Join(b.Dir, "installed") // the lock file by which everything was installed
	if installed, err := os.ReadFile(mark); err == nil && bytes.Equal(installed, lock) {
		return nil
	}
	if err := b.Copy("package.json", "package-lock.json"); err != nil {
		return err
	}
	// Not npm ci: it demands that the lock file names the native addons of all other platforms, too.
	if err := b.Run(ctx, b.Dir, "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-update-notifier"); err != nil {
		return err
	}
	return os.WriteFile(mark, lock, 0o644)
}

// Copy copies files of the peer's folder to Dir.
func (b *Builder) Copy(names ...string) error {
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(b.Source, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(b.Dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// build builds a peer, or says what it lacks.
func (p Peer) build(ctx context.Context, root, work string) (skip string, err error) {
	for _, command := range p.Needs {
		if _, err := exec.LookPath(command); err != nil {
			return "no " + command, nil
		}
	}
	b := &Builder{
		Root:   root,
		Source: filepath.Join(root, "scripts", "interop", p.Name, "peer"),
		Dir:    filepath.Join(work, p.Name), Log: filepath.Join(work, "logs", p.Name+"-build.log"),
	}
	if err := os.MkdirAll(b.Dir, 0o755); err != nil {
		return "", err
	}
	if err := os.RemoveAll(b.Log); err != nil {
		return "", err
	}
	limited, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	if err := p.Build(limited, b); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "build failed: " + err.Error(), nil
	}
	return "", nil
}

// moduleRoot is the folder of the repository's go.mod.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Path}} {{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("go list -m: %w", err)
	}
	dir, ours := strings.CutPrefix(strings.TrimSpace(string(out)), "dibber ")
	if !ours {
		return "", errors.New("to be run within the repository of dibber")
	}
	return dir, nil
}

// lastLine is the last line of a log that says something.
func lastLine(log string) string {
	data, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	for _, line := range slices.Backward(strings.Split(string(data), "\n")) {
		if line = strings.TrimSpace(line); line != "" {
			return line[:min(len(line), 200)]
		}
	}
	return "no output"
}
