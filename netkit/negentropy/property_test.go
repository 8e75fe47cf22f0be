package negentropy

import (
	"bytes"
	"errors"
	"math/big"
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// drawSet draws items whose ids are those of numbers, so that two sets have some in common.
func drawSet(t *rapid.T, name string) []Item {
	spread := rapid.SampledFrom([]uint64{1, 7, 1 << 20}).Draw(t, name+" items of one time")
	from := rapid.IntRange(0, 3000).Draw(t, name+" from")
	var out []Item
	for n := range rapid.IntRange(0, 2000).Draw(t, name+" items") {
		i := from + n
		out = append(out, Item{uint64(i) / spread, numbered(i)})
	}
	return out
}

// sessionFrom runs a reconciliation and returns the differences and how many answers it took.
func sessionFrom(t testing.TB, a, b Set, frame int, open func(*Initiator) ([]byte, error)) (Diff, int) {
	t.Helper()
	i, err := NewInitiator(a, frame)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewResponder(b, frame)
	if err != nil {
		t.Fatal(err)
	}
	var all Diff
	msg, err := open(i)
	for rounds := 0; ; rounds++ {
		if err != nil {
			t.Fatal(err)
		}
		if msg == nil {
			return all, rounds
		}
		answer, err2 := r.Answer(msg)
		if err2 != nil {
			t.Fatal(err2)
		}
		if frame != 0 && (len(answer) > frame || rounds > 0 && len(msg) > frame) {
			t.Fatalf("message of %d bytes and answer of %d, limit %d", len(msg), len(answer), frame)
		}
		if rounds > 10_000 {
			t.Fatal("does not end")
		}
		var d Diff
		msg, d, err = i.Next(answer)
		all.Have, all.Need = append(all.Have, d.Have...), append(all.Need, d.Need...)
	}
}

func without(a, b []Item) (out []ID) {
	in := make(map[ID]bool, len(b))
	for _, item := range b {
		in[item.ID] = true
	}
	for _, item := range a {
		if !in[item.ID] {
			out = append(out, item.ID)
		}
	}
	return out
}

func sorted(ids []ID) []ID {
	return slices.SortedFunc(slices.Values(ids), func(a, b ID) int { return bytes.Compare(a[:], b[:]) })
}

func TestEveryDifferenceIsTold(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		base := drawSet(rt, "shared")
		a, b := slices.Clone(base), slices.Clone(base)
		own := rapid.SliceOfN(rapid.IntRange(0, 1_000_000), 0, 400).Draw(rt, "of one side")
		slices.Sort(own)
		for i, n := range slices.Compact(own) {
			item := Item{uint64(n % 5000), numbered(10_000 + n)}
			if i%3 == 0 {
				a = append(a, item)
			} else {
				b = append(b, item)
			}
		}
		if rapid.Bool().Draw(rt, "one side is empty") {
			a = nil
		}
		frame := rapid.SampledFrom([]int{0, MinFrame, 5000, 60_000}).Draw(rt, "frame")
		open := rapid.SampledFrom([]func(*Initiator) ([]byte, error){(*Initiator).Open, (*Initiator).OpenTail}).Draw(rt, "first message")
		for _, way := range [][2][]Item{{a, b}, {b, a}} {
			d, rounds := sessionFrom(t, vector(t, way[0]...), vector(t, way[1]...), frame, open)
			if frame != 0 { // with a limit some are told again
				d.Have, d.Need = slices.Compact(sorted(d.Have)), slices.Compact(sorted(d.Need))
			}
			if want := sorted(without(way[0], way[1])); !slices.Equal(sorted(d.Have), want) {
				rt.Fatalf("have %d, want %d", len(d.Have), len(want))
			}
			if want := sorted(without(way[1], way[0])); !slices.Equal(sorted(d.Need), want) {
				rt.Fatalf("need %d, want %d", len(d.Need), len(want))
			}
			if frame == 0 && rounds > 2+bits.Len(uint(len(a)+len(b)))/4 {
				rt.Fatalf("%d rounds for %d and %d items", rounds, len(a), len(b))
			}
		}
	})
}

