package replicate

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
)

// bundled is a store with two authors, a file, and its bundle.
func bundled(t testing.TB) (*Replica, []byte) {
	t.Helper()
	r := replicaOf(t)
	write(t, r.Store, 1, 1200, 256)
	write(t, r.Store, 2, 10, 100)
	p, err := r.Store.NewPayload(bytes.NewReader(make([]byte, 200_000)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Store.Append(keyN(2), 0, p, logstore.PayloadOf([]byte("after")), p); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	report, err := r.Export(t.Context(), &out, nil)
	if err != nil || report.Entries != 1213 || report.Logs != 2 {
		t.Fatalf("%+v %v", report, err)
	}
	return r, out.Bytes()
}

func rootOf(t testing.TB, r *Replica) (root [32]byte) {
	t.Helper()
	see(t, r.Store, func(v *logstore.View) { root = v.Root() })
	return root
}

// TestBundle carries a store through a pipe, whole or after a beginning of it, twice, and by author.
func TestBundle(t *testing.T) {
	a, data := bundled(t)
	b := replicaOf(t)
	for pass, want := range []int{1213, 0} {
		report, err := b.Import(t.Context(), io.MultiReader(bytes.NewReader(data[:1000]), bytes.NewReader(data[1000:])))
		if err != nil || report.Added != want || report.Entries != 1213 || rootOf(t, a) != rootOf(t, b) {
			t.Fatalf("pass %d: %+v %v", pass, report, err)
		}
	}
	write(t, a.Store, 1, 100, 256)
	var some bytes.Buffer
	if _, err := a.Export(t.Context(), &some, []bamboo.Author{authorN(1)}); err != nil {
		t.Fatal(err)
	}
	if report, err := b.Import(t.Context(), &some); err != nil || report.Added != 100 || rootOf(t, a) != rootOf(t, b) {
		t.Fatalf("%+v %v", report, err)
	}
	if report, err := b.Store.Verify(t.Context(), logstore.VerifyConfig{}); err != nil || report.Found > 0 {
		t.Fatalf("%+v %v", report, err)
	}
	strict := NewReplica(openStore(t), Rules{Authors: map[bamboo.Author]bool{authorN(1): true}})
	if report, err := strict.Import(t.Context(), bytes.NewReader(data)); err != nil || report.Refused != 1 || report.Added != 1200 || report.Reason == "" {
		t.Fatalf("%+v %v", report, err)
	}
}

// TestForkInBundle finds that a bundle has another branch, and takes proofs from one.
func TestForkInBundle(t *testing.T) {
	base := branch(t, 1, nil, 2000, "common")
	a, b := holding(t, branch(t, 1, base, 500, "one")), holding(t, branch(t, 1, base, 5, "two"))
	var out bytes.Buffer
	if _, err := a.Export(t.Context(), &out, nil); err != nil {
		t.Fatal(err)
	}
	report, err := b.Import(t.Context(), &out)
	if err != nil || len(report.Forks) != 1 || report.Forks[0].Seq != 2001 {
		t.Fatalf("%+v %v", report, err)
	}
	out.Reset()
	if _, err := b.Export(t.Context(), &out, nil); err != nil {
		t.Fatal(err)
	}
	if report, err := a.Import(t.Context(), &out); err != nil || len(report.Forks) != 1 || rootOf(t, a) != rootOf(t, b) {
		t.Fatalf("%+v %v", report, err)
	}
}

// TestDamagedBundle cuts a bundle and turns bits in it: it is never taken for whole unless it is, and what was taken is sound.
func TestDamagedBundle(t *testing.T) {
	a, data := bundled(t)
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test's own
	for i := range 30 {
		damaged := bytes.Clone(data)
		if i%2 == 0 {
			damaged = damaged[:random.IntN(len(damaged))]
		} else {
			damaged[random.IntN(len(damaged))] ^= 1 << random.IntN(8)
		}
		b := replicaOf(t)
		_, err := b.Import(t.Context(), bytes.NewReader(damaged))
		// No signature covers the time of an entry, nor what is said of a log before it.
		if err == nil && rootOf(t, a) != rootOf(t, b) {
			t.Errorf("damage %d was not noticed", i)
		}
		if i%2 == 0 && !errors.Is(err, ErrBundle) {
			t.Errorf("cut: %v", err)
		}
		if report, err := b.Store.Verify(t.Context(), logstore.VerifyConfig{}); err != nil || report.Found > 0 {
			t.Fatalf("%+v %v", report, err)
		}
	}
}
