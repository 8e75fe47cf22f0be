package replicate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
	"dibber/netkit/wire"
)

// Import takes what is in a bundle by the replica's rules. It is proven as what comes from a peer is; what was taken before an error
// stays.
func (r *Replica) Import(ctx context.Context, src io.Reader) (report BundleReport, err error) {
	report.Forks = []Fork{}
	defer func() {
		if report.Added > 0 {
			r.change()
		}
	}()
	in := bufio.NewReaderSize(src, partFrame)
	magic := make([]byte, len(bundleMagic))
	if _, err := io.ReadFull(in, magic); err != nil || string(magic) != bundleMagic {
		return report, fmt.Errorf("%w: it does not begin as one", ErrBundle)
	}
	i := importer{r: r, ctx: ctx, in: wire.NewReader(in, maxFrame), report: &report, forks: make(map[logID]uint64)}
	defer i.release()
	for {
		if ctx.Err() != nil {
			return report, context.Cause(ctx)
		}
		frame, err := i.next()
		if err != nil {
			return report, err
		}
		done, err := i.take(kind(frame[0]), frame[1:])
		if done || err != nil {
			report.Forks = (&session{forks: i.forks}).forkList()
			return report, err
		}
	}
}

// importer reads a bundle.
type importer struct {
	r      *Replica
	ctx    context.Context //nolint:containedctx // it is that of the one call of Import
	in     *wire.Reader
	report *BundleReport
	forks  map[logID]uint64
	of     *taking // nil before the first log
}

func (i *importer) next() ([]byte, error) {
	frame, err := i.in.Next()
	if err == nil && len(frame) == 0 {
		err = io.ErrNoProgress
	}
	if err != nil {
		return nil, fmt.Errorf("%w: it ends early: %w", ErrBundle, err)
	}
	return frame, nil
}

// release gives back what was admitted for the log that was read last.
func (i *importer) release() {
	if i.of != nil {
		i.r.release("", i.of.author, i.of.granted, i.of.granted)
	}
}

func (i *importer) take(k kind, body []byte) (done bool, err error) {
	switch k {
	case kindHeads:
		return false, i.log(body)
	case kindRun:
		return false, i.run(body)
	case kindGet: // of a run that is not taken
		return false, i.skipFile()
	case kindProof:
		a, b, err := decodeProof(body)
		if err != nil {
			return false, err
		}
		return false, i.proof(a, b)
	case kindFin:
		n, err := decodeNumber(body)
		if err == nil && n != uint64(i.report.Entries) {
			err = fmt.Errorf("%w: it holds %d entries, and says %d", ErrBundle, i.report.Entries, n)
		}
		return true, err
	default:
		return false, fmt.Errorf("%w: a frame of kind %d", ErrBundle, k)
	}
}

// log begins another log.
func (i *importer) log(body []byte) error {
	heads, _, err := decodeHeads(body)
	if err != nil {
		return err
	}
	if len(heads) != 1 {
		return fmt.Errorf("%w: %d heads at once", ErrBundle, len(heads))
	}
	h := heads[0]
	i.release()
	i.of = nil
	v, err := i.r.Store.View()
	if err != nil {
		return err
	}
	own, err := v.Head(h.author, h.log)
	if errors.Is(err, logstore.ErrNotFound) {
		err = nil
	}
	of := &taking{head: h, next: 1, to: h.height}
	reason := ""
	if err == nil && own.Height < h.height {
		size := h.bytes - min(h.bytes, own.Bytes)
		if reason, err = i.r.admit(v, "", h.logID, size); reason == "" && err == nil {
			of.granted = size
		}
	}
	if err := errors.Join(err, v.Close()); err != nil {
		return err
	}
	i.report.Logs++
	if own.Fork > 0 {
		of.to = own.Fork - 1
	}
	if reason != "" {
		if i.report.Refused++; i.report.Reason == "" {
			i.report.Reason = reason
		}
		of.over = true
	}
	i.of = of
	return nil
}

