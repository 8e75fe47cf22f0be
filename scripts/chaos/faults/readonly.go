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
	b.refused(ctx, r, "disk full", "too little space on disk")
	if err := os.Remove(b.filler()); err != nil {
		return err
	}
	if err := b.command(ctx, "mount", "-o", "remount,ro", b.disk); err != nil {
		return err
	}
	b.refused(ctx, r, "read-only", "read-only file system")
	a = b.dibber(ctx, "replicate", "log", "append", "notes", "too late")
	r.check(a.code == 6, "read-only: log append exits %d: %s", a.code, strings.TrimSpace(a.stderr))
	a = b.dibber(ctx, "replicate", "log", "cat", "notes")
	r.check(a.code == 0 && strings.Contains(a.stdout, "-after"), "read-only: the log is read %s", strings.TrimSpace(a.stderr))
	if err := b.command(ctx, "mount", "-o", "remount,rw", b.disk); err != nil {
		return err
	}
	r.check(b.node.Start(ctx) == nil, "writable again: serve starts")
	a = b.dibber(ctx, "replicate", "log", "append", "notes", "in time")
	r.check(a.code == 0, "writable again: log append exits %d %s", a.code, strings.TrimSpace(a.stderr))
	r.check(b.node.Stop() == 0, "the server ends in order")
	return nil
}

// refused starts a server that must end by itself, and say why.
func (b *bed) refused(ctx context.Context, r *result, when, why string) {
	err := b.node.Start(ctx)
	code := b.node.Stop()
	r.check(err != nil && code == 6 && strings.Contains(err.Error(), why), "%s: serve exits %d: %v", when, code, err)
}
