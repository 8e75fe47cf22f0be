package logstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"dibber/netkit/bamboo"
)

// TestVerifyRepairs damages every kind of row behind the store's back. Verify says so, a repair puts it in order, and what it had to
// take out comes again.
func TestVerifyRepairs(t *testing.T) {
	t.Parallel()
	a, b := runOf(t, keyN(1), 0, 700, 0), runOf(t, keyN(2), 3, 30, 100)
	k := keyOf(authorN(1), 0)
	at := func(kind byte, seq uint64) []byte { p := k.at(seq); return row(kind, p[:]) }
	item := itemOf(a[4].Time, a[4].ID)
	for name, c := range map[string]struct {
		key     []byte
		change  func([]byte) []byte // nil removes
		removed int
	}{
		"an entry is gone":           {at(rowEntry, 650), nil, 50},
		"the first entry is gone":    {at(rowEntry, 1), nil, 699},
		"the last entry is gone":     {at(rowEntry, 700), nil, 0},
		"a bit of an entry":          {at(rowEntry, 650), flip(60), 51},
		"a bit of a payload":         {at(rowEntry, 700), flip(-1), 1},
		"a bit of a time":            {at(rowEntry, 650), flip(7), 0},
		"a bit of an arrival":        {at(rowEntry, 650), flip(15), 0},
		"an entry too short":         {at(rowEntry, 650), func([]byte) []byte { return []byte{1} }, 51},
		"an entry of nothing":        {append([]byte{rowEntry}, 1, 2), func([]byte) []byte { return nil }, 0},
		"an id is gone":              {row(rowID, a[4].ID[:]), nil, 0},
		"an id leads elsewhere":      {row(rowID, a[4].ID[:]), flip(47), 0},
		"an id of nothing":           {row(rowID, make([]byte, 32)), func([]byte) []byte { return make([]byte, 48) }, 0},
		"an item is gone":            {row(rowItem, item[:]), nil, 0},
		"an item of nothing":         {row(rowItem, make([]byte, 40)), func([]byte) []byte { return []byte{} }, 0},
		"an arrival is gone":         {row(rowArrival, number(5)), nil, 0},
		"the last arrival is gone":   {row(rowArrival, number(730)), nil, 0},
		"an arrival leads elsewhere": {row(rowArrival, number(5)), flip(47), 0},
		"an arrival of nothing":      {row(rowArrival, number(5000)), func([]byte) []byte { return make([]byte, 48) }, 0},
		"a head is gone":             {row(rowHead, k[:]), nil, 0},
		"a head says too much":       {row(rowHead, k[:]), flip(7), 0},
		"a head too short":           {row(rowHead, k[:]), func([]byte) []byte { return []byte{} }, 0},
		"a head of nothing":          {row(rowHead, make([]byte, 40)), func([]byte) []byte { return (&Head{Height: 9}).encode() }, 0},
		"a summary":                  {row(rowBlock, make([]byte, 40)), flip(8), 0},
		"a summary is gone":          {row(rowBlock, make([]byte, 40)), nil, 0},
		"the state":                  {[]byte{rowState}, flip(24), 0},
		"a fork of nothing":          {at(rowFork, 3), func([]byte) []byte { return []byte{1, 2, 3} }, 0},
		"a file of nothing":          {row(rowFile, []byte{1}), func([]byte) []byte { return number(3) }, 0},
	} {
		if stride > 1 && c.removed == 0 {
			continue // too slow with the race detector, and nothing in it is concurrent
		}
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			s := open(t, config(fs))
			put(t, s, a)
			put(t, s, b)
			if report, err := s.Verify(t.Context(), VerifyConfig{}); err != nil || report.Found > 0 || report.Entries != 730 || report.Logs != 2 {
				t.Fatalf("before: %+v, %v", report, err)
			}
			value, err := s.db.Get(c.key)
			if err != nil && c.change == nil {
				t.Fatal(err)
			}
			var changed []byte
			if c.change != nil {
				if changed = c.change(value); changed == nil {
					changed = []byte{}
				}
			}
			if err := s.db.Write(map[string][]byte{string(c.key): changed}); err != nil {
				t.Fatal(err)
			}
			closed(t, s)
			cfg := config(fs)
			cfg.AcceptLoss = true // some of it is seen when the store is opened
			s = open(t, cfg)
			report, err := s.Verify(t.Context(), VerifyConfig{})
			if err != nil || report.Found == 0 || report.Repaired {
				t.Fatalf("damaged: %+v, %v", report, err)
			}
			report, err = s.Verify(t.Context(), VerifyConfig{Repair: true})
			if err != nil || !report.Repaired || report.Removed != c.removed {
				t.Fatalf("repaired: %+v, %v", report, err)
			}
			for range 2 {
				if report, err := s.Verify(t.Context(), VerifyConfig{}); err != nil || report.Found > 0 {
					t.Fatalf("after: %+v, %v", report, err)
				}
				put(t, s, a)
				put(t, s, b)
				view(t, s, func(v *View) {
					if v.Len() != 730 {
						t.Fatalf("%d entries", v.Len())
					}
				})
				closed(t, s)
				s = open(t, config(fs))
			}
			closed(t, s)
		})
	}
}

// flip turns the lowest bit of one byte, from the end if negative.
func flip(at int) func([]byte) []byte {
	return func(value []byte) []byte {
		out := bytes.Clone(value)
		out[(at+len(out))%len(out)] ^= 1
		return out
	}
}

