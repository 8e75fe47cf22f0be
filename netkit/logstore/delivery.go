package logstore

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"lukechampine.com/blake3/bao"

	"dibber/netkit/bamboo"
)

const (
	// syncsAtOnce is how many files of one delivery are synced at the same time: the disk takes about as long for all of them as for one.
	syncsAtOnce = 16
	// groupFiles and groupBytes are how many files, or bytes of them, of a delivery are put on disk together.
	groupFiles = 64
	groupBytes = 4 << 20
	// groupsAtOnce is how many such groups are under way while the next files come.
	groupsAtOnce = 4
)

// HeldPayload returns how many bytes of a payload are held from its start: all of them, or what [Delivery.Receive] got before it
// was interrupted, from which it goes on.
func (s *Store) HeldPayload(hash bamboo.Hash, size uint64) uint64 {
	if s.hasFile(hash, size) {
		return size
	}
	return s.heldPart(hash, size)
}

func (s *Store) heldPart(hash bamboo.Hash, size uint64) uint64 {
	if _, there := s.parts.Load(hash); !there {
		return 0
	}
	info, err := s.fs.Stat(s.part(hash))
	if err != nil {
		return 0
	}
	return min(uint64(info.Size()), size-1) / groupSize * groupSize
}

// Delivery receives payloads that are files one after the other and puts them on disk in groups: each group is synced while the next
// files come, and none counts before all are there.
type Delivery struct {
	s       *Store
	held    map[bamboo.Hash]uint64 // what Held said
	piece   *[pieceSize]byte       // of what is to be written
	disk    *disk                  // that the files are on; nil where it cannot be synced as a whole
	group   []*landed              // files that are whole, of the next group
	size    uint64                 // bytes of them
	slots   chan struct{}
	running sync.WaitGroup

	mu      sync.Mutex // guards following
	named   map[bamboo.Hash]struct{}
	folders map[string]struct{}
	err     error
}

// Deliver begins a delivery, which must be settled.
func (s *Store) Deliver() *Delivery {
	d := &Delivery{
		s: s, held: make(map[bamboo.Hash]uint64), piece: s.pieces.Get().(*[pieceSize]byte), slots: make(chan struct{}, groupsAtOnce),
		named: make(map[bamboo.Hash]struct{}), folders: make(map[string]struct{}),
	}
	if s.cfg.FS == nil {
		d.disk = openDisk(s.files)
	}
	return d
}

// Held returns what [Store.HeldPayload] does, and remembers it until the payload is received: nobody else may receive it meanwhile.
func (d *Delivery) Held(hash bamboo.Hash, size uint64) uint64 {
	held := d.s.HeldPayload(hash, size)
	if held < size {
		d.held[hash] = held
	}
	return held
}

// Receive reads a payload of more than [InlineMax] bytes from where [Delivery.Held] ends, as [Store.SendPayload] writes it. Each 16 KiB
// are compared with the hash before they are written. An interruption keeps what was verified; [bamboo.ErrPayload] means that the sender
// sent something else. It is not for use by several goroutines.
func (d *Delivery) Receive(hash bamboo.Hash, size uint64, r io.Reader) error {
	if size <= InlineMax || size > math.MaxInt64 {
		return fmt.Errorf("receive payload: a payload of %d bytes is no file", size)
	}
	if err := d.failure(); err != nil {
		return err
	}
	if _, busy := d.s.receiving.LoadOrStore(hash, true); busy {
		return errors.New("receive payload: it is being received already")
	}
	from, known := d.held[hash]
	if !known {
		if d.s.named(hash, size) { // what is not settled of it is settled with the others
			d.s.receiving.Delete(hash)
			d.note(hash, d.s.fs.PathDir(d.s.file(hash)), nil)
			return nil
		}
		from = d.s.heldPart(hash, size)
	}
	delete(d.held, hash)
	l, err := d.receive(hash, from, size, r)
	if err != nil {
		d.s.receiving.Delete(hash)
		return err
	}
	d.group = append(d.group, l)
	if d.size += size; len(d.group) >= groupFiles || d.size >= groupBytes {
		d.flush()
	}
	return nil
}

// flush has the files that are whole synced and named.
func (d *Delivery) flush() {
	group := d.group
	if len(group) == 0 {
		return
	}
	d.group, d.size = nil, 0
	d.slots <- struct{}{}
	d.running.Go(func() {
		failed := d.sync(group)
		for i, l := range group {
			folder, err := d.s.name(l, failed[i])
			d.s.receiving.Delete(l.hash)
			d.note(l.hash, folder, err)
		}
		<-d.slots
	})
}

// sync puts the files of a group on disk, and returns the error of each: many at once by one call for the whole disk, which costs less
// than one for each.
func (d *Delivery) sync(group []*landed) []error {
	failed := make([]error, len(group))
	if d.disk != nil && len(group) >= syncsAtOnce {
		if err := d.disk.sync(); err != nil {
			for i := range failed {
				failed[i] = err
			}
		}
		return failed
	}
	var running sync.WaitGroup
	slots := make(chan struct{}, syncsAtOnce)
	for i, l := range group {
		slots <- struct{}{}
		running.Go(func() {
			failed[i] = l.sync()
			<-slots
		})
	}
	running.Wait()
	return failed
}

// note notes what became of a file.
func (d *Delivery) note(hash bamboo.Hash, folder string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.err = errors.Join(d.err, err)
		return
	}
	d.named[hash] = struct{}{}
	d.folders[folder] = struct{}{}
}

