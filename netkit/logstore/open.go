package logstore

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	iofs "io/fs"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"dibber/netkit/store"
)

// Config says where a store is.
type Config struct {
	// Dir is the store's folder.
	Dir string
	// Guard is the path of the guard's files, which get endings of their own. It must lie outside of Dir: whoever puts back an old copy
	// of the store must not put back the guard.
	Guard string
	// Existing refuses to make a store where there is none, with [ErrNoStore].
	Existing bool
	// AcceptLoss opens what is left of a store that has lost entries, which is a [LostError] otherwise. Peers then learn that the cursors
	// they hold for it are worth nothing.
	AcceptLoss bool
	// Readable opens a store that is there for reading alone where the disk takes no writes; they are refused.
	Readable bool
	// MinFree is how many bytes must be free on the disk for anything to be stored; zero means 64 MiB.
	MinFree uint64
	// MemTableBytes is the size at which writes held in memory go to a table on disk; zero means 16 MiB.
	MemTableBytes uint64
	// Now gives the time of new entries; nil means [time.Now].
	Now func() time.Time
	// FS is the file system; nil means the operating system's.
	FS vfs.FS
}

// Store is an open store. Its methods may be called concurrently.
type Store struct {
	cfg   Config
	fs    vfs.FS
	now   func() time.Time
	lock  *store.FolderLock
	db    *store.DB
	files string
	guard *guard // of the goroutine that writes

	newFiles  atomic.Uint64
	pieces    sync.Pool // of *[pieceSize]byte
	folders   sync.Map  // of payloads, those that are known to be there
	parts     sync.Map  // hashes of payloads of which a part is there
	receiving sync.Map  // hashes of payloads on their way
	unsettled sync.Map  // hashes of those whose files have their names already, which a crash would take from them

	done   chan struct{}
	failed error // of the goroutine that writes

	mu      sync.Mutex
	wake    sync.Cond
	closed  bool
	pending []*task
	view    *View
	changed chan struct{} // closed with the next view; nil when nobody waits
}

