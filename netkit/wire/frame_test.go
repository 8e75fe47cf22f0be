package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestFramesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 300)).Draw(t, "frames")
		var stream bytes.Buffer
		for _, frame := range want {
			if err := WriteFrame(&stream, frame, 300); err != nil {
				t.Fatal(err)
			}
		}
		var source io.Reader = &stream
		if rapid.Bool().Draw(t, "a byte at a time") {
			source = iotest.OneByteReader(source)
		}
		r := NewReader(source, 300)
		for i, frame := range want {
			got, err := r.Next()
			if err != nil || !bytes.Equal(got, frame) {
				t.Fatalf("frame %d: %x, %v; want %x", i, got, err, frame)
			}
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("at the end: %v", err)
		}
	})
}

func TestReaderErrors(t *testing.T) {
	broken := errors.New("broken")
	tests := []struct {
		name   string
		source io.Reader
		want   error
	}{
		{"nothing", bytes.NewReader(nil), io.EOF},
		{"half a length", bytes.NewReader([]byte{0x80}), io.ErrUnexpectedEOF},
		{"half a frame", bytes.NewReader([]byte{3, 1, 2}), io.ErrUnexpectedEOF},
		{"length alone", bytes.NewReader([]byte{3}), io.ErrUnexpectedEOF},
		{"one too many", bytes.NewReader([]byte{11}), ErrTooLarge},
		{"length of 64 bits", bytes.NewReader(append(bytes.Repeat([]byte{0xff}, 9), 1)), ErrTooLarge},
		{"length of 65 bits", bytes.NewReader(append(bytes.Repeat([]byte{0xff}, 9), 2)), ErrBadLength},
		{"length without end", bytes.NewReader(bytes.Repeat([]byte{0xff}, 20)), ErrBadLength},
		{"broken before", iotest.ErrReader(broken), broken},
		{"broken within the length", io.MultiReader(bytes.NewReader([]byte{0x80}), iotest.ErrReader(broken)), broken},
		{"broken within the frame", io.MultiReader(bytes.NewReader([]byte{3, 1}), iotest.ErrReader(broken)), broken},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got, err := NewReader(test.source, 10).Next(); !errors.Is(err, test.want) {
				t.Errorf("%x, %v; want %v", got, err, test.want)
			}
		})
	}
}

func TestWriteFrameRefusesWhatIsTooLarge(t *testing.T) {
	var out bytes.Buffer
	if err := WriteFrame(&out, make([]byte, 11), 10); !errors.Is(err, ErrTooLarge) || out.Len() != 0 {
		t.Errorf("%v, %d bytes written", err, out.Len())
	}
}

// TestReaderAllocatesWhatArrives announces far more than it sends.
func TestReaderAllocatesWhatArrives(t *testing.T) {
	const announced = 256 << 20
	for _, sent := range []int{60, smallFrame, 100_000} {
		frame := append(binary.AppendUvarint(nil, announced), make([]byte, sent)...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := NewReader(bytes.NewReader(frame), announced).Next()
		runtime.ReadMemStats(&after)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v", err)
		}
		if spent := after.TotalAlloc - before.TotalAlloc; spent > uint64(smallFrame+2*frameGrowth*sent+10_000) {
			t.Errorf("%d bytes allocated for %d", spent, sent)
		}
	}
}

// TestReaderRecycles: frames that were given back are read into again, where they are long enough, and nothing of them is left.
func TestReaderRecycles(t *testing.T) {
	var in []byte
	sizes := []int{2 * smallFrame, 2*smallFrame - 7, 3 * smallFrame, smallFrame, 2 * smallFrame}
	for i, size := range sizes {
		in = AppendFrame(in, bytes.Repeat([]byte{byte(i + 1)}, size))
	}
	r := NewReader(bytes.NewReader(in), 1<<20)
	var first *byte
	for i, size := range sizes {
		frame, err := r.Next()
		if err != nil || !bytes.Equal(frame, bytes.Repeat([]byte{byte(i + 1)}, size)) {
			t.Fatalf("frame %d: %d bytes, %v", i, len(frame), err)
		}
		switch {
		case i == 0:
			first = &frame[0]
		case (&frame[0] == first) != (i == 1):
			t.Errorf("frame %d is in the memory of the first: %t", i, i != 1)
		}
		r.Recycle(frame)
	}
}

// FuzzReader reads any bytes as frames: none is above the limit, and they read
// the same when written again.
func FuzzReader(f *testing.F) {
	f.Add([]byte{}, uint16(0))
	f.Add([]byte{1, 2, 0, 3, 1, 2, 3}, uint16(3))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, uint16(10))
	f.Fuzz(func(t *testing.T, data []byte, limit uint16) {
		r := NewReader(bytes.NewReader(data), int(limit))
		var frames [][]byte
		for {
			frame, err := r.Next()
			if err != nil {
				break
			}
			if len(frame) > int(limit) {
				t.Fatalf("frame of %d bytes above %d", len(frame), limit)
			}
			frames = append(frames, frame)
		}
		var again [][]byte
		for r := NewReader(bytes.NewReader(encode(frames)), int(limit)); ; {
			frame, err := r.Next()
			if err != nil {
				break
			}
			again = append(again, frame)
		}
		if diff := cmp.Diff(frames, again); diff != "" {
			t.Fatal(diff)
		}
	})
}

func encode(frames [][]byte) (out []byte) {
	for _, frame := range frames {
		out = AppendFrame(out, frame)
	}
	return out
}