// TestReadNoticesRot: a damaged entry is not served.
func TestReadNoticesRot(t *testing.T) {
	s := open(t, config(vfs.NewMem()))
	defer closed(t, s)
	run := runOf(t, keyN(1), 0, 3, 0)
	put(t, s, run)
	p := keyOf(authorN(1), 0).at(2)
	value, err := s.db.Get(row(rowEntry, p[:]))
	if err != nil {
		t.Fatal(err)
	}
	for at := recordFixed - 10; at < len(value); at++ {
		if err := s.db.Write(map[string][]byte{string(row(rowEntry, p[:])): flip(at)(value)}); err != nil {
			t.Fatal(err)
		}
		later := newView(s, state{}, nil)
		var rotten *CorruptError
		if _, err := later.Entry(authorN(1), 0, 2); !errors.As(err, &rotten) {
			t.Errorf("byte %d turned: %v", at, err)
		}
		if err := later.Run(authorN(1), 0, 1, 3, func(Record) error { return nil }); !errors.As(err, &rotten) {
			t.Errorf("byte %d turned: %v", at, err)
		}
		if err := later.snap.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestVerifyFiles damages the file of a payload, then its tree.
func TestVerifyFiles(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, config(fs))
	defer closed(t, s)
	data := noise(treeless + 3*InlineMax)
	p, err := s.NewPayload(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(keyN(1), 0, p); err != nil {
		t.Fatal(err)
	}
	var slice bytes.Buffer
	if err := s.SendPayload(&slice, p.Hash, 0); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{treeOf(s.file(p.Hash)), s.file(p.Hash)} {
		whole, err := readFile(fs, path, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeFile(fs, path, flip(len(whole)/2)(whole)); err != nil {
			t.Fatal(err)
		}
		var rotten *CorruptError
		if err := s.ReadPayload(io.Discard, p.Hash); !errors.As(err, &rotten) {
			t.Errorf("%s: read: %v", path, err)
		}
		report, err := s.Verify(t.Context(), VerifyConfig{Repair: true})
		if err != nil || report.Found != 1 || !report.Repaired || report.Removed != 0 {
			t.Errorf("%s: %+v, %v", path, report, err)
		}
	}
	missing := 0
	view(t, s, func(v *View) {
		if err := v.MissingPayloads(func(hash bamboo.Hash, size uint64) error {
			missing++
			return s.ReceivePayload(hash, size, &slice)
		}); err != nil {
			t.Error(err)
		}
	})
	if got := read(t, s, p.Hash); missing != 1 || !bytes.Equal(got, data) {
		t.Errorf("%d missing, then %d bytes", missing, len(got))
	}
	if report, err := s.Verify(t.Context(), VerifyConfig{}); err != nil || report.Found > 0 {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestInnerSignature: an author who signs nonsense inside of a run is found when signatures are checked one by one, and by Verify, and
// the run is not taken apart for it.
func TestInnerSignature(t *testing.T) {
	s := open(t, config(vfs.NewMem()))
	defer closed(t, s)
	run := runOf(t, keyN(1), 0, 2, 0)
	raw := slices.Clone(run[1].Raw)
	raw[len(raw)-1] ^= 1
	var err error
	if run[1].Signed, err = bamboo.Parse(raw); err != nil {
		t.Fatal(err)
	}
	run = grow(t, keyN(1), 0, run, 8, 0, text)
	put(t, s, run)
	if err := s.CheckSignatures(authorN(1), 0, 1); err != nil {
		t.Error(err)
	}
	var bad *bamboo.SignatureError
	if err := s.CheckSignatures(authorN(1), 0, 10); !errors.As(err, &bad) || !slices.Equal(bad.Entries, []int{1}) {
		t.Errorf("checked: %v", err)
	}
	view(t, s, func(v *View) {
		if h, err := v.Head(authorN(1), 0); err != nil || h.Checked != 1 {
			t.Errorf("%+v, %v", h, err)
		}
	})
	report, err := s.Verify(t.Context(), VerifyConfig{})
	if err != nil || report.Found != 1 || !strings.Contains(report.Problems[0], "entry 2 of log 0") {
		t.Errorf("%+v, %v", report, err)
	}
	good := runOf(t, keyN(2), 0, bamboo.Batch+5, 0)
	put(t, s, good)
	if err := s.CheckSignatures(authorN(2), 0, 1<<40); err != nil {
		t.Error(err)
	}
	view(t, s, func(v *View) {
		if h, err := v.Head(authorN(2), 0); err != nil || h.Checked != bamboo.Batch+5 {
			t.Errorf("%+v, %v", h, err)
		}
	})
}

func TestVerifyEnds(t *testing.T) {
	s := open(t, config(vfs.NewMem()))
	defer closed(t, s)
	run := runOf(t, keyN(1), 0, 2500, 0)
	put(t, s, run)
	ctx, cancel := context.WithCancel(t.Context())
	seen := 0
	report, err := s.Verify(ctx, VerifyConfig{On: func(n int) { seen = n; cancel() }})
	if !errors.Is(err, context.Canceled) || seen != 1000 || report.Entries != 1000 {
		t.Errorf("%d seen, %+v, %v", seen, report, err)
	}
	holds(t, s, run)
}
