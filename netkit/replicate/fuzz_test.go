package replicate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FuzzDecoders holds that what is decoded is encoded the same way again, and that nothing else is taken.
func FuzzDecoders(f *testing.F) {
	run := branch(f, 1, nil, 3, "text")
	h := hello{flags: 3, algo: Vector, window: window, root: [32]byte{1}}
	for _, seed := range [][]byte{
		h.encode(), encodeHeads([]head{{height: 3, bytes: 5}}, isLast), encodeWants([]want{{1, 2, 3, run[0].ID}, {0, 1, 1, [32]byte{}}}, true),
		encodeRun(1, run), encodeProof(run[0].Raw, run[1].Raw), (&fin{complete: true, taken: 7}).encode(), (&fileWant{size: 2, from: 1}).encode(),
		(&fileWant{size: 1 << 20, sought: true}).encode(),
		encodeSkip(1, skipLimit), encodeAsk(nil, true),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) == 0 {
			return
		}
		body := frame[1:]
		again := func(err error, encode func() []byte) {
			t.Helper()
			if err == nil && !bytes.Equal(encode(), frame) {
				t.Errorf("%x is encoded as %x", frame, encode())
			}
			if err != nil && !errors.Is(err, ErrProtocol) {
				t.Errorf("%x: %v", frame, err)
			}
		}
		switch kind(frame[0]) {
		case kindHello:
			h, err := decodeHello(body)
			again(err, h.encode)
		case kindHeads:
			heads, end, err := decodeHeads(body)
			again(err, func() []byte { return encodeHeads(heads, end) })
		case kindWants:
			wants, last, err := decodeWants(body)
			again(err, func() []byte { return encodeWants(wants, last) })
		case kindFin:
			fin, err := decodeFin(body)
			again(err, fin.encode)
		case kindGet, kindSeek:
			w, err := decodeFileWant(kind(frame[0]), body)
			again(err, w.encode)
		case kindProof:
			a, b, err := decodeProof(body)
			again(err, func() []byte { return encodeProof(a.Raw, b.Raw) })
		case kindRun:
			r, err := decodeRun(body)
			if err != nil {
				again(err, nil)
				return
			}
			if _, err := r.rebuild(logID{}, func(uint64) (bamboo.Hash, bool) { return bamboo.Hash{}, true }); err != nil {
				t.Errorf("%x: %v", frame, err)
			}
		default:
			if _, err := decodeNumber(body); err != nil {
				again(err, nil)
			}
		}
	})
}

// script is a stream on which is read what somebody made up.
type script struct{ *bytes.Reader }

func (script) Write(p []byte) (int, error)        { return len(p), nil }
func (script) CloseWrite() error                  { return nil }
func (script) Reset() error                       { return nil }
func (script) SetReadDeadline(t time.Time) error  { return nil }
func (script) SetWriteDeadline(t time.Time) error { return nil }

// inMemory is a replica without a disk.
func inMemory(t testing.TB, fs vfs.FS) *Replica {
	t.Helper()
	s, err := logstore.Open(logstore.Config{Dir: "store", Guard: "guard/own-heads", FS: fs, MinFree: 1, MemTableBytes: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, logstore.ErrClosed) {
			t.Error(err)
		}
	})
	return NewReplica(s, Rules{})
}

// FuzzLive holds the same of live messages, and that nothing is stored that no author signed.
func FuzzLive(f *testing.F) {
	run := branch(f, 1, nil, 3, "text")
	for n := range run {
		message, _ := encodeLive(run[:n+1])
		f.Add(message)
	}
	f.Add([]byte{liveVersion, 1})
	f.Add(binary.AppendUvarint([]byte{liveVersion}, 1<<40))
	r := inMemory(f, vfs.NewMem())
	f.Fuzz(func(t *testing.T, message []byte) {
		records, err := decodeLive(message)
		if err != nil {
			if !errors.Is(err, ErrProtocol) {
				t.Errorf("%x: %v", message, err)
			}
			return
		}
		if again, n := encodeLive(records); n == len(records) && !bytes.Equal(again, message) {
			t.Errorf("%x is encoded as %x", message, again)
		}
		if _, w, added, err := r.hear("", message); added > 0 {
			if err := bamboo.VerifySignatures([]bamboo.Signed{records[len(records)-1].Signed}); err != nil || w != liveNext {
				t.Errorf("worth %d, %v", w, err)
			}
		} else if err != nil && w != liveNext {
			t.Error(err)
		}
	})
}

// FuzzSession plays made-up frames to a replica: it neither panics nor hangs nor stores what is not proven.
func FuzzSession(f *testing.F) {
	other := replicaOf(f)
	write(f, other.Store, 1, 20, 50)
	for _, algo := range []Algo{Vector, Ranges} {
		var said bytes.Buffer
		x, y := wires(f)
		meetOver(f, &recorded{Stream: x, said: &said}, y, other, replicaOf(f), SessionConfig{Algo: algo}, SessionConfig{})
		f.Add(said.Bytes())
	}
	victim := inMemory(f, vfs.NewMem())
	write(f, victim.Store, 2, 5, 50)
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := victim.Run(t.Context(), script{bytes.NewReader(data)}, SessionConfig{})
		if err == nil && !bytes.Contains(data, []byte{byte(kindFin)}) && len(data) > 400 {
			t.Error("a session without an end was taken for one")
		}
		see(t, victim.Store, func(v *logstore.View) {
			err := v.Heads(func(h logstore.Head) error {
				if h.Author != authorN(1) && h.Author != authorN(2) {
					t.Errorf("a log by %s", h.Author)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	})
}

// FuzzImport takes made-up bundles.
func FuzzImport(f *testing.F) {
	other := replicaOf(f)
	write(f, other.Store, 1, 20, 50)
	var out bytes.Buffer
	if _, err := other.Export(f.Context(), &out, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(out.Bytes())
	victim := inMemory(f, vfs.NewMem())
	f.Fuzz(func(t *testing.T, data []byte) {
		report, err := victim.Import(t.Context(), bytes.NewReader(data))
		if err == nil && report.Entries == 0 && report.Added > 0 {
			t.Errorf("%+v", report)
		}
		if err != nil && errors.Is(err, io.EOF) && !errors.Is(err, ErrBundle) {
			t.Error(err)
		}
	})
}
