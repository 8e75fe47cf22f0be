package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
)

// full is nil for the error of a full disk.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return nil
	}
	return err
}

// readOnly looks at what can be done on a full disk on which no server runs. Then it mounts the state folder read-only, and for writing again.
func (b *bed) readOnly(ctx context.Context, r *result) error {
	if err := b.fill(); err != nil {
		return err
	}
	a := b.dibber(ctx, "replicate", "log", "cat", "notes")
	r.check(a.code == 0 && strings.Contains(a.stdout, "-after"), "disk full, nothing runs: the log is read %s", strings.TrimSpace(a.stderr))
	a = b.dibber(ctx, "replicate", "log", "append", "notes", "too much")
	r.check(a.code == 6, "disk full, nothing runs: log append exits %d: %s", a.code, strings.TrimSpace(a.stderr))
	s, err := b.start(ctx)
	if err != nil {
		return err
	}
	ended := !s.lives()
	b.kill()
	said := strings.TrimSpace(s.stderr.String())
	r.check(ended && s.code == 6 && strings.Contains(said, "too little space on disk"), "disk full: serve exits %d: %s", s.code, said)
	if err := os.Remove(b.filler()); err != nil {
		return err
	}
	if err := b.command(ctx, "mount", "-o", "remount,ro", b.disk); err != nil {
		return err
	}
	if s, err = b.start(ctx); err != nil {
		return err
	}
	ended = !s.lives()
	b.kill()
	said = strings.TrimSpace(s.stderr.String())
	r.check(ended && s.code == 6 && strings.Contains(said, "read-only file system"), "read-only: serve exits %d: %s", s.code, said)
	a = b.dibber(ctx, "replicate", "log", "append", "notes", "too late")
	r.check(a.code == 6, "read-only: log append exits %d: %s", a.code, strings.TrimSpace(a.stderr))
	a = b.dibber(ctx, "replicate", "log", "cat", "notes")
	r.check(a.code == 0 && strings.Contains(a.stdout, "-after"), "read-only: the log is read %s", strings.TrimSpace(a.stderr))
	if err := b.command(ctx, "mount", "-o", "remount,rw", b.disk); err != nil {
		return err
	}
	if s, err = b.start(ctx); err != nil {
		return err
	}
	r.check(s.lives(), "writable again: serve starts")
	a = b.dibber(ctx, "replicate", "log", "append", "notes", "in time")
	r.check(a.code == 0, "writable again: log append exits %d %s", a.code, strings.TrimSpace(a.stderr))
	r.check(s.stop() == 0, "the server ends in order")
	return nil
}
