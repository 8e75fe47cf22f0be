package pipe

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// TestNothingLostNothingTwice moves bytes between the two states over streams that
// break at any moment, taking with them what was under way.
func TestNothingLostNothingTwice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		window := rapid.IntRange(1, 100).Draw(t, "window")
		want := rapid.SliceOfN(rapid.Byte(), 0, 1000).Draw(t, "bytes")
		out, in := outgoing{window: window}, incoming{window: window}
		var got []byte
		var wire [][]byte // pieces under way; nil is the end
		written, eof := 0, false
		for step := 0; !out.finished || !eof; step++ {
			if step > 100000 {
				t.Fatal("does not end")
			}
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0:
				n := min(out.room(), len(want)-written, rapid.IntRange(0, 50).Draw(t, "write"))
				out.kept = append(out.kept, want[written:written+n]...)
				written += n
				out.ended = written == len(want)
			case 1:
				if piece, isEnd := out.next(); isEnd || piece != nil {
					wire = append(wire, bytes.Clone(piece))
				}
			case 2:
				if len(wire) > 0 {
					if piece := wire[0]; piece == nil {
						in.ended = true
					} else if err := in.arrived(piece); err != nil {
						t.Fatal(err)
					}
					wire = wire[1:]
				}
			case 3:
				p := make([]byte, rapid.IntRange(1, 50).Draw(t, "read"))
				var n int
				n, eof = in.take(p)
				got = append(got, p[:n]...)
			case 4:
				if err := out.consumed(in.read); err != nil {
					t.Fatal(err)
				}
			case 5: // another stream
				wire = nil
				if err := out.restart(in.received()); err != nil {
					t.Fatal(err)
				}
			}
			if len(out.kept) > window || len(in.unread) > window {
				t.Fatal("window exceeded")
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("got %d bytes of %d, or others", len(got), len(want))
		}
	})
}