func (d *Delivery) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// Settle returns when all payloads that were received are on disk under their names, or with the error of one that cannot be put
// there. It must be called after errors of Receive too, and ends the delivery.
func (d *Delivery) Settle() error {
	d.flush()
	d.running.Wait()
	d.s.pieces.Put(d.piece)
	if err := errors.Join(d.err, d.disk.close(), d.s.settle(slices.Collect(maps.Keys(d.folders))...)); err != nil {
		return err
	}
	for hash := range d.named {
		d.s.unsettled.Delete(hash)
	}
	return nil
}

// receive writes a payload to a file that has no name yet.
func (d *Delivery) receive(hash bamboo.Hash, from, size uint64, r io.Reader) (l *landed, err error) {
	if err := d.s.checkSpace(); err != nil {
		return nil, err
	}
	l = &landed{path: d.s.part(hash), hash: hash}
	d.s.parts.Store(hash, true)
	if l.f, err = d.s.fs.OpenReadWrite(l.path, vfs.WriteCategoryUnspecified); err != nil {
		return nil, fmt.Errorf("receive payload: %w", err)
	}
	in := &slice{src: r, from: from, f: l.f, at: int64(from), piece: d.piece[:]}
	if from == 0 && size > treeless {
		err = d.s.openTree(l)
		in.tree = l.tree
	}
	if err == nil {
		err = in.read(hash, size)
	}
	if err != nil {
		return nil, fmt.Errorf("receive payload from byte %d of %d: %w", from, size, errors.Join(err, l.close()))
	}
	if from == 0 {
		return l, nil
	}
	// What was held may have changed since.
	if size > treeless {
		err = d.s.plantTree(l, size)
	} else {
		err = l.compare(size)
	}
	if errors.Is(err, bamboo.ErrPayload) {
		err = errors.Join(err, d.s.discard(l))
	} else if err != nil {
		err = errors.Join(err, l.close())
	}
	return l, err
}

// landed is a file that is whole, but neither synced nor named.
type landed struct {
	path    string
	hash    bamboo.Hash
	f, tree vfs.File // the tree is nil for a short file
}

func (l *landed) close() error {
	err := l.f.Close()
	if l.tree != nil {
		err = errors.Join(err, l.tree.Close())
	}
	return err
}

// sync returns when all of it is on disk.
func (l *landed) sync() error {
	err := l.f.Sync()
	if l.tree != nil {
		err = errors.Join(err, l.tree.Sync())
	}
	return err
}

// discard removes a file that is not to be used.
func (s *Store) discard(l *landed) error {
	s.parts.Delete(l.hash)
	err := errors.Join(l.close(), s.fs.Remove(l.path))
	if l.tree != nil {
		err = errors.Join(err, s.fs.Remove(treeOf(l.path)))
	}
	return err
}

func (s *Store) openTree(l *landed) (err error) {
	if l.tree, err = s.fs.Create(treeOf(l.path), vfs.WriteCategoryUnspecified); err != nil {
		return fmt.Errorf("write tree of payload: %w", err)
	}
	return nil
}

// plantTree reads a file through, writes its tree, and compares it with the hash.
func (s *Store) plantTree(l *landed, size uint64) error {
	if err := s.openTree(l); err != nil {
		return err
	}
	root, err := bao.Encode(l.tree, io.NewSectionReader(l.f, 0, int64(size)), int64(size), group, true)
	if err != nil {
		return fmt.Errorf("write tree of payload: %w", err)
	}
	if root != l.hash {
		return fmt.Errorf("file of %d bytes: %w", size, bamboo.ErrPayload)
	}
	return nil
}

// compare reads a short file and compares it with the hash.
func (l *landed) compare(size uint64) error {
	data := make([]byte, size)
	if _, err := l.f.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read payload: %w", err)
	}
	if bamboo.HashOf(data) != l.hash {
		return fmt.Errorf("file of %d bytes: %w", size, bamboo.ErrPayload)
	}
	return nil
}

// name gives a file its name once it was synced, and returns the folder that is to be settled then. After an error of syncing nobody
// knows what is on disk, so the file is removed.
func (s *Store) name(l *landed, syncing error) (folder string, err error) {
	if syncing != nil {
		return "", fmt.Errorf("sync payload: %w", errors.Join(syncing, s.discard(l)))
	}
	if err := l.close(); err != nil {
		return "", fmt.Errorf("write payload: %w", err)
	}
	final := s.file(l.hash)
	folder = s.fs.PathDir(final)
	if _, made := s.folders.Load(folder); !made {
		if err := s.fs.MkdirAll(folder, 0o700); err != nil {
			return "", fmt.Errorf("name payload: %w", err)
		}
		s.folders.Store(folder, true)
	}
	if l.tree != nil {
		err = s.fs.Rename(treeOf(l.path), treeOf(final))
	}
	if err == nil {
		s.unsettled.Store(l.hash, true)
		err = s.fs.Rename(l.path, final)
	}
	if err != nil {
		return "", fmt.Errorf("name payload: %w", err)
	}
	s.parts.Delete(l.hash)
	return folder, nil
}

// settle syncs folders that files were named in.
func (s *Store) settle(folders ...string) error {
	if len(folders) == 0 {
		return nil
	}
	var all error
	var mu sync.Mutex
	var running sync.WaitGroup
	slots := make(chan struct{}, syncsAtOnce)
	for _, folder := range append(folders, s.files) {
		slots <- struct{}{}
		running.Go(func() {
			if err := syncDir(s.fs, folder); err != nil {
				mu.Lock()
				all = errors.Join(all, err)
				mu.Unlock()
			}
			<-slots
		})
	}
	running.Wait()
	if all != nil {
		return fmt.Errorf("sync folders of payloads: %w", all)
	}
	return nil
}
