package blocks

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	iofs "io/fs"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"dibber/netkit/store"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"
)

const (
	// InlineMax is the size in bytes of the largest block that is kept in the database; larger ones are files.
	InlineMax = 16 << 10
	// MaxBlock is the size in bytes of the largest block that Bitswap carries.
	MaxBlock = 2 << 20

	// What was put becomes durable by itself once files of so many bytes are waiting, or so long after the last time.
	flushBytes = 64 << 20
	flushEvery = time.Second
)

// StoreConfig says where a store is.
type StoreConfig struct {
	// Dir is its folder, which is made if there is none. Required.
	Dir string
	// FS is the file system; nil means the operating system's, on which the folder is locked.
	FS vfs.FS
}

// Store keeps blocks on disk: small ones in a database, larger ones as files that the database has a row for once they are
// durable. Blocks are told apart by their multihash alone, so that one block can be had under several codecs. It is safe for
// concurrent use and is a blockstore in the sense of boxo.
type Store struct {
	db    *store.DB
	fs    vfs.FS
	files string
	lock  *store.FolderLock // nil on a file system of one's own
	parts atomic.Uint64     // names files on their way

	mu      sync.Mutex // guards following
	waiting map[string]int
	bytes   int       // of waiting
	flushed time.Time // when waiting was last empty
	flush   sync.Mutex
}

// CorruptError is a block on disk that is not what its CID says.
type CorruptError struct {
	CID   cid.Cid
	Cause error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("block %s in the store: %v", e.CID, e.Cause)
}

func (e *CorruptError) Unwrap() error { return e.Cause }

// ErrHash is the cause of a block that its hash does not fit.
var ErrHash = errors.New("content does not fit the hash")

var errRow = errors.New("malformed row")

// OpenStore opens the store in a folder; a [store.LockedError] tells that another process has it open.
func OpenStore(cfg StoreConfig) (s *Store, err error) {
	s = &Store{fs: cfg.FS, waiting: make(map[string]int)}
	if s.fs == nil {
		s.fs = vfs.Default
		if s.lock, err = store.Lock(cfg.Dir); err != nil {
			return nil, err
		}
	}
	s.files = s.fs.PathJoin(cfg.Dir, "files")
	if err = s.fs.MkdirAll(s.fs.PathJoin(s.files, "part"), 0o700); err == nil {
		err = s.removeParts()
	}
	if err == nil {
		s.db, err = store.Open(s.fs.PathJoin(cfg.Dir, "db"), store.Config{FS: s.fs})
	}
	if err == nil { // a new folder, too, has to be there after a crash
		err = s.syncDirs(s.files, cfg.Dir, s.fs.PathDir(cfg.Dir))
		if err != nil {
			err = errors.Join(err, s.db.Close())
		}
	}
	if err != nil && s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("open block store: %w", err)
	}
	return s, nil
}

// Checkpoint puts a copy of the store's database, as it is at one moment, into a folder that does not exist yet. The files of blocks that
// it tells of are beside the database itself.
func (s *Store) Checkpoint(dir string) error { return s.db.Checkpoint(dir) }

// Close makes everything durable and gives the folder up.
func (s *Store) Close() error {
	err := errors.Join(s.Sync(), s.db.Close())
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

// A row has the multihash as its key. Its value begins with how the block is kept.
const (
	rowPrefix = 'b'
	// rootPrefix begins the keys of roots, which are CIDs; they have no value.
	rootPrefix = 'r'
	keptHere   = 0 // the block follows
	keptFile   = 1 // its size follows, as an unsigned varint
)

func rowKey(c cid.Cid) []byte { return append([]byte{rowPrefix}, c.Hash()...) }

// find returns the size of a block, and its bytes where they are in the database.
func (s *Store) find(c cid.Cid) (size int, inline []byte, err error) {
	if data, ok := identity(c); ok {
		return len(data), data, nil
	}
	key := rowKey(c)
	s.mu.Lock()
	size, waits := s.waiting[string(key)]
	s.mu.Unlock()
	if waits {
		return size, nil, nil
	}
	value, err := s.db.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil, ipld.ErrNotFound{Cid: c}
	}
	if err != nil {
		return 0, nil, fmt.Errorf("look for block %s: %w", c, err)
	}
	if len(value) > 0 && value[0] == keptHere {
		return len(value) - 1, value[1:], nil
	}
	if len(value) > 1 && value[0] == keptFile {
		if n, used := binary.Uvarint(value[1:]); used == len(value)-1 && n <= MaxBlock {
			return int(n), nil, nil
		}
	}
	return 0, nil, &CorruptError{CID: c, Cause: errRow}
}

// identity returns the block that a CID itself holds, if it does.
func identity(c cid.Cid) ([]byte, bool) {
	if c.Prefix().MhType != multihash.IDENTITY {
		return nil, false
	}
	h, err := multihash.Decode(c.Hash())
	if err != nil {
		return nil, false
	}
	return h.Digest, true
}

