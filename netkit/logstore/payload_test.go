package logstore

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"dibber/netkit/bamboo"
)

// noise is n bytes that differ.
func noise(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(i>>8) ^ byte(i)*31
	}
	return out
}

func read(t T, s *Store, hash bamboo.Hash) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := s.ReadPayload(&out, hash); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestPayloadSizes(t *testing.T) {
	s := open(t, config(vfs.NewMem()))
	defer closed(t, s)
	for _, size := range []int{0, 1, InlineMax, InlineMax + 1, 3*InlineMax - 1, 4 * InlineMax, 1<<20 + 7} {
		data := noise(size)
		p, err := s.NewPayload(bytes.NewReader(data))
		if err != nil || p.Size != uint64(size) || p.Hash != bamboo.HashOf(data) {
			t.Fatalf("%d bytes: %+v, %v", size, p, err)
		}
		if inline := p.Inline != nil; inline != (size <= InlineMax) {
			t.Errorf("%d bytes: inline %t", size, inline)
		}
		out, err := s.Append(keyN(1), 0, p)
		if err != nil {
			t.Fatal(err)
		}
		if size > InlineMax {
			if got := read(t, s, out[0].PayloadHash); !bytes.Equal(got, data) {
				t.Errorf("%d bytes were read as %d others", size, len(got))
			}
		}
	}
	if report, err := s.Verify(t.Context(), VerifyConfig{}); err != nil || report.Found > 0 || report.Files != 4 {
		t.Errorf("%+v, %v", report, err)
	}
	if err := s.ReadPayload(io.Discard, bamboo.HashOf(nil)); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown payload: %v", err)
	}
}

// TestPayloadResumes sends a payload that is cut anywhere, again and again, until all is there: what was verified is not sent twice.
func TestPayloadResumes(t *testing.T) {
	t.Parallel()
	t.Run("short", func(t *testing.T) { resumes(t, noise(10*InlineMax+123)) })
	t.Run("long", func(t *testing.T) { resumes(t, noise(treeless+3*InlineMax+123)) })
}

func resumes(t *testing.T, data []byte) {
	from := open(t, config(vfs.NewMem()))
	defer closed(t, from)
	p, err := from.NewPayload(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		fs := vfs.NewMem()
		to := open(t, config(fs))
		defer func() { closed(t, to) }()
		cuts := rapid.SliceOfN(rapid.IntRange(0, 6*len(data)/10), 0, 8).Draw(t, "cuts")
		for _, cut := range append(cuts, 1<<30) {
			held := to.HeldPayload(p.Hash, p.Size)
			if held == p.Size {
				break
			}
			var slice bytes.Buffer
			if err := from.SendPayload(&slice, p.Hash, held); err != nil {
				t.Fatal(err)
			}
			err := to.ReceivePayload(p.Hash, p.Size, io.LimitReader(&slice, int64(cut)))
			now := to.HeldPayload(p.Hash, p.Size)
			if err != nil && (now == p.Size || now < held || int(now-held) < cut-2*InlineMax) {
				t.Fatalf("%d bytes were sent from byte %d, then %d are held: %v", cut, held, now, err)
			}
			if rapid.Bool().Draw(t, "restart") {
				closed(t, to)
				to = open(t, config(fs))
			}
		}
		if got := read(t, to, p.Hash); !bytes.Equal(got, data) {
			t.Fatal("another payload arrived")
		}
	})
}

// TestPayloadIsVerified changes every part of what is sent: nothing of it is ever taken for the payload.
func TestPayloadIsVerified(t *testing.T) {
	t.Run("short", func(t *testing.T) { verified(t, noise(4*InlineMax+5), 211) })
	t.Run("long", func(t *testing.T) { verified(t, noise(treeless+5), 4099) })
}

