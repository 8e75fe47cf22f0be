package rendezvous

import (
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"

	"dibber/netkit/store"
)

// cutDB fails writes when told to, as a full disk does.
type cutDB struct {
	DB
	fail atomic.Bool
}

func (d *cutDB) Write(changes map[string][]byte) error {
	if d.fail.Load() {
		return errors.New("disk full")
	}
	return d.DB.Write(changes)
}

// TestCrashAtEveryBatch registers, refreshes, removes and expires, one write
// after the other, some of which fail, and crashes the file system after each:
// a server that starts on what is left holds what was acknowledged, and so does
// the one that goes on.
func TestCrashAtEveryBatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := vfs.NewCrashableMem()
		db, err := store.Open("registry", store.Config{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		limits, err := Limits{Total: 5}.WithDefaults()
		if err != nil {
			t.Fatal(err)
		}
		cut := &cutDB{DB: db}
		s := &Server{reg: newRegistry(limits, time.Now())}
		journal := startJournal(cut, s.reg)
		defer journal.close()
		acknowledged := make(map[string]uint64)
		for step := range rapid.IntRange(1, 12).Draw(t, "steps") {
			fails := rapid.IntRange(0, 4).Draw(t, "fails") == 0
			key := entryKey{
				ns:   rapid.SampledFrom([]string{"x", "y"}).Draw(t, "ns"),
				peer: peer.ID(rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "peer")),
			}
			removes := rapid.IntRange(0, 3).Draw(t, "remove") == 0
			_, held, _ := s.reg.counts()
			// What ends is gone at once; if its write fails it may come back
			// with a restart.
			cut.fail.Store(fails && !removes && (held < limits.Total || s.reg.current(key) != nil))
			if removes {
				if c := s.reg.remove(key); c != nil {
					if err := c.commit.wait(); err != nil {
						t.Fatal(err)
					}
				}
				delete(acknowledged, fmt.Sprint(key))
			} else {
				c := testClaim(string(key.peer), key.ns, time.Duration(2*3600+step)*time.Second)
				done, why := s.reg.put(time.Now(), c)
				if why != nil {
					t.Fatal(why)
				}
				for _, gone := range done.evicted {
					delete(acknowledged, fmt.Sprint(gone.e.key()))
				}
				if done.commit.wait() == nil {
					acknowledged[fmt.Sprint(key)] = uint64(2*3600 + step)
				}
			}
			if diff := cmp.Diff(acknowledged, grants(s.reg)); diff != "" {
				t.Fatalf("step %d, the server that goes on: %s", step, diff)
			}
			if left := restarted(t, fs.CrashClone(vfs.CrashCloneCfg{}), limits); !maps.Equal(left, acknowledged) {
				t.Fatalf("step %d, the one after the crash: %s", step, cmp.Diff(acknowledged, left))
			}
		}
	})
}

// grants is what a registry shows, with the TTLs granted.
func grants(r *registry) map[string]uint64 {
	out := make(map[string]uint64)
	for _, e := range everything(r) {
		out[fmt.Sprint(e.key())] = uint64(e.ttl)
	}
	return out
}

// restarted is what a registry shows that is loaded from a disk.
func restarted(t *rapid.T, fs vfs.FS, limits Limits) map[string]uint64 {
	db, err := store.Open("registry", store.Config{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	now := time.Now()
	r := newRegistry(limits, now)
	if _, _, err := load(db, r, now); err != nil {
		t.Fatal(err)
	}
	return grants(r)
}
