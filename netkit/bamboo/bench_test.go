package bamboo

import (
	"crypto/ed25519"
	"testing"
)

// BenchmarkVerify takes the three ways to verify a run of entries with payloads of 256 bytes, payload hashes left out: one at a time
// with the standard library, as a batch, and as a chain with one signature. The figure to compare is ns/entry.
func BenchmarkVerify(b *testing.B) {
	run := chain(b, key(b, seedA), 0, Batch, func(int) []byte { return make([]byte, 256) })
	raws := make([][]byte, len(run))
	for i := range run {
		raws[i] = run[i].Raw
	}
	per := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(run)), "ns/entry")
	}
	b.Run("one-by-one", func(b *testing.B) {
		for b.Loop() {
			for i := range run {
				if !ed25519.Verify(run[i].Author[:], run[i].message(), run[i].Signature[:]) {
					b.Fatal("does not verify")
				}
			}
		}
		per(b)
	})
	b.Run("batch", func(b *testing.B) {
		for b.Loop() {
			if err := VerifySignatures(run); err != nil {
				b.Fatal(err)
			}
		}
		per(b)
	})
	b.Run("chain", func(b *testing.B) {
		parsed := make([]Signed, len(raws))
		for b.Loop() {
			for i, raw := range raws {
				var err error
				if parsed[i], err = Parse(raw); err != nil {
					b.Fatal(err)
				}
			}
			if err := VerifyRun(parsed, none); err != nil {
				b.Fatal(err)
			}
		}
		per(b)
	})
}
