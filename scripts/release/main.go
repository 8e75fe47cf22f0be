// Command release builds dibber for all systems that it is made for, from the commit that is checked out: a stripped program without
// cgo, packed with its licences, and SHA256SUMS of all packages. The same commit and the same Go give the same bytes anywhere.
//
//	go run ./scripts/release [-out DIR] [-only OS/ARCH,…] [-check]
//
// -check builds each package twice, the second time with nothing from the build cache of the first in another folder, and exits 1 if
// they differ.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// target is a system to build for.
type target struct{ os, arch string }

func (t target) String() string { return t.os + "/" + t.arch }

// targets are all of them.
func targets() []target {
	return []target{
		{"linux", "amd64"},
		{"linux", "arm64"},
		{"linux", "arm"},
		{"linux", "riscv64"},
		{"darwin", "amd64"},
		{"darwin", "arm64"},
		{"windows", "amd64"},
		{"windows", "arm64"},
	}
}

// program is the name of the program on a system.
func (t target) program() string {
	if t.os == "windows" {
		return "dibber.exe"
	}
	return "dibber"
}

func main() {
	out := flag.String("out", "release", "`DIR` for the packages")
	only := flag.String("only", "", "build for these `OS/ARCH,…` only")
	check := flag.Bool("check", false, "build twice and compare")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *out, *only, *check)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out, only string, check bool) error {
	list, err := chosen(only)
	if err != nil {
		return err
	}
	made, err := commitTime(ctx)
	if err != nil {
		return err
	}
	version, err := output(ctx, "go", "run", ".", "version", "-q")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	var sums bytes.Buffer
	for _, t := range list {
		name := fmt.Sprintf("dibber-%s-%s-%s", version, t.os, t.arch)
		began := time.Now()
		data, err := t.pack(ctx, name, made)
		if err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		same := ""
		if check {
			again, err := t.pack(ctx, name, made, "-a")
			if err != nil {
				return fmt.Errorf("%s: %w", t, err)
			}
			if !bytes.Equal(data, again) {
				return fmt.Errorf("%s: two builds differ", t)
			}
			same = ", twice the same"
		}
		file := name + t.ending()
		if err := os.WriteFile(filepath.Join(out, file), data, 0o644); err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(data), file)
		fmt.Printf("%s  %.1f MiB in %.0f s%s\n", file, float64(len(data))/(1<<20), time.Since(began).Seconds(), same)
	}
	return os.WriteFile(filepath.Join(out, "SHA256SUMS"), sums.Bytes(), 0o644)
}

// chosen reads -only.
func chosen(only string) ([]target, error) {
	if only == "" {
		return targets(), nil
	}
	var list []target
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(targets(), func(t target) bool { return t.String() == name })
		if i < 0 {
			return nil, fmt.Errorf("-only: %q is none of %v", name, targets())
		}
		list = append(list, targets()[i])
	}
	return list, nil
}

// commitTime is when the commit was made that is checked out: what is packed has that time.
func commitTime(ctx context.Context) (time.Time, error) {
	text, err := output(ctx, "git", "log", "-1", "--format=%ct")
	if err != nil {
		return time.Time{}, err
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("time of the commit: %w", err)
	}
	changed, err := output(ctx, "git", "status", "--porcelain")
	if err == nil && changed != "" {
		err = errors.New("there are changes that are not committed: nobody could build this again")
	}
	return time.Unix(seconds, 0).UTC(), err
}

// buildFlags are those of go build that make the program depend on nothing but the commit.
func buildFlags() []string { return []string{"-trimpath", "-ldflags=-s -w -buildid="} }

// pack builds the program and packs it.
func (t target) pack(ctx context.Context, name string, made time.Time, more ...string) (data []byte, err error) {
	dir, err := os.MkdirTemp("", "release-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	built := filepath.Join(dir, t.program())
	args := slices.Concat([]string{"build"}, buildFlags(), more, []string{"-o", built, "."})
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+t.os, "GOARCH="+t.arch, "GOFLAGS=", "GOARM=", "GOAMD64=", "GOARM64=", "GORISCV64=")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go build: %w", err)
	}
	parts := []part{{name: t.program(), from: built, mode: 0o755}}
	for _, file := range []string{"README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"} {
		parts = append(parts, part{name: file, from: file, mode: 0o644})
	}
	if t.os == "windows" {
		return zipped(name, made, parts)
	}
	return tarred(name, made, parts)
}

// output is what a command prints, on one line.
func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}
