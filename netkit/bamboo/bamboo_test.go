package bamboo

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// chain signs n entries of one log.
func chain(t testing.TB, key ed25519.PrivateKey, log uint64, n int, payload func(i int) []byte) []Signed {
	t.Helper()
	run := make([]Signed, 0, n)
	for i := range n {
		var previous *Signed
		var skip Hash
		if i > 0 {
			previous = &run[i-1]
			if HasSkiplink(uint64(i + 1)) {
				skip = run[Lipmaa(uint64(i+1))-1].ID
			}
		}
		e, err := Sign(key, log, previous, skip, payload(i))
		if err != nil {
			t.Fatal(err)
		}
		run = append(run, e)
	}
	return run
}

func text(i int) []byte { return []byte(fmt.Sprint("payload ", i)) }

// resign gives an entry other parts and the signature for them.
func resign(t testing.TB, key ed25519.PrivateKey, s Signed, change func(*Entry)) Signed {
	t.Helper()
	e := s.Entry
	change(&e)
	copy(e.Signature[:], ed25519.Sign(key, e.appendUnsigned(nil)))
	out, err := Parse(e.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func none(uint64) (Hash, bool) { return Hash{}, false }

func TestEntryRoundTrip(t *testing.T) {
	number := rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 1000))
	rapid.Check(t, func(t *rapid.T) {
		hash := func(name string) Hash { return HashOf([]byte(rapid.String().Draw(t, name) + name)) }
		e := Entry{
			End: rapid.Bool().Draw(t, "end"), Log: number.Draw(t, "log"), Seq: max(1, number.Draw(t, "seq")),
			PayloadSize: number.Draw(t, "size"), PayloadHash: hash("payload"),
		}
		copy(e.Author[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "author"))
		copy(e.Signature[:], rapid.SliceOfN(rapid.Byte(), 64, 64).Draw(t, "signature"))
		if e.Seq > 1 {
			e.Backlink = hash("back")
		}
		if HasSkiplink(e.Seq) {
			e.Skiplink = hash("skip")
		}
		raw := e.Append(nil)
		got, err := Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, got); diff != "" {
			t.Fatal(diff)
		}
		if len(raw) > MaxEntrySize {
			t.Fatalf("%d bytes, at most %d", len(raw), MaxEntrySize)
		}
		for cut := range raw {
			if _, err := Decode(raw[:cut]); !errors.Is(err, ErrEntry) {
				t.Fatalf("cut after %d bytes: %v", cut, err)
			}
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	run := chain(t, key(t, seedA), 0, 4, text)
	fourth := run[3].Entry
	same := fourth
	same.Skiplink = same.Backlink
	for want, raw := range map[string][]byte{
		"cut off after 0 bytes":                  nil,
		"unknown tag 2":                          append([]byte{2}, run[0].Raw[1:]...),
		"sequence number 0":                      slices.Replace(bytes.Clone(run[0].Raw), 34, 35, 0),
		"backlink and skiplink are the same":     same.Append(nil),
		"signature of 65 bytes, want 64":         append(bytes.Clone(run[0].Raw), 0),
		"log: malformed varu64":                  slices.Replace(bytes.Clone(run[0].Raw), 33, 34, 0xf8, 1),
		"payload size: malformed varu64":         slices.Replace(bytes.Clone(run[0].Raw), 35, 36, 0xf9, 0, 0xff),
		"payload: malformed hash: kind 1 of 32 ": slices.Replace(bytes.Clone(run[0].Raw), 36, 37, 1),
		"backlink: malformed hash: kind 9 of 32": slices.Replace(bytes.Clone(run[1].Raw), 35, 36, 9),
		"skiplink: malformed hash: kind 0 of 31": slices.Replace(bytes.Clone(run[3].Raw), 36, 37, 31),
		"backlink: malformed hash: kind 9 of 3":  slices.Replace(bytes.Clone(run[3].Raw), 69, 70, 9),
	} {
		if _, err := Parse(raw); !errors.Is(err, ErrEntry) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestVaru64(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 70000)).Draw(t, "n")
		got, rest, err := ReadVaru64(append(AppendVaru64(nil, n), "rest"...))
		if got != n || string(rest) != "rest" || err != nil {
			t.Fatalf("%d read as %d before %q, %v", n, got, rest, err)
		}
	})
}