// Open opens a store, and makes it if there is none. One process at a time can have it open; another one gets a
// [store.LockedError].
func Open(cfg Config) (_ *Store, err error) {
	s := &Store{cfg: cfg, fs: cfg.FS, now: cfg.Now, done: make(chan struct{}), pieces: sync.Pool{New: func() any { return new([pieceSize]byte) }}}
	s.wake.L = &s.mu
	if s.cfg.MinFree == 0 {
		s.cfg.MinFree = 64 << 20
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.fs == nil {
		s.fs = vfs.Default
	}
	s.files = s.fs.PathJoin(cfg.Dir, "payloads")
	if err := s.prepare(); err != nil {
		return nil, fmt.Errorf("open store in %s: %w", cfg.Dir, err)
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(err, s.release())
	}
	go s.run()
	return s, nil
}

// prepare makes and takes the folders.
func (s *Store) prepare() error {
	if s.cfg.Existing {
		if _, err := s.fs.Stat(s.fs.PathJoin(s.cfg.Dir, "db")); errors.Is(err, iofs.ErrNotExist) {
			return ErrNoStore
		}
	}
	dirs := []string{s.cfg.Dir, s.files, s.fs.PathJoin(s.files, "part"), s.fs.PathDir(s.cfg.Guard)}
	for _, dir := range dirs {
		if err := s.fs.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if s.cfg.FS == nil {
		var err error
		s.lock, err = store.Lock(s.cfg.Dir)
		if err != nil && !(s.cfg.Readable && errors.Is(store.Unwritable(err), store.ErrReadOnly)) { // where nobody can write
			return err
		}
	}
	var err error
	for _, dir := range dirs[:2] {
		err = errors.Join(err, syncDir(s.fs, dir), syncDir(s.fs, s.fs.PathDir(dir)))
	}
	return errors.Join(err, s.removeLeftovers())
}

// load opens guard and database and compares them.
func (s *Store) load() (err error) {
	if s.guard, err = openGuard(s.fs, s.cfg.Guard); err != nil {
		return err
	}
	var lost error
	if s.db, lost, err = s.openDB(); err != nil {
		return err
	}
	st, b, err := s.read()
	if errors.Is(err, ErrNotFound) {
		st, err = s.begin()
	}
	if err != nil {
		return err
	}
	s.view = newView(s, st, b)
	if lost == nil {
		lost = s.compare()
	}
	if lost == nil {
		return nil
	}
	if !s.cfg.AcceptLoss {
		return lost
	}
	return s.accept(st, b)
}

// openDB opens the database. One whose write-ahead log is damaged loses what is behind the damage, if that is accepted.
func (s *Store) openDB() (db *store.DB, lost, err error) {
	dir := s.fs.PathJoin(s.cfg.Dir, "db")
	cfg := store.Config{FS: s.fs, MemTableBytes: s.cfg.MemTableBytes}
	if cfg.MemTableBytes == 0 {
		cfg.MemTableBytes = 16 << 20
	}
	db, err = store.Open(dir, cfg)
	if s.cfg.Readable && store.Unwritable(err) != nil {
		cfg.ReadOnly = true
		db, err = store.Open(dir, cfg)
	}
	if err == nil || !pebble.IsCorruptionError(err) {
		return db, nil, err
	}
	lost = &LostError{Dir: s.cfg.Dir, Cause: err}
	if !s.cfg.AcceptLoss {
		return nil, nil, lost
	}
	if err := salvage(s.fs, dir); err != nil {
		return nil, nil, fmt.Errorf("cut damaged log of database: %w", err)
	}
	db, err = store.Open(dir, cfg)
	return db, lost, err
}

// read returns the state and the summaries, or [ErrNotFound] in a new store.
func (s *Store) read() (st state, b blocks, err error) {
	value, err := s.db.Get([]byte{rowState})
	if errors.Is(err, store.ErrNotFound) {
		return st, nil, ErrNotFound
	}
	if err != nil {
		return st, nil, damaged(err)
	}
	if st, err = decodeState(value); err != nil {
		return st, nil, err
	}
	err = s.db.Scan([]byte{rowBlock}, func(key, value []byte) error {
		one, err := decodeBlock(key, value)
		b = append(b, one)
		return err
	})
	if err != nil {
		return st, nil, damaged(err)
	}
	if len(b) > 0 && b[0].first != (itemKey{}) {
		b = append(blocks{{}}, b...) // it was lost; Verify says so
	}
	err = s.db.Scan([]byte{rowHead}, func(key, value []byte) error {
		if len(key) != 1+len(logKey{}) {
			return nil // Verify says so
		}
		h, err := decodeHead(logKey(key[1:]), value)
		if err == nil {
			st.replace(&Head{}, &h)
		}
		return nil
	})
	return st, b, damaged(err)
}

// begin makes a store. A guard that is there belongs to it: either the process was ended between the two, or the store is gone, which
// the guard then tells.
func (s *Store) begin() (st state, err error) {
	st.epoch = newEpoch()
	if s.guard.missing {
		s.guard.epoch = st.epoch
		if err := s.guard.save(); err != nil {
			return st, err
		}
	}
	st.epoch = s.guard.epoch
	return st, s.db.Write(map[string][]byte{string(rowState): st.encode()})
}

func newEpoch() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails
	return binary.BigEndian.Uint64(b[:])
}

// compare finds out whether the store holds what it acknowledged: by the guard's mark and by its own journal of arrivals.
func (s *Store) compare() error {
	v, g := s.view, s.guard
	if !g.missing && g.epoch != v.state.epoch {
		// The guard is that of another store, or of this one before it lost something: what it says of own logs is minded all the same.
		g.missing, g.mark = true, 0
	}
	if !g.missing && g.mark > v.state.arrivals {
		return &LostError{Dir: s.cfg.Dir, Held: v.state.arrivals, Acknowledged: g.mark}
	}
	if err := v.checkTail(); err != nil {
		return &LostError{Dir: s.cfg.Dir, Held: v.state.arrivals, Acknowledged: g.mark, Cause: err}
	}
	return nil
}

// checkTail compares the last arrival with the count and with the head of its log.
func (v *View) checkTail() error {
	fail := func(cause error) error { return &CorruptError{What: "journal of arrivals", Cause: cause} }
	var last *Arrival
	err := v.Since(max(v.state.arrivals, 1)-1, func(a Arrival) error {
		if last != nil {
			return fail(errors.New("it goes on after the last arrival"))
		}
		last = &a
		return nil
	})
	switch {
	case err != nil:
		return err
	case v.state.arrivals == 0 && last == nil:
		return nil
	case last == nil || last.N != v.state.arrivals:
		return fail(fmt.Errorf("arrival %d is missing", v.state.arrivals))
	}
	h, err := v.Head(last.Author, last.Log)
	if err != nil {
		return fail(err)
	}
	r, err := v.Entry(h.Author, h.Log, h.Height)
	if err != nil {
		return err
	}
	if r.ID != h.ID || h.Height < last.Seq {
		return fail(fmt.Errorf("log %d by %s does not reach arrival %d", h.Log, h.Author, last.N))
	}
	return nil
}

// accept goes on with what is left, under a new epoch.
func (s *Store) accept(st state, b blocks) error {
	before := st.epoch
	st.epoch = newEpoch()
	err := s.view.scan([]byte{rowArrival}, []byte{rowArrival + 1}, func(key, _ []byte) error {
		st.arrivals = binary.BigEndian.Uint64(key[1:])
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.db.Write(map[string][]byte{string(rowState): st.encode()}); err != nil {
		return err
	}
	if !s.guard.missing && s.guard.epoch == before {
		s.guard.epoch, s.guard.mark = st.epoch, st.arrivals
		if err := s.guard.save(); err != nil {
			return err
		}
	}
	s.publish(newView(s, st, b))
	return nil
}

// View returns the store as it is now.
func (s *Store) View() (*View, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	s.view.refs++
	return s.view, nil
}

// Changed returns a channel that is closed when something was written after the call. It is not closed by Close.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// checkSpace refuses when the disk is nearly full. A file system that does not tell is not asked.
func (s *Store) checkSpace() error { return s.space(s.cfg.MinFree) }

// Space returns [ErrDiskFull] unless size bytes more leave Config.MinFree free.
func (s *Store) Space(size uint64) error {
	if size > math.MaxUint64-s.cfg.MinFree {
		size = math.MaxUint64 - s.cfg.MinFree
	}
	return s.space(s.cfg.MinFree + size)
}

func (s *Store) space(need uint64) error {
	usage, err := s.fs.GetDiskUsage(s.cfg.Dir)
	if err != nil || usage.AvailBytes >= need {
		return nil
	}
	return fmt.Errorf("%w: %d bytes are free, %d must be", ErrDiskFull, usage.AvailBytes, need)
}

// Checkpoint puts a copy of the store's database, as it is at one moment, into a folder that does not exist yet. The files of payloads
// that it tells of are beside the database itself.
func (s *Store) Checkpoint(dir string) error { return s.db.Checkpoint(dir) }

// Close writes what was asked for and gives the store up. Every view must have been closed.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.done
		return nil
	}
	s.closed = true
	s.wake.Signal()
	s.mu.Unlock()
	<-s.done
	return s.release()
}

func (s *Store) release() (err error) {
	if s.view != nil {
		s.mu.Lock()
		err = s.view.release()
		s.mu.Unlock()
	}
	if s.guard != nil {
		err = errors.Join(err, s.guard.close())
	}
	if s.db != nil {
		err = errors.Join(err, s.db.Close())
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}
