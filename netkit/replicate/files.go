package replicate

import (
	"errors"
	"io"
	"slices"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
)

// file queues a frame of a file.
func (t *taker) file(frame []byte) error {
	k, body := kind(frame[0]), frame[1:]
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.awaited == 0 {
		return broken("it sends a file that was not asked for")
	}
	if k == kindFileEnd {
		t.awaited--
		t.short = false
		t.files = append(t.files, filePart{end: true, whole: len(body) == 1 && body[0] == 1})
	} else {
		if t.filed += len(frame); t.filed > fileWindow+maxFrame {
			return broken("it sends more of a file than it got credit for")
		}
		// Many small frames would take much more memory than they have bytes.
		if t.short || len(body) == 0 {
			return broken("it sends a file in crumbs")
		}
		t.short = len(body) < fileChunk
		t.files = append(t.files, filePart{frame: frame})
	}
	t.changed.Broadcast()
	return nil
}

// receive gets the files that entries name, as far as they are not here; they are on disk when settle returns, which must be called.
// Nobody else receives them until release.
func (t *taker) receive(records []logstore.Record) (settle func() error, release func(), err error) {
	return t.deliver(filesOf(records), func(d *logstore.Delivery, w fileWant) error {
		src, err := t.arrive(d, w)
		if err != nil && src.refused {
			return broken("it does not have a file that it named")
		}
		return err
	})
}

// refill gets files that are missing of entries that are here, as far as the other side has them.
func (t *taker) refill() error {
	var wants []fileWant
	err := t.s.view.MissingPayloads(func(hash bamboo.Hash, size uint64) error {
		if wants = append(wants, fileWant{hash: hash, size: size, sought: true}); len(wants) < maxSought {
			return nil
		}
		return errFound
	})
	if err != nil && !errors.Is(err, errFound) {
		return err
	}
	for some := range slices.Chunk(wants, soughtAtOnce) {
		settle, release, err := t.deliver(some, func(d *logstore.Delivery, w fileWant) error {
			src, err := t.arrive(d, w)
			switch {
			case err == nil, src.refused:
				return nil
			case errors.Is(err, bamboo.ErrPayload): // theirs is damaged too
				_, err = io.Copy(io.Discard, src)
			}
			return err
		})
		err = errors.Join(err, settle())
		release()
		if err != nil {
			return err
		}
	}
	return t.s.replica.Store.Restored()
}

// deliver asks for those files that are not here and has each stored as it comes; settle and release are as those of receive.
func (t *taker) deliver(wants []fileWant, store func(*logstore.Delivery, fileWant) error) (settle func() error, release func(), err error) {
	var releases []func()
	release = func() {
		for _, fn := range releases {
			fn()
		}
	}
	d := t.s.replica.Store.Deliver()
	var asked []fileWant
	for _, w := range wants {
		done, err := t.s.replica.claim(t.s.ctx, w.hash)
		if err != nil {
			return d.Settle, release, err
		}
		releases = append(releases, done)
		if w.from = d.Held(w.hash, w.size); w.from == w.size {
			continue
		}
		t.mu.Lock()
		t.awaited++
		t.mu.Unlock()
		if err := t.s.out.say(w.encode()); err != nil {
			return d.Settle, release, err
		}
		asked = append(asked, w)
	}
	for _, w := range asked {
		if err := store(d, w); err != nil {
			return d.Settle, release, err
		}
	}
	return d.Settle, release, nil
}

// arrive stores one file as it comes.
func (t *taker) arrive(d *logstore.Delivery, w fileWant) (*fileReader, error) {
	src := &fileReader{t: t}
	err := d.Receive(w.hash, w.size, src)
	if err == nil {
		_, err = io.Copy(io.Discard, src)
	}
	if err == nil {
		t.s.tally(func(p *Progress) { p.Pulled.add(0, w.size-w.from) })
	}
	return src, err
}

// fileReader reads one file out of the frames that come.
type fileReader struct {
	t       *taker
	frame   []byte
	part    []byte // what is left of it
	ended   bool
	refused bool
}

func (f *fileReader) Read(p []byte) (int, error) {
	for len(f.part) == 0 {
		if f.ended {
			return 0, io.EOF
		}
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.part)
	if f.part = f.part[n:]; len(f.part) == 0 {
		f.t.s.in.Recycle(f.frame)
		f.frame = nil
	}
	return n, nil
}

// next waits for the next frame.
func (f *fileReader) next() error {
	t := f.t
	t.mu.Lock()
	for len(t.files) == 0 && !t.aborted {
		t.changed.Wait()
	}
	if t.aborted {
		t.mu.Unlock()
		return io.ErrUnexpectedEOF
	}
	part := t.files[0]
	t.files = t.files[1:]
	if part.end {
		t.mu.Unlock()
		f.ended, f.refused = true, !part.whole
		return nil
	}
	size := len(part.frame)
	t.filed -= size
	t.mu.Unlock()
	f.frame, f.part = part.frame, part.frame[1:]
	if t.taken += size; t.taken < fileGrant {
		return nil
	}
	taken := t.taken
	t.taken = 0
	return t.s.out.say(encodeNumber(kindFileRoom, uint64(taken)))
}