// The newest items that this side lacks are found in one round trip, those that the other lacks in two, however many both have.
func TestTheTailIsFoundAtOnce(t *testing.T) {
	for _, n := range []int{0, 40, 5000, 100_000} {
		items := make([]Item, n+1000)
		for i := range items {
			items[i] = Item{uint64(i), numbered(i)}
		}
		all := vector(t, items...)
		for _, lacking := range []int{1, 100, 1000} {
			some := vector(t, items[:len(items)-lacking]...)
			for _, frame := range []int{0, 256 << 10} {
				d, rounds := sessionFrom(t, some, all, frame, (*Initiator).OpenTail)
				if len(d.Need) != lacking || len(d.Have) > 0 || rounds > 1 {
					t.Errorf("of %d items %d are lacking: %d found in %d rounds", len(items), lacking, len(d.Need), rounds)
				}
				d, rounds = sessionFrom(t, all, some, frame, (*Initiator).OpenTail)
				if len(d.Have) != lacking || len(d.Need) > 0 || rounds > 2 {
					t.Errorf("of %d items the other side lacks %d: %d found in %d rounds", len(items), lacking, len(d.Have), rounds)
				}
			}
		}
	}
}

// A full message ends with the fingerprint of all that it does not answer. One that leaves out the range which found no
// room can tell a side that has nothing from there on that the sets are equal.
func TestAFullMessageHidesNothing(t *testing.T) {
	var a, b []Item
	for i := range 4000 {
		item := Item{uint64(i), numbered(i)}
		a = append(a, item)
		if i%9 != 0 {
			b = append(b, item)
		}
	}
	full := 0
	for _, way := range [][2][]Item{{a, b}, {b, a}} {
		asks, answers := vector(t, way[0]...), vector(t, way[1]...)
		i, err := NewInitiator(asks, MinFrame)
		if err != nil {
			t.Fatal(err)
		}
		r, err := NewResponder(answers, MinFrame)
		if err != nil {
			t.Fatal(err)
		}
		msg, err := i.Open()
		for msg != nil && err == nil {
			if msg, err = r.Answer(msg); err != nil {
				break
			}
			full += checkEnd(t, answers, msg)
			if msg, _, err = i.Next(msg); msg != nil {
				full += checkEnd(t, asks, msg)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if full < 10 {
		t.Errorf("%d full messages", full)
	}
}

// checkEnd returns 1 if a message ends with a fingerprint of the rest of v, which it checks.
func checkEnd(t *testing.T, v *Vector, msg []byte) int {
	t.Helper()
	r := reader{rest: msg[1:]}
	for from := 0; len(r.rest) > 0; {
		upTo, err := r.bound()
		if err != nil {
			t.Fatal(err)
		}
		mode, err := r.varint()
		if err != nil {
			t.Fatal(err)
		}
		switch mode {
		case modeFingerprint:
			got, err := r.bytes(FingerprintSize)
			if err != nil {
				t.Fatal(err)
			}
			if upTo.Timestamp != Forever || len(r.rest) > 0 {
				break
			}
			sum, err := v.Sum(from, v.Len())
			if err != nil {
				t.Fatal(err)
			}
			if sum.Fingerprint() != Fingerprint(got) {
				t.Errorf("last fingerprint is not that of the %d items behind the range before", v.Len()-from)
			}
			return 1
		case modeIDList:
			if _, err := r.ids(); err != nil {
				t.Fatal(err)
			}
		}
		if from, err = v.Search(from, upTo); err != nil {
			t.Fatal(err)
		}
	}
	return 0
}

func TestSumsAreNumbersMod2To256(t *testing.T) {
	number := func(b [32]byte) *big.Int {
		slices.Reverse(b[:])
		return new(big.Int).SetBytes(b[:])
	}
	modulus := new(big.Int).Lsh(big.NewInt(1), 256)
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOf(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0x7f, 0x80, 0xfe, 0xff}), 32, 32)).Draw(t, "ids")
		want := new(big.Int)
		var all, first Sum
		for i, id := range ids {
			want.Add(want, number(ID(id)))
			all = all.AddID(ID(id))
			if i < len(ids)/2 {
				first = first.AddID(ID(id))
			}
		}
		if got := number(all.Bytes()); got.Cmp(want.Mod(want, modulus)) != 0 {
			t.Fatalf("sum %x, want %x", got, want)
		}
		if again := first.Add(all.Sub(first)); again != all || all.Count != uint64(len(ids)) {
			t.Fatalf("parts add up to %v, want %v", again, all)
		}
		if again := ParseSum(all.Count, all.Bytes()); again != all {
			t.Fatalf("parsed %v, want %v", again, all)
		}
	})
}

