package main

import (
	"errors"
	"testing"
)

// TestDiskIsTakenAway is one round.
func TestDiskIsTakenAway(t *testing.T) {
	if testing.Short() {
		t.Skip("builds dibber and fills a disk")
	}
	r, err := run(t.Context(), 1)
	if errors.Is(err, errMount) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Wrong) > 0 || r.Checks < 20 {
		t.Errorf("%d checks, wrong: %q", r.Checks, r.Wrong)
	}
}
