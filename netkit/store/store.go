package store

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrNotFound is returned by [DB.Get] for a key that has no value.
var ErrNotFound = pebble.ErrNotFound

// ErrBroken is returned by writes after the disk failed one of them for another reason than that it took none for a while ([ErrFull],
// [ErrReadOnly]). The database must be closed and opened again.
var ErrBroken = errors.New("database stopped by a disk error")

// Config sets how a database uses memory and disk.
type Config struct {
	// CacheBytes is the block cache; zero means 8 MiB.
	CacheBytes int64
	// MemTableBytes is the size at which writes held in memory go to a table
	// on disk; zero means 4 MiB.
	MemTableBytes uint64
	// MaxOpenFiles bounds the file descriptors; zero means 256.
	MaxOpenFiles int
	// Reserve is how many bytes must be free on the disk for a write; zero means twice MemTableBytes, which is about what has to be
	// written for the database to be opened again.
	Reserve uint64
	// ReadOnly opens a database that is there for reading alone, on a disk that takes no writes. They are refused with [ErrReadOnly].
	ReadOnly bool
	// FS is the file system; nil means the operating system's.
	FS vfs.FS
}

// DB is an ordered key-value database on disk. It is safe for concurrent use;
// concurrent writes share their syncs.
type DB struct {
	db      *pebble.DB
	log     *quietLogger
	fs      *patientFS
	dir     string
	reserve uint64
}

// Open opens the database in dir, and makes it if there is none. One process
// at a time can have it open.
func Open(dir string, cfg Config) (*DB, error) {
	logger, fs := new(quietLogger), newPatientFS(cfg.FS)
	if cfg.FS == nil {
		fs.FS = vfs.Default
	}
	fs.readOnly = cfg.ReadOnly
	opts := &pebble.Options{
		FormatMajorVersion: pebble.FormatNewest,
		CacheSize:          cfg.CacheBytes,
		MemTableSize:       cfg.MemTableBytes,
		MaxOpenFiles:       cfg.MaxOpenFiles,
		FS:                 fs,
		ReadOnly:           cfg.ReadOnly,
		Logger:             logger,
	}
	if opts.CacheSize == 0 {
		opts.CacheSize = 8 << 20
	}
	if opts.MemTableSize == 0 {
		opts.MemTableSize = 4 << 20
	}
	if opts.MaxOpenFiles == 0 {
		opts.MaxOpenFiles = 256
	}
	if cfg.Reserve == 0 {
		cfg.Reserve = 2 * opts.MemTableSize
	}
	d := &DB{log: logger, fs: fs, dir: dir, reserve: cfg.Reserve}
	var err error
	if d.db, err = d.open(opts); err != nil {
		return nil, fmt.Errorf("open database in %s: %w", dir, err)
	}
	return d, nil
}

// open opens the database unless that is bound to wait for the disk: nobody would learn why.
func (d *DB) open(opts *pebble.Options) (*pebble.DB, error) {
	if opts.ReadOnly {
		return pebble.Open(d.dir, opts)
	}
	if err := d.fs.FS.MkdirAll(d.dir, 0o755); err != nil {
		return nil, err
	}
	if err := d.space(); err != nil {
		return nil, err
	}
	stop := time.AfterFunc(openPatience, d.fs.giveUp)
	db, err := pebble.Open(d.dir, opts)
	if err != nil {
		stop.Stop()
		return nil, err
	}
	if !stop.Stop() {
		return nil, errors.Join(fmt.Errorf("not within %s", openPatience), d.fs.why(), db.Close())
	}
	return db, nil
}

// openPatience is how long a disk is waited for that became full while a database was opened.
const openPatience = time.Minute

// space returns [ErrFull] unless what must be free on the disk is. A file system that does not tell is not asked.
func (d *DB) space() error {
	usage, err := d.fs.GetDiskUsage(d.dir)
	if err != nil || usage.AvailBytes >= d.reserve {
		return nil
	}
	return fmt.Errorf("%w: %d bytes are free, %d must be", ErrFull, usage.AvailBytes, d.reserve)
}

// Refusal is why a write would be refused now before it is begun; nil if it would not. It is [ErrFull], [ErrReadOnly] or [ErrBroken]; after the
// first two a later one may succeed.
func (d *DB) Refusal() error {
	if err := d.log.failure(); err != nil {
		return err
	}
	if d.fs.readOnly {
		return fmt.Errorf("write database: %w", ErrReadOnly)
	}
	if err := d.fs.why(); err != nil {
		return err
	}
	return d.space()
}