func TestVectorAgreesWithCounting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		items := drawSet(t, "set")
		v, err := NewVector(items)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(items, Item.Compare)
		from := rapid.IntRange(0, len(items)).Draw(t, "from")
		to := rapid.IntRange(from, len(items)).Draw(t, "to")
		var want Sum
		for _, item := range items[from:to] {
			want = want.AddID(item.ID)
		}
		if got, err := v.Sum(from, to); err != nil || got != want {
			t.Fatalf("sum %v %v, want %v", got, err, want)
		}
		if from > 0 && from < len(items) {
			if got, err := v.Search(0, between(items[from-1], items[from])); err != nil || got != from {
				t.Fatalf("bound before %d found at %d (%v)", from, got, err)
			}
		}
	})
}

func TestVectorRefusesWhatIsNoSet(t *testing.T) {
	if _, err := NewVector([]Item{{1, numbered(1)}, {1, numbered(1)}}); err == nil {
		t.Error("an item twice was taken")
	}
	if _, err := NewVector([]Item{{Forever, numbered(1)}}); err == nil {
		t.Error("an item at the end of time was taken")
	}
}

func TestVarintRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64().Draw(t, "n")
		r := reader{rest: append(appendVarint(nil, n), 0xaa)}
		if got, err := r.varint(); err != nil || got != n || len(r.rest) != 1 {
			t.Fatalf("%d came back as %d, %v", n, got, err)
		}
	})
}

func TestMalformedMessagesAreRefused(t *testing.T) {
	list := func(count uint64, ids int) []byte {
		return append(appendVarint([]byte{Version1, 0, 0, modeIDList}, count), make([]byte, ids*IDSize)...)
	}
	for name, msg := range map[string][]byte{
		"empty":                    {},
		"no version":               {0x01},
		"ends in a bound":          {Version1, 0x81},
		"ends before a prefix":     {Version1, 1, 4, 0},
		"long prefix":              append([]byte{Version1, 1, 33}, make([]byte, 40)...),
		"no mode":                  {Version1, 0, 0},
		"unknown mode":             {Version1, 0, 0, 3},
		"short fingerprint":        append([]byte{Version1, 0, 0, 1}, make([]byte, 15)...),
		"more items than bytes":    list(1<<60, 1),
		"one item more than bytes": list(3, 2),
		"number above 64 bits":     append([]byte{Version1}, bytes.Repeat([]byte{0xff}, 11)...),
		"time above 64 bits":       slices.Concat([]byte{Version1, 3, 0, 0}, appendVarint(nil, Forever), []byte{0, 0}),
		"backwards":                {Version1, 5, 1, 9, 0, 1, 1, 8, 0},
	} {
		r, err := NewResponder(vector(t, forty()...), 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Answer(msg); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	i, err := NewInitiator(vector(t), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := i.Next([]byte{0x60}); !errors.Is(err, ErrVersion) {
		t.Errorf("version 0 answered to us: %v", err)
	}
	if _, err := NewResponder(vector(t), 100); !errors.Is(err, ErrFrame) {
		t.Errorf("frames of 100 bytes: %v", err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte{Version1, 0, 0, modeIDList, 0})
	f.Add(append([]byte{Version1, 0, 0, modeFingerprint}, make([]byte, FingerprintSize)...))
	f.Add([]byte{Version1, 5, 1, 9, 0, 0, 0, 0})
	v, err := NewVector(forty())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		r, err := NewResponder(v, MinFrame)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := r.Answer(msg); err == nil && len(b) > MinFrame {
			t.Fatalf("answer of %d bytes", len(b))
		}
		i, err := NewInitiator(v, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, d, err := i.Next(msg); err == nil && len(d.Need)*IDSize > len(msg) {
			t.Fatalf("%d items from %d bytes", len(d.Need), len(msg))
		}
	})
}
