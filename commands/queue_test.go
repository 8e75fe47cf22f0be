package commands

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/synctest"
)

func TestPipeWritesInOrder(t *testing.T) {
	var b bytes.Buffer
	p := newQueue(&b)
	p.put([]byte("one\n"))
	p.put([]byte("two\n"))
	p.close()
	if b.String() != "one\ntwo\n" || p.dropped.Load() != 0 {
		t.Errorf("wrote %q, dropped %d", b.String(), p.dropped.Load())
	}
}

// A reader that stops reading must stop neither those who put lines nor the end.
func TestPipeNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		p := newQueue(w)
		for range queueLines + 100 {
			p.put([]byte("line\n"))
		}
		if p.dropped.Load() == 0 {
			t.Error("nothing was dropped: the test shows nothing")
		}
		p.close() // gives up after its patience, in virtual time
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// failing is a reader that went away.
type failing struct{ writes int }

func (f *failing) Write([]byte) (int, error) {
	f.writes++
	return 0, errors.New("gone")
}

func TestPipeStopsAtTheFirstFailure(t *testing.T) {
	var f failing
	p := newQueue(&f)
	for range 10 {
		p.put([]byte("line\n"))
	}
	p.close()
	if f.writes != 1 {
		t.Errorf("%d writes to a reader that is gone", f.writes)
	}
}