// Has reports whether a block is here, without a look at its bytes.
func (s *Store) Has(_ context.Context, c cid.Cid) (bool, error) {
	_, _, err := s.find(c)
	if ipld.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// GetSize returns the size of a block in bytes.
func (s *Store) GetSize(_ context.Context, c cid.Cid) (int, error) {
	size, _, err := s.find(c)
	return size, err
}

// Get returns a block that was compared with its hash. It fails with a [CorruptError], or ipld.ErrNotFound.
func (s *Store) Get(_ context.Context, c cid.Cid) (block.Block, error) {
	size, data, err := s.find(c)
	if err != nil {
		return nil, err
	}
	if data == nil && size > 0 {
		data, err = s.readFile(c, size)
		if errors.Is(err, iofs.ErrNotExist) {
			err = &CorruptError{CID: c, Cause: err}
		}
		if err != nil {
			return nil, err
		}
	}
	if err := Verify(c, data); err != nil {
		return nil, &CorruptError{CID: c, Cause: err}
	}
	return block.NewBlockWithCid(data, c)
}

// Verify compares bytes with the hash of a CID and fails with [ErrHash], or because the hash function is not known.
func Verify(c cid.Cid, data []byte) error {
	got, err := c.Prefix().Sum(data)
	if err != nil {
		return fmt.Errorf("hash block %s: %w", c, err)
	}
	if !got.Equals(c) {
		return ErrHash
	}
	return nil
}

// Put keeps a block.
func (s *Store) Put(ctx context.Context, b block.Block) error {
	return s.PutMany(ctx, []block.Block{b})
}

// PutMany keeps blocks, whose hashes the caller has made or compared. They are there at once, and durable after [Store.Sync], or a
// second or so.
func (s *Store) PutMany(ctx context.Context, list []block.Block) error {
	batch := s.db.Pebble().NewBatch()
	defer batch.Close()
	for _, b := range list {
		if len(b.RawData()) > MaxBlock {
			return &OversizeError{Size: len(b.RawData())}
		}
		if has, err := s.Has(ctx, b.Cid()); has || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		if err := s.stage(batch, b); err != nil {
			return fmt.Errorf("keep block %s: %w", b.Cid(), err)
		}
	}
	if !batch.Empty() {
		if err := s.db.CommitSoon(batch); err != nil {
			return err
		}
	}
	if s.due() {
		return s.Sync()
	}
	return nil
}

// OversizeError is a block that is larger than [MaxBlock].
type OversizeError struct{ Size int }

func (e *OversizeError) Error() string {
	return fmt.Sprintf("a block of %d bytes is larger than %d", e.Size, MaxBlock)
}

// stage adds the row of a small block to a batch, or writes the file of a large one.
func (s *Store) stage(batch *pebble.Batch, b block.Block) error {
	key, data := rowKey(b.Cid()), b.RawData()
	if len(data) <= InlineMax {
		return batch.Set(key, append([]byte{keptHere}, data...), nil)
	}
	if err := s.writeFile(b.Cid(), data); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		s.flushed = time.Now()
	}
	if _, twice := s.waiting[string(key)]; !twice {
		s.bytes += len(data)
	}
	s.waiting[string(key)] = len(data)
	return nil
}

// due reports whether it is time to make durable what waits.
func (s *Store) due() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes >= flushBytes || len(s.waiting) > 0 && time.Since(s.flushed) >= flushEvery
}

// Sync returns when all that was put is on disk.
func (s *Store) Sync() error {
	s.flush.Lock()
	defer s.flush.Unlock()
	s.mu.Lock()
	now := maps.Clone(s.waiting)
	s.mu.Unlock()
	if err := s.syncFiles(now); err != nil {
		return fmt.Errorf("sync blocks: %w", err)
	}
	batch := s.db.Pebble().NewBatch()
	defer batch.Close()
	for key, size := range now {
		if err := batch.Set([]byte(key), binary.AppendUvarint([]byte{keptFile}, uint64(size)), nil); err != nil {
			return fmt.Errorf("sync blocks: %w", err)
		}
	}
	if err := s.db.CommitSoon(batch); err != nil {
		return err
	}
	s.mu.Lock()
	for key, size := range now {
		delete(s.waiting, key)
		s.bytes -= size
	}
	s.flushed = time.Now()
	s.mu.Unlock()
	return s.db.Sync()
}

// DeleteBlock removes a block; one that is not there is no error.
func (s *Store) DeleteBlock(_ context.Context, c cid.Cid) error {
	if err := s.Sync(); err != nil { // so that its row is where rows are
		return err
	}
	if err := s.db.Write(map[string][]byte{string(rowKey(c)): nil}); err != nil {
		return err
	}
	if err := s.fs.Remove(s.file(c)); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("remove block %s: %w", c, err)
	}
	return nil
}

// AddRoot notes the CID of something whole, such as a file: under these others are to find what the store has. It is on disk when
// AddRoot returns.
func (s *Store) AddRoot(c cid.Cid) error {
	return s.db.Write(map[string][]byte{string(append([]byte{rootPrefix}, c.Bytes()...)): {}})
}

// Roots are what was noted by AddRoot, as far as the store has the block.
func (s *Store) Roots() (list []cid.Cid, err error) {
	err = s.db.Scan([]byte{rootPrefix}, func(key, _ []byte) error {
		c, err := cid.Cast(key[1:])
		if err != nil {
			return fmt.Errorf("root %x: %w", key[1:], err)
		}
		if _, _, err := s.find(c); err == nil {
			list = append(list, c)
		}
		return nil
	})
	return list, err
}

// AllKeysChan tells of every block, as raw ones.
func (s *Store) AllKeysChan(ctx context.Context) (<-chan cid.Cid, error) {
	if err := s.Sync(); err != nil {
		return nil, err
	}
	out := make(chan cid.Cid)
	go func() {
		defer close(out)
		_ = s.db.Scan([]byte{rowPrefix}, func(key, _ []byte) error {
			h := append(multihash.Multihash{}, key[1:]...)
			select {
			case out <- cid.NewCidV1(cid.Raw, h):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	return out, nil
}
