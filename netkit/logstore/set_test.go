package logstore

import (
	"bytes"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"dibber/netkit/negentropy"
)

// TestReconcile finds out, from the summaries of two stores, which entries each of them lacks.
func TestReconcile(t *testing.T) {
	a, b, c := runOf(t, keyN(1), 0, 3000, 0), runOf(t, keyN(2), 0, 40, 1500), runOf(t, keyN(3), 0, 25, 2000)
	left, right := open(t, config(vfs.NewMem())), open(t, config(vfs.NewMem()))
	defer closed(t, left)
	defer closed(t, right)
	put(t, left, a)
	put(t, left, b)
	put(t, right, a[:2900])
	put(t, right, c)
	view(t, left, func(l *View) {
		view(t, right, func(r *View) {
			asks, err := negentropy.NewInitiator(l, 0)
			if err != nil {
				t.Fatal(err)
			}
			answers, err := negentropy.NewResponder(r, 0)
			if err != nil {
				t.Fatal(err)
			}
			var have, need []negentropy.ID
			msg, err := asks.Open()
			for err == nil && msg != nil {
				var diff negentropy.Diff
				if msg, err = answers.Answer(msg); err == nil {
					msg, diff, err = asks.Next(msg)
				}
				have, need = append(have, diff.Have...), append(need, diff.Need...)
			}
			if err != nil {
				t.Fatal(err)
			}
			same := func(name string, got []negentropy.ID, want []Record) {
				var ids []negentropy.ID
				for i := range want {
					ids = append(ids, negentropy.ID(want[i].ID))
				}
				for _, list := range [][]negentropy.ID{got, ids} {
					slices.SortFunc(list, func(x, y negentropy.ID) int { return bytes.Compare(x[:], y[:]) })
				}
				if !slices.Equal(got, ids) {
					t.Errorf("%s: %d entries, want %d", name, len(got), len(ids))
				}
			}
			same("have", have, slices.Concat(a[2900:], b))
			same("need", need, c)
		})
	})
}