// TestLipmaa compares with the definition in numbers that do not overflow.
func TestLipmaa(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 100000), rapid.Uint64Range(math.MaxUint64-1000, math.MaxUint64)).Draw(t, "n")
		if got, want := Lipmaa(n), defined(n); got != want {
			t.Fatalf("entry %d leads to %d, want %d", n, got, want)
		}
	})
	for n := range uint64(3000) {
		if got, want := Lipmaa(n), defined(n); got != want {
			t.Fatalf("entry %d leads to %d, want %d", n, got, want)
		}
	}
}

func defined(seq uint64) uint64 {
	if seq == 0 {
		return 0
	}
	n, one, three := new(big.Int).SetUint64(seq), big.NewInt(1), big.NewInt(3)
	half := func(p *big.Int) *big.Int { return new(big.Int).Rsh(new(big.Int).Sub(p, one), 1) }
	m, p := big.NewInt(1), big.NewInt(3)
	for m.Cmp(n) < 0 {
		p.Mul(p, three)
		m = half(p)
	}
	p.Div(p, three)
	if m.Cmp(n) != 0 {
		for x := new(big.Int).Set(n); x.Sign() != 0; {
			m = half(p)
			p.Div(p, three)
			x.Mod(x, m)
		}
		if m.Cmp(p) != 0 {
			p = m
		}
	}
	return n.Sub(n, p).Uint64()
}