func verified(t *testing.T, data []byte, step int) {
	from := open(t, config(vfs.NewMem()))
	defer closed(t, from)
	p, err := from.NewPayload(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var slice bytes.Buffer
	if err := from.SendPayload(&slice, p.Hash, 0); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < slice.Len(); at += step {
		fs := vfs.NewMem()
		to := open(t, config(fs))
		bad := bytes.Clone(slice.Bytes())
		bad[at] ^= 4
		if err := to.ReceivePayload(p.Hash, p.Size, bytes.NewReader(bad)); err == nil {
			t.Fatalf("byte %d was changed and nobody saw it", at)
		}
		if held := to.HeldPayload(p.Hash, p.Size); int(held) > at {
			t.Fatalf("byte %d was changed and %d are held", at, held)
		}
		if err := to.ReadPayload(io.Discard, p.Hash); !errors.Is(err, ErrNotFound) {
			t.Fatalf("readable: %v", err)
		}
		closed(t, to)
	}
	to := open(t, config(vfs.NewMem()))
	defer closed(t, to)
	for name, c := range map[string]struct {
		size uint64
		sent []byte
	}{
		"a size too small": {InlineMax, slice.Bytes()}, "a size beyond all": {1 << 63, slice.Bytes()},
		"another size": {p.Size + 1, slice.Bytes()}, "nothing": {p.Size, nil}, "a huge size": {p.Size, bytes.Repeat([]byte{0xff}, 100)},
	} {
		if err := to.ReceivePayload(p.Hash, c.size, bytes.NewReader(c.sent)); err == nil {
			t.Errorf("%s was received", name)
		}
	}
}

// TestDamagedPart: what was held of a payload turns bad on disk; the whole is refused, and comes anew.
func TestDamagedPart(t *testing.T) {
	t.Run("short", func(t *testing.T) { damagedPart(t, noise(6*InlineMax)) })
	t.Run("long", func(t *testing.T) { damagedPart(t, noise(treeless+6*InlineMax)) })
}

func damagedPart(t *testing.T, data []byte) {
	from := open(t, config(vfs.NewMem()))
	defer closed(t, from)
	p, err := from.NewPayload(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	fs := vfs.NewMem()
	to := open(t, config(fs))
	defer closed(t, to)
	send := func(limit int64) error {
		var slice bytes.Buffer
		if err := from.SendPayload(&slice, p.Hash, to.HeldPayload(p.Hash, p.Size)); err != nil {
			t.Fatal(err)
		}
		return to.ReceivePayload(p.Hash, p.Size, io.LimitReader(&slice, limit))
	}
	if err := send(3 * InlineMax); err == nil {
		t.Fatal("received though it was cut")
	}
	part := to.partFile(strings.TrimPrefix(p.Hash.String(), "0020"))
	held, err := readFile(fs, part, 1<<30)
	if err != nil || len(held) == 0 {
		t.Fatalf("%d bytes held, %v", len(held), err)
	}
	held[7] ^= 1
	if err := writeFile(fs, part, held); err != nil {
		t.Fatal(err)
	}
	if err := send(1 << 30); !errors.Is(err, bamboo.ErrPayload) {
		t.Fatalf("received: %v", err)
	}
	if err := send(1 << 30); err != nil {
		t.Fatal(err)
	}
	if got := read(t, to, p.Hash); !bytes.Equal(got, data) {
		t.Error("another payload arrived")
	}
}

// TestLeftovers: files that were being made are gone after the next start, parts stay.
func TestLeftovers(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, config(fs))
	if _, err := s.NewPayload(io.MultiReader(bytes.NewReader(noise(2*InlineMax)), brokenReader{})); err == nil {
		t.Error("a payload that cannot be read was taken")
	}
	if err := writeFile(fs, s.partFile("new-7"), noise(9)); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(fs, s.partFile("00ff"), noise(9)); err != nil {
		t.Fatal(err)
	}
	closed(t, s)
	s = open(t, config(fs))
	defer closed(t, s)
	if names, err := fs.List("store/payloads/part"); err != nil || len(names) != 1 || names[0] != "00ff" {
		t.Errorf("left are %v, %v", names, err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("broken") }
