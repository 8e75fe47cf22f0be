package rendezvous

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"dibber/netkit/store"
)

func openStore(t *testing.T, fs vfs.FS) *store.DB {
	t.Helper()
	db, err := store.Open("registry", store.Config{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// peersIn lists the peers a server knows in a namespace, in order.
func peersIn(t *testing.T, from, point host.Host, ns string) []peer.ID {
	t.Helper()
	page, err := DiscoverAll(testContext(t), from, infoOf(point), DiscoverRequest{Namespace: ns})
	if err != nil {
		t.Fatal(err)
	}
	var out []peer.ID
	for _, e := range page.Entries {
		out = append(out, e.Peer)
	}
	return out
}

// TestRestartKeepsCookiesAndRegistrations stops a server and starts another on
// its database: an old cookie still tells what is new.
func TestRestartKeepsCookiesAndRegistrations(t *testing.T) {
	fs := vfs.NewMem()
	point, first, second, reader := newHost(t), newHost(t), newHost(t), newHost(t)
	ctx := testContext(t)
	db := openStore(t, fs)
	s := newServer(t, point, ServerConfig{DB: db})
	if _, err := Register(ctx, first, infoOf(point), RegisterRequest{Namespace: "ns"}); err != nil {
		t.Fatal(err)
	}
	page, err := Discover(ctx, reader, infoOf(point), DiscoverRequest{Namespace: "ns"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}

	db = openStore(t, fs)
	defer db.Close()
	s = newServer(t, point, ServerConfig{DB: db})
	defer s.Close()
	if got := s.Stats().Registrations; got != 1 {
		t.Errorf("%d registrations after the restart", got)
	}
	if _, err := Register(ctx, second, infoOf(point), RegisterRequest{Namespace: "ns"}); err != nil {
		t.Fatal(err)
	}
	page, err = Discover(ctx, reader, infoOf(point), DiscoverRequest{Namespace: "ns", Cookie: page.Cookie})
	if err != nil {
		t.Fatalf("the old cookie: %v", err)
	}
	if len(page.Entries) != 1 || page.Entries[0].Peer != second.ID() {
		t.Errorf("the old cookie gives %+v, want the second peer alone", page.Entries)
	}
	if diff := cmp.Diff([]peer.ID{first.ID(), second.ID()}, peersIn(t, reader, point, "ns")); diff != "" {
		t.Error(diff)
	}
}

// TestCrashLosesNothingAcknowledged crashes the file system after a mix of
// requests: what was not synced is gone.
func TestCrashLosesNothingAcknowledged(t *testing.T) {
	fs := vfs.NewCrashableMem()
	point, stays, refreshed, gone, reader := newHost(t), newHost(t), newHost(t), newHost(t), newHost(t)
	ctx := testContext(t)
	db := openStore(t, fs)
	defer db.Close()
	before := newServer(t, point, ServerConfig{DB: db})
	for _, h := range []host.Host{refreshed, stays, gone, refreshed} {
		if _, err := Register(ctx, h, infoOf(point), RegisterRequest{Namespace: "ns"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := Unregister(ctx, gone, infoOf(point), "ns"); err != nil {
		t.Fatal(err)
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}

	survivor := openStore(t, crashed)
	defer survivor.Close()
	after := newServer(t, point, ServerConfig{DB: survivor})
	defer after.Close()
	if diff := cmp.Diff([]peer.ID{stays.ID(), refreshed.ID()}, peersIn(t, reader, point, "ns")); diff != "" {
		t.Error(diff)
	}
}

// TestCrashUnderLoad crashes while many peers register: each acknowledged
// before the crash is there after it.
func TestCrashUnderLoad(t *testing.T) {
	fs := vfs.NewCrashableMem()
	db := openStore(t, fs)
	defer db.Close()
	s := &Server{reg: newRegistry(testLimits(t, Limits{}), time.Now())}
	journal := startJournal(db, s.reg)
	s.backend = &embedded{reg: s.reg, journal: journal}
	defer journal.close()

	var mu sync.Mutex
	acknowledged := make(map[string]bool)
	var crashed *vfs.MemFS
	var must map[string]bool
	var workers sync.WaitGroup
	for worker := range 8 {
		workers.Go(func() {
			for i := range 50 {
				name := fmt.Sprintf("%d-%d", worker, i)
				if _, why := s.put(t.Context(), testClaim(name, "ns", 2*time.Hour)); why != nil {
					t.Error(why)
				}
				mu.Lock()
				acknowledged[name] = true
				if len(acknowledged) == 200 {
					must = make(map[string]bool, 200)
					for name := range acknowledged {
						must[name] = true
					}
					crashed = fs.CrashClone(vfs.CrashCloneCfg{})
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()

	survivor := openStore(t, crashed)
	defer survivor.Close()
	now := time.Now()
	reg := newRegistry(testLimits(t, Limits{}), now)
	if _, _, err := load(survivor, reg, now); err != nil {
		t.Fatal(err)
	}
	for name := range must {
		if reg.current(entryKey{"ns", peer.ID(name)}) == nil {
			t.Errorf("%s was acknowledged and is lost", name)
		}
	}
}

// memDB is a DB in memory that can fail.
type memDB struct {
	mu   sync.Mutex
	data map[string][]byte
	fail error
}

func (d *memDB) Scan(prefix []byte, fn func(key, value []byte) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(d.data)) {
		if len(k) >= len(prefix) && k[:len(prefix)] == string(prefix) {
			if err := fn([]byte(k), d.data[k]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *memDB) Write(changes map[string][]byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return d.fail
	}
	for k, v := range changes {
		if v == nil {
			delete(d.data, k)
			continue
		}
		d.data[k] = v
	}
	return nil
}

// TestFailedWriteIsNotAcknowledged registers on a broken disk.
func TestFailedWriteIsNotAcknowledged(t *testing.T) {
	db := &memDB{data: make(map[string][]byte)}
	point, client := newHost(t), newHost(t)
	newServer(t, point, ServerConfig{DB: db})
	db.mu.Lock()
	db.fail = errors.New("disk full")
	db.mu.Unlock()
	_, err := Register(testContext(t), client, infoOf(point), RegisterRequest{Namespace: "ns"})
	var refused *StatusError
	if !errors.As(err, &refused) || refused.Status != StatusInternalError {
		t.Errorf("got %v, want E_INTERNAL_ERROR", err)
	}
}

// TestLoadAtAnotherTime loads a registry after the TTLs, in time, and with the
// clock set back.
func TestLoadAtAnotherTime(t *testing.T) {
	now := time.Unix(1_000_000_000, 0)
	reg := newRegistry(testLimits(t, Limits{}), now)
	short := mustPut(t, reg, now, testClaim("a", "ns", 2*time.Hour))
	long := mustPut(t, reg, now, testClaim("b", "ns", 4*time.Hour))
	fill := func() *memDB { return &memDB{data: encodeChanges([]*change{short, long}, now, 0)} }
	tests := []struct {
		name   string
		passed time.Duration
		want   map[string]uint64
	}{
		{"at once", 0, map[string]uint64{"a": 7200, "b": 14400}},
		{"after three hours", 3 * time.Hour, map[string]uint64{"b": 3600}},
		{"after both", 4 * time.Hour, map[string]uint64{}},
		{"clock set back", -time.Hour, map[string]uint64{"a": 7200, "b": 14400}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			db, then := fill(), now.Add(test.passed)
			reg := newRegistry(testLimits(t, Limits{}), then)
			_, changes, err := load(db, reg, then)
			if err != nil {
				t.Fatal(err)
			}
			got := make(map[string]uint64)
			for _, e := range everything(reg) {
				got[string(e.owner.id)] = e.remaining(0)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if left := len(everything(reg)) - len(reg.sweep(then.Add(4*time.Hour))); left != 0 {
				t.Errorf("%d registrations outlive their ttl", left)
			}
			if err := db.Write(changes); err != nil {
				t.Fatal(err)
			}
			// What is left are the live ones, the seq and the cookie key.
			if len(db.data) != len(test.want)+2 {
				t.Errorf("%d keys left for %d registrations", len(db.data), len(test.want))
			}
		})
	}
}

// TestLoadResolvesDuplicates loads two entries of one registration, which a
// lost deletion leaves behind: the later one counts.
func TestLoadResolvesDuplicates(t *testing.T) {
	now := time.Unix(1_000_000_000, 0)
	db := &memDB{data: make(map[string][]byte)}
	for seq, text := range map[uint64]string{1: "old", 2: "new"} {
		other := newRegistry(testLimits(t, Limits{}), now)
		c := testClaim("a", "ns", 2*time.Hour)
		c.packed = pack(c.peer, [2][]byte{[]byte(text), nil})
		db.data[storedKey(seq)] = encodeEntry(mustPut(t, other, now, c), now.Add(2*time.Hour))
	}
	reg := newRegistry(testLimits(t, Limits{}), now)
	_, changes, err := load(db, reg, now)
	if err != nil {
		t.Fatal(err)
	}
	e := reg.current(entryKey{"ns", "a"})
	if e == nil || string(e.packed.envelope("a", Standard)) != "new" || len(everything(reg)) != 1 {
		t.Errorf("loaded %v, %+v", names(everything(reg)), e)
	}
	if _, deleted := changes[storedKey(1)]; !deleted {
		t.Error("the old entry stays on disk")
	}
}

func TestLoadReportsDamage(t *testing.T) {
	for name, data := range map[string]map[string][]byte{
		"entry":      {storedKey(1): []byte("noise")},
		"key":        {keyEntries + "short": nil},
		"seq":        {keySeq: []byte("short")},
		"cookie key": {keyCookie: []byte("short")},
	} {
		_, _, err := load(&memDB{data: data}, newRegistry(testLimits(t, Limits{}), time.Now()), time.Now())
		if !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSeqsOfLostWritesAreNotUsedAgain: a cookie may stand for a registration
// that was seen but never became durable.
func TestSeqsOfLostWritesAreNotUsedAgain(t *testing.T) {
	now := time.Now()
	db := &memDB{data: make(map[string][]byte)}
	reg := newRegistry(testLimits(t, Limits{}), now)
	key, changes, err := load(db, reg, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Write(changes); err != nil {
		t.Fatal(err)
	}
	mustPut(t, reg, now, testClaim("lost", "ns", 2*time.Hour))
	cookie := key.mint("ns", reg.seq)

	again := newRegistry(testLimits(t, Limits{}), now)
	key, _, err = load(db, again, now)
	if err != nil {
		t.Fatal(err)
	}
	after, ok := key.open("ns", cookie)
	mustPut(t, again, now, testClaim("new", "ns", 2*time.Hour))
	found, _ := again.page(queryOf(again, now, "ns", after, 10))
	if !ok || len(found) != 1 {
		t.Errorf("cookie known: %v; it hides the new registration: found %v", ok, names(found))
	}
}
