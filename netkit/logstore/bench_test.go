package logstore

import "testing"

// benchLog is a log with payloads of 256 bytes.
func benchLog(b *testing.B, n int) []Record {
	payload := noise(256)
	return grow(b, keyN(1), 0, nil, n, 0, func(int) []byte { return payload })
}

// BenchmarkPut proves and stores runs of 1024 entries with payloads of 256 bytes, on the disk of the temporary folder.
func BenchmarkPut(b *testing.B) {
	run := benchLog(b, 64<<10)
	for b.Loop() {
		dir := b.TempDir()
		s := open(b, Config{Dir: dir + "/store", Guard: dir + "/own-heads"})
		for at := 0; at < len(run); at += 1024 {
			put(b, s, run[at:at+1024])
		}
		closed(b, s)
	}
	b.ReportMetric(float64(len(run)*b.N)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkAppend signs one entry at a time, each on disk before the next.
func BenchmarkAppend(b *testing.B) {
	dir := b.TempDir()
	s := open(b, Config{Dir: dir + "/store", Guard: dir + "/own-heads"})
	defer closed(b, s)
	p := PayloadOf(noise(256))
	for b.Loop() {
		if _, err := s.Append(keyN(1), 0, p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSum sums up unaligned ranges: of many entries and, to compare, of a tenth of them.
func BenchmarkSum(b *testing.B) {
	run := benchLog(b, 250_000)
	for name, n := range map[string]int{"of 25000": 25_000, "of 250000": 250_000} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			s := open(b, Config{Dir: dir + "/store", Guard: dir + "/own-heads"})
			defer closed(b, s)
			for at := 0; at < n; at += 1000 {
				put(b, s, run[at:at+1000])
			}
			view(b, s, func(v *View) {
				i := 0
				for b.Loop() {
					i = (i + 7919) % (n / 2)
					if _, err := v.Sum(i, n-i-1); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