func TestVerifyRun(t *testing.T) {
	author, other := key(t, seedA), key(t, seedB)
	run := chain(t, author, 3, 30, text)
	held := func(seq uint64) (Hash, bool) { return run[seq-1].ID, true }
	for start := range run {
		for end := start; end <= len(run); end++ {
			if err := VerifyRun(run[start:end], held); err != nil {
				t.Fatalf("entries %d to %d: %v", start+1, end, err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		change func([]Signed) []Signed
		held   func(uint64) (Hash, bool)
		want   string
	}{
		{"no entry before", func(r []Signed) []Signed { return r[1:] }, none, "entry 2 of log 3 .*backlink"},
		{"a gap", func(r []Signed) []Signed { return slices.Delete(r, 5, 6) }, none, "stands where entry 6"},
		{"another log", func(r []Signed) []Signed { r[4] = chain(t, author, 4, 5, text)[4]; return r }, none, "another log"},
		{"another author", func(r []Signed) []Signed { r[4] = chain(t, other, 3, 5, text)[4]; return r }, none, "another log"},
		{"another payload in the middle", func(r []Signed) []Signed {
			r[9] = resign(t, author, r[9], func(e *Entry) { e.PayloadHash = HashOf(nil) })
			return r
		}, none, "entry 11 .*backlink"},
		{"another signature in the middle", func(r []Signed) []Signed {
			r[9] = resign(t, other, r[9], func(*Entry) {})
			return r
		}, none, "entry 11 .*backlink"},
		{"a skiplink elsewhere", func(r []Signed) []Signed {
			r = r[:13]
			r[12] = resign(t, author, r[12], func(e *Entry) { e.Skiplink = r[7].ID })
			return r
		}, none, "entry 13 .*skiplink does not lead to entry 4"},
		{"after the end", func(r []Signed) []Signed {
			r = r[:2]
			r[0] = resign(t, author, r[0], func(e *Entry) { e.End = true })
			r[1] = resign(t, author, r[1], func(e *Entry) { e.Backlink = r[0].ID })
			return r
		}, none, "log has ended"},
		{"signed by another", func(r []Signed) []Signed {
			r[29] = resign(t, other, r[29], func(*Entry) {})
			return r
		}, none, "signature does not verify"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := VerifyRun(c.change(slices.Clone(run)), c.held)
			if !matches(err, c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func matches(err error, want string) bool {
	if err == nil {
		return false
	}
	rest := err.Error()
	for part := range strings.SplitSeq(want, ".*") {
		_, after, found := strings.Cut(rest, part)
		if !found {
			return false
		}
		rest = after
	}
	return true
}

// TestRunHidesNothing: whatever byte of a run is changed, and the ids computed again, the run does not verify.
func TestRunHidesNothing(t *testing.T) {
	run := chain(t, key(t, seedA), 0, 6, text)
	rapid.Check(t, func(t *rapid.T) {
		which := rapid.IntRange(0, len(run)-1).Draw(t, "entry")
		raw := bytes.Clone(run[which].Raw)
		raw[rapid.IntRange(0, len(raw)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		forged := slices.Clone(run)
		var err error
		if forged[which], err = Parse(raw); err != nil {
			return
		}
		if err := VerifyRun(forged, none); err == nil {
			t.Fatalf("entry %d as %x was accepted", which+1, raw)
		}
	})
}

// TestOneRule: a batch accepts what single checks accept, for valid signatures, broken ones, and those that only the rules of ZIP 215
// settle: keys and nonces of small order and in forms that are not canonical.
func TestOneRule(t *testing.T) {
	var entries []Signed
	for _, encoding := range []string{
		"0100000000000000000000000000000000000000000000000000000000000000", // the neutral element
		"0000000000000000000000000000000000000000000000000000000000000000", // order 4
		"0100000000000000000000000000000000000000000000000000000000000080", // neutral, sign set: not canonical
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // neutral, y = p+1: not canonical
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
	} {
		for _, nonce := range []string{encoding, "0100000000000000000000000000000000000000000000000000000000000000"} {
			e := Entry{Author: Author(unhex(t, encoding)), Seq: 1, PayloadHash: HashOf(nil)}
			copy(e.Signature[:], unhex(t, nonce))
			s, err := Parse(e.Append(nil))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Verify(); err != nil {
				t.Errorf("key %s, nonce %s: %v, ZIP 215 accepts it", encoding, nonce, err)
			}
			entries = append(entries, s)
		}
	}
	run := chain(t, key(t, seedA), 0, 20, text)
	broken := resign(t, key(t, seedB), run[5], func(*Entry) {})
	high := run[6].Entry
	for i, carry := 0, 0; i < 32; i++ { // S + order: the same modulo the order, and therefore refused
		sum := int(high.Signature[32+i]) + int(unhex(t, "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")[i]) + carry
		high.Signature[32+i], carry = byte(sum), sum>>8
	}
	malleable, err := Parse(high.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	entries = append(entries, run...)
	entries = append(entries, broken, malleable)
	var want []int
	for i := range entries {
		if entries[i].Verify() != nil {
			want = append(want, i)
		}
	}
	if !slices.Equal(want, []int{len(entries) - 2, len(entries) - 1}) {
		t.Fatalf("one by one, %v of %d are refused", want, len(entries))
	}
	var refused *SignatureError
	if err := VerifySignatures(entries); !errors.As(err, &refused) || !slices.Equal(refused.Entries, want) || !errors.Is(err, ErrSignature) {
		t.Errorf("as a batch: %v, want entries %v refused", err, want)
	}
	if err := VerifySignatures(entries[:len(entries)-2]); err != nil {
		t.Errorf("as a batch without those: %v", err)
	}
}

// TestBatches has more entries than are checked at once, with a bad one in the second part.
func TestBatches(t *testing.T) {
	run := chain(t, key(t, seedA), 0, Batch+10, text)
	if err := VerifySignatures(run); err != nil {
		t.Fatal(err)
	}
	run[Batch+3] = resign(t, key(t, seedB), run[Batch+3], func(*Entry) {})
	run[Batch+3].Author = run[0].Author
	var refused *SignatureError
	if err := VerifySignatures(run); !errors.As(err, &refused) || !slices.Equal(refused.Entries, []int{Batch + 3}) {
		t.Errorf("got %v", err)
	}
}

func TestSignRefuses(t *testing.T) {
	first := chain(t, key(t, seedA), 0, 1, text)[0]
	ended := resign(t, key(t, seedA), first, func(e *Entry) { e.End = true })
	for name, c := range map[string]struct {
		seed     string
		log      uint64
		previous *Signed
	}{"another author": {seedB, 0, &first}, "another log": {seedA, 1, &first}, "after the end": {seedA, 0, &ended}} {
		if _, err := Sign(key(t, c.seed), c.log, c.previous, Hash{}, nil); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if err := first.CheckPayload([]byte("payload 1")); !errors.Is(err, ErrPayload) {
		t.Errorf("another payload: %v", err)
	}
}

func TestTextForms(t *testing.T) {
	author := Author(key(t, seedA)[32:])
	if got, err := ParseAuthor(author.String()); got != author || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	for _, bad := range []string{"", "xx", author.String()[1:], author.String() + "00"} {
		if _, err := ParseAuthor(bad); err == nil {
			t.Errorf("author %q was read", bad)
		}
		if _, err := ParseHash(bad); !errors.Is(err, ErrHash) {
			t.Errorf("hash %q: %v", bad, err)
		}
	}
	if _, err := ParseHash(idA + "00"); !errors.Is(err, ErrHash) {
		t.Errorf("a hash too long: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, e := range chain(f, key(f, seedA), 7, 5, text) {
		f.Add(e.Raw)
	}
	f.Add(append(unhex(f, hex.EncodeToString(make([]byte, 33))), 0xff, 0xff))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			return
		}
		if again := s.Append(nil); !bytes.Equal(again, data) {
			t.Fatalf("%x is written again as %x", data, again)
		}
	})
}
