package negentropy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func vector(t *testing.T, items ...Item) *Vector {
	t.Helper()
	v, err := NewVector(items)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func numbered(i int) ID { return sha256.Sum256(fmt.Appendf(nil, "item-%d", i)) }

// forty are the items of the vectors taken from the reference implementation.
func forty() (items []Item) {
	for i := range 40 {
		items = append(items, Item{uint64(1000 + i/3), numbered(i)})
	}
	return items
}

func TestVectorsOfTheReference(t *testing.T) {
	open := func(items ...Item) []byte {
		i, err := NewInitiator(vector(t, items...), 0)
		if err != nil {
			t.Fatal(err)
		}
		b, err := i.Open()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	answer := func(msg string, items ...Item) string {
		r, err := NewResponder(vector(t, items...), 0)
		if err != nil {
			t.Fatal(err)
		}
		b, err := r.Answer(unhex(t, msg))
		if err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(b)
	}
	if got := hex.EncodeToString(open()); got != "6100000200" {
		t.Errorf("empty set opens with %s", got)
	}
	ee := Item{12345, ID(unhex(t, strings.Repeat("ee", 32)))}
	if got, want := answer("6100000200", ee), "6100000201"+strings.Repeat("ee", 32); got != want {
		t.Errorf("one item: %s, want %s", got, want)
	}
	if got := answer("62aabbccddeeff", ee); got != "61" {
		t.Errorf("version 2 is answered %s", got)
	}
	all := vector(t, forty()...)
	sum, err := all.Sum(0, 40)
	if err != nil {
		t.Fatal(err)
	}
	if got := sum.Fingerprint(); hex.EncodeToString(got[:]) != "31e6f433fdca3c4ad10a2c8344e8e91b" {
		t.Errorf("fingerprint of forty: %x", got)
	}
	b := open(forty()...)
	digest := sha256.Sum256(b)
	if len(b) != 311 || hex.EncodeToString(digest[:]) != "c0333a71dbe8c4190a28410f1b908aec4123acc0a242681c01b0be2dfcec1eb2" {
		t.Errorf("forty open with %d bytes, SHA-256 %x", len(b), digest)
	}
	three := hex.EncodeToString(open(Item{100, numbered(0)}, Item{100, numbered(1)}, Item{200, numbered(2)}))
	if !strings.HasPrefix(three, "610000020359908df5") {
		t.Errorf("three open with %s", three)
	}
}