// Pebble returns the database itself, for users that need its batches,
// iterators and snapshots.
func (d *DB) Pebble() *pebble.DB { return d.db }

// DiskBytes is how much the database takes on disk, its log included.
func (d *DB) DiskBytes() uint64 { return d.db.Metrics().DiskSpaceUsage() }

// Checkpoint puts a copy of the database, as it is at one moment, into a folder that does not exist yet, by hard links where it can. What
// was written before is in it; writers go on.
func (d *DB) Checkpoint(dir string) error {
	if err := d.db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	return nil
}

// Get returns a copy of the value of key, or [ErrNotFound].
func (d *DB) Get(key []byte) ([]byte, error) {
	value, closer, err := d.db.Get(key)
	if err != nil {
		return nil, err
	}
	out := append([]byte{}, value...)
	return out, closer.Close()
}

// Scan calls fn for each key that begins with prefix, in byte order, until fn
// returns an error, which Scan returns. The slices are valid during the call.
func (d *DB) Scan(prefix []byte, fn func(key, value []byte) error) (err error) {
	var bounds pebble.IterOptions
	if len(prefix) > 0 {
		// Pebble takes an empty bound, other than nil, for a mistake.
		bounds = pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)}
	}
	iter, err := d.db.NewIter(&bounds)
	if err != nil {
		return fmt.Errorf("scan database: %w", err)
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	for ok := iter.First(); ok; ok = iter.Next() {
		value, err := iter.ValueAndErr()
		if err != nil {
			return fmt.Errorf("scan database: %w", err)
		}
		if err := fn(iter.Key(), value); err != nil {
			return err
		}
	}
	return iter.Error()
}

// after returns the first key that no longer begins with prefix, or nil when
// there is none.
func after(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			end := append([]byte{}, prefix[:i+1]...)
			end[i]++
			return end
		}
	}
	return nil
}

// Write makes all changes or none, and returns when they are on disk. A nil
// value deletes its key; an empty one is stored.
func (d *DB) Write(changes map[string][]byte) error {
	batch := d.db.NewBatch()
	defer batch.Close()
	var room []byte
	for key, value := range changes {
		room = append(room[:0], key...)
		if err := stage(batch, room, value); err != nil {
			return fmt.Errorf("write database: %w", err)
		}
	}
	return d.Commit(batch)
}

// Commit makes the changes of a batch of [DB.Pebble], all or none, and returns when they are on disk.
func (d *DB) Commit(batch *pebble.Batch) error {
	if err := d.Refusal(); err != nil {
		return err
	}
	if err := batch.Commit(pebble.Sync); err != nil {
		return fmt.Errorf("write database: %w", err)
	}
	return d.log.failure()
}

// CommitSoon makes the changes of a batch, all or none. They survive the end of the process at once, and that of the machine when
// [DB.Sync] or a later [DB.Commit] has returned.
func (d *DB) CommitSoon(batch *pebble.Batch) error {
	if err := d.Refusal(); err != nil {
		return err
	}
	if err := batch.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("write database: %w", err)
	}
	return d.log.failure()
}

// Sync returns when all that was committed is on disk.
func (d *DB) Sync() error {
	if err := d.Refusal(); err != nil {
		return err
	}
	if err := d.db.LogData(nil, pebble.Sync); err != nil {
		return fmt.Errorf("sync database: %w", err)
	}
	return d.log.failure()
}

// stage adds a change to a batch, which copies it.
func stage(batch *pebble.Batch, key, value []byte) error {
	if value == nil {
		return batch.Delete(key, nil)
	}
	return batch.Set(key, value, nil)
}

// Close writes what is in memory and releases the folder. It does not wait for a disk that takes no writes.
func (d *DB) Close() error {
	d.fs.giveUp()
	if err := d.db.Close(); err != nil {
		return fmt.Errorf("close database: %w", err)
	}
	return nil
}

// quietLogger keeps Pebble off stderr, and turns its fatal errors, on which
// Pebble's own logger ends the process, into failed writes.
type quietLogger struct{ fatal atomic.Pointer[error] }

func (l *quietLogger) Infof(string, ...any)  {}
func (l *quietLogger) Errorf(string, ...any) {}

func (l *quietLogger) Fatalf(format string, args ...any) {
	err := fmt.Errorf("%w: %w", ErrBroken, fmt.Errorf(format, args...))
	l.fatal.CompareAndSwap(nil, &err)
}

func (l *quietLogger) failure() error {
	if err := l.fatal.Load(); err != nil {
		return *err
	}
	return nil
}
