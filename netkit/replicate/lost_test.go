package replicate

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"testing"

	"dibber/netkit/logstore"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestLostFiles loses files of entries that are there: once a repair has found that out, a session brings them again though the roots
// are equal, from whoever has them whole.
func TestLostFiles(t *testing.T) {
	fs, rotten := vfs.NewMem(), vfs.NewMem()
	a, b, c := replicaOf(t), inMemory(t, fs), inMemory(t, rotten)
	h, err := a.Store.CreateLog(authorN(1), "files")
	if err != nil {
		t.Fatal(err)
	}
	var payloads []logstore.Payload
	for _, size := range []int{50_000, 600_000, 70_000} {
		p, err := a.Store.NewPayload(bytes.NewReader(bytes.Repeat([]byte{byte(size), 7, 3}, size/3)))
		if err != nil {
			t.Fatal(err)
		}
		payloads = append(payloads, p)
	}
	if _, err := a.Store.Append(keyN(1), h.Log, payloads...); err != nil {
		t.Fatal(err)
	}
	met(t, a, b, SessionConfig{}, SessionConfig{})
	met(t, a, c, SessionConfig{}, SessionConfig{})
	path := func(p logstore.Payload) string {
		name := hex.EncodeToString(p.Hash[:])
		return fs.PathJoin("store/payloads", name[:2], name)
	}
	for _, p := range payloads[:2] {
		if err := fs.Remove(path(p)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := rotten.OpenReadWrite(path(payloads[1]), vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("rot"), 300_000); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), rotten.Remove(path(payloads[0]))); err != nil {
		t.Fatal(err)
	}

	lacks := func(want bool) {
		t.Helper()
		see(t, b.Store, func(v *logstore.View) {
			if got, err := v.Lacks(); err != nil || got != want {
				t.Errorf("lacks: %t, %v", got, err)
			}
		})
	}
	lacks(false) // nobody has looked
	if _, err := b.Store.Verify(t.Context(), logstore.VerifyConfig{Repair: true}); err != nil {
		t.Fatal(err)
	}
	lacks(true)

	// One who has neither whole is asked too. That is no reason to fail, and what came before the damage need not come again.
	if _, rb := met(t, c, b, SessionConfig{}, SessionConfig{}); rb.Pulled.Bytes != 0 {
		t.Errorf("from one who does not have them: %+v", rb.Result)
	}
	lacks(true)
	if ra, _ := met(t, b, a, SessionConfig{NoPull: true}, SessionConfig{}); ra.Reconcile.Algo != "none" {
		t.Errorf("not asked to pull: %+v", ra.Result)
	}
	ra, _ := met(t, b, a, SessionConfig{}, SessionConfig{})
	const group = 16 << 10
	if ra.Pulled.Bytes != payloads[0].Size+payloads[1].Size-300_000/group*group || ra.Pulled.Entries != 0 {
		t.Errorf("pulled %+v", ra.Pulled)
	}
	lacks(false)
	for _, p := range payloads {
		if err := b.Store.ReadPayload(io.Discard, p.Hash); err != nil {
			t.Error(err)
		}
	}
	if ra, _ := met(t, b, a, SessionConfig{}, SessionConfig{}); ra.Reconcile.Algo != "none" {
		t.Errorf("nothing is missing: %+v", ra.Result)
	}
}

// TestWhoIsAsked: nobody is asked for files who does not say that it sends them.
func TestWhoIsAsked(t *testing.T) {
	old, now := hello{flags: flagTakes | flagGives}, hello{flags: flagTakes | flagGives | flagFiles}
	lacking := hello{flags: now.flags | flagLacks}
	for name, c := range map[string]struct {
		who, whom hello
		want      bool
	}{
		"old": {lacking, old, false}, "new": {lacking, now, true}, "lacks nothing": {now, lacking, false},
		"takes nothing": {hello{flags: lacking.flags &^ flagTakes}, now, false}, "gives nothing": {lacking, hello{flags: now.flags &^ flagGives}, false},
	} {
		if got := c.who.seeks(&c.whom); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
