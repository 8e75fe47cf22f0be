package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// source is a checkout.
type source struct {
	dir     string
	made    time.Time // of the commit
	changed bool      // it is not what is committed
	version string
}

// sum is the hash of an archive.
type sum struct{ name, hash string }

func sourceIn(ctx context.Context, dir string) (*source, error) {
	s := &source{dir: dir}
	stamp, err := s.git(ctx, "log", "-1", "--format=%ct")
	if err != nil {
		return nil, err
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("time of the commit: %w", err)
	}
	s.made = time.Unix(seconds, 0).UTC()
	status, err := s.git(ctx, "status", "--porcelain")
	if err != nil {
		return nil, err
	}
	s.changed = status != ""
	s.version, err = version(dir)
	return s, err
}

// version reads it from the source: to import it would link all of dibber into this program.
func version(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "commands", "version.go"))
	if err != nil {
		return "", err
	}
	found := regexp.MustCompile(`(?m)^const Version = "([^"]+)"$`).FindSubmatch(text)
	if found == nil {
		return "", fmt.Errorf("%s/commands/version.go has no const Version", dir)
	}
	return string(found[1]), nil
}

func (s *source) git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir, cmd.Stderr = s.dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

// clone puts the commit into another folder.
func (s *source) clone(ctx context.Context, tmp string) (*source, error) {
	commit, err := s.git(ctx, "rev-parse", "HEAD")
	if err != nil {
		return nil, err
	}
	from, err := filepath.Abs(s.dir)
	if err != nil {
		return nil, err
	}
	at := filepath.Join(tmp, "source")
	if _, err := s.git(ctx, "clone", "--quiet", "--no-checkout", from, at); err != nil {
		return nil, err
	}
	again := &source{dir: at, made: s.made, version: s.version}
	_, err = again.git(ctx, "checkout", "--quiet", "--detach", commit)
	return again, err
}

// release builds and packs for each target, with a build cache of its own if one is named.
func (s *source) release(ctx context.Context, list []target, out, cache string) (sums []sum, err error) {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	var lines strings.Builder
	for _, t := range list {
		began := time.Now()
		one, err := s.one(ctx, t, out, cache)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t, err)
		}
		fmt.Printf("%s  %s  %.0f s\n", one.hash, one.name, time.Since(began).Seconds())
		fmt.Fprintf(&lines, "%s  %s\n", one.hash, one.name)
		sums = append(sums, one)
	}
	return sums, os.WriteFile(filepath.Join(out, "SHA256SUMS"), []byte(lines.String()), 0o644)
}

// one builds and packs for one target.
func (s *source) one(ctx context.Context, t target, out, cache string) (one sum, err error) {
	tmp, err := os.MkdirTemp("", "dibber-build-")
	if err != nil {
		return one, err
	}
	defer func() { _ = os.RemoveAll(tmp) }() // temporary
	binary := filepath.Join(tmp, t.program())
	cmd := exec.CommandContext(ctx, "go", buildArgs(binary)...)
	cmd.Dir, cmd.Env, cmd.Stderr = s.dir, append(os.Environ(), t.env()...), os.Stderr
	if cache != "" {
		cmd.Env = append(cmd.Env, "GOCACHE="+cache)
	}
	if err := cmd.Run(); err != nil {
		return one, fmt.Errorf("go build: %w", err)
	}
	name := fmt.Sprintf("dibber-%s-%s-%s", s.version, t.os, t.arch)
	a := archive{root: name, made: s.made, files: []file{
		{binary, t.program(), 0o755},
		{filepath.Join(s.dir, "CHANGELOG.md"), "CHANGELOG.md", 0o644},
		{filepath.Join(s.dir, "LICENSE-APACHE"), "LICENSE-APACHE", 0o644},
		{filepath.Join(s.dir, "LICENSE-MIT"), "LICENSE-MIT", 0o644},
		{filepath.Join(s.dir, "README.md"), "README.md", 0o644},
	}}
	name += t.packing()
	data, err := a.pack(t)
	if err != nil {
		return one, fmt.Errorf("pack %s: %w", name, err)
	}
	hash := sha256.Sum256(data)
	return sum{name, hex.EncodeToString(hash[:])}, os.WriteFile(filepath.Join(out, name), data, 0o644)
}