// run takes a run of the log.
func (i *importer) run(body []byte) error {
	r, err := decodeRun(body)
	if err != nil {
		return err
	}
	of := i.of
	if of == nil || r.from != of.next || r.from+uint64(len(r.entries))-1 > of.height {
		return fmt.Errorf("%w: a run where none can be", ErrBundle)
	}
	i.report.Entries += len(r.entries)
	for j := range r.entries {
		i.report.Bytes += r.entries[j].size
	}
	if of.over || r.from > of.to {
		of.next += uint64(len(r.entries))
		return nil
	}
	records, err := i.r.prove(of, &r, nil)
	if err != nil {
		return err
	}
	of.next += uint64(len(r.entries))
	of.last = records[len(records)-1].ID
	if of.brought = plus(of.brought, i.fresh(records)); of.brought > of.granted {
		return fmt.Errorf("%w: a log is longer than was said", ErrBundle)
	}
	for _, f := range filesOf(records) {
		if err := i.file(f); err != nil {
			return err
		}
	}
	if over := uint64(len(records)) - min(uint64(len(records)), of.to-r.from+1); over > 0 {
		records = records[:uint64(len(records))-over]
	}
	for len(records) > 0 && records[len(records)-1].Verify() != nil {
		records = records[:len(records)-1]
	}
	res, err := i.r.Store.Put(records)
	i.report.Added += res.Added
	if errors.Is(err, logstore.ErrForked) {
		if res.Fork != nil {
			i.forks[of.logID] = res.Fork.Seq
		}
		of.over = true
		return nil
	}
	return err
}

// fresh is the length of the payloads of entries that are not here.
func (i *importer) fresh(records []logstore.Record) (size uint64) {
	v, err := i.r.Store.View()
	if err != nil {
		return 0
	}
	defer v.Close() // it only reads
	h, err := v.Head(i.of.author, i.of.log)
	if err != nil {
		h.Height = 0
	}
	for j := range records {
		if records[j].Seq > h.Height {
			size = plus(size, records[j].PayloadSize)
		}
	}
	return size
}

// file takes a file that a run names.
func (i *importer) file(want fileWant) error {
	frame, err := i.next()
	if err != nil {
		return err
	}
	if kind(frame[0]) != kindGet {
		return fmt.Errorf("%w: a file is missing", ErrBundle)
	}
	got, err := decodeFileWant(kindGet, frame[1:])
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%w: another file than the run names", ErrBundle)
	}
	if i.r.Store.HeldPayload(want.hash, want.size) == want.size {
		return i.skipFile()
	}
	src := &bundleFile{i: i, left: want.size}
	p, err := i.r.Store.NewPayload(src)
	if err != nil {
		return err
	}
	if p.Hash != want.hash {
		return fmt.Errorf("file in a bundle: %w", bamboo.ErrPayload)
	}
	return nil
}

func (i *importer) skipFile() error {
	for {
		frame, err := i.next()
		if err != nil || kind(frame[0]) == kindFileEnd {
			return err
		}
		if kind(frame[0]) != kindFile {
			return fmt.Errorf("%w: a file that does not end", ErrBundle)
		}
	}
}

// proof takes the proof of a fork.
func (i *importer) proof(a, b bamboo.Signed) error {
	v, err := i.r.Store.View()
	if err != nil {
		return err
	}
	s := session{replica: i.r, view: v, forks: i.forks}
	return errors.Join(s.keepFork(a, b), v.Close())
}

// bundleFile reads a file out of the frames of a bundle.
type bundleFile struct {
	i     *importer
	part  []byte
	left  uint64 // bytes that may come
	ended bool
}

func (f *bundleFile) Read(p []byte) (int, error) {
	for len(f.part) == 0 {
		if f.ended {
			return 0, io.EOF
		}
		frame, err := f.i.next()
		if err != nil {
			return 0, err
		}
		switch kind(frame[0]) {
		case kindFileEnd:
			f.ended = true
		case kindFile:
			f.part = frame[1:]
			if uint64(len(f.part)) > f.left {
				return 0, fmt.Errorf("%w: a file is longer than the run says", ErrBundle)
			}
			f.left -= uint64(len(f.part))
		default:
			return 0, fmt.Errorf("%w: a file that does not end", ErrBundle)
		}
	}
	n := copy(p, f.part)
	f.part = f.part[n:]
	return n, nil
}
