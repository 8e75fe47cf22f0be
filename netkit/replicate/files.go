package replicate

import (
	"errors"
	"io"

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
		t.files = append(t.files, filePart{end: true, whole: len(body) == 1 && body[0] == 1})
	} else {
		if t.filed += len(frame); t.filed > fileWindow+maxFrame || len(body) == 0 {
			return broken("it sends more of a file than it got credit for")
		}
		t.files = append(t.files, filePart{frame: frame})
	}
	t.changed.Broadcast()
	return nil
}

// receive gets the files that entries name, as far as they are not here, and returns when they are on disk. Nobody else receives them
// until release.
func (t *taker) receive(records []logstore.Record) (release func(), err error) {
	wants := filesOf(records)
	var releases []func()
	release = func() {
		for _, fn := range releases {
			fn()
		}
	}
	d := t.s.replica.Store.Deliver()
	var asked []fileWant
	defer func() { err = errors.Join(err, d.Settle()) }()
	for _, w := range wants {
		done, err := t.s.replica.claim(t.s.ctx, w.hash)
		if err != nil {
			return release, err
		}
		releases = append(releases, done)
		if w.from = d.Held(w.hash, w.size); w.from == w.size {
			continue
		}
		t.mu.Lock()
		t.awaited++
		t.mu.Unlock()
		if err := t.s.out.say(w.encode()); err != nil {
			return release, err
		}
		asked = append(asked, w)
	}
	for _, w := range asked {
		if err := t.arrive(d, w); err != nil {
			return release, err
		}
	}
	return release, nil
}

// arrive stores one file as it comes.
func (t *taker) arrive(d *logstore.Delivery, w fileWant) error {
	src := &fileReader{t: t}
	err := d.Receive(w.hash, w.size, src)
	if err == nil {
		_, err = io.Copy(io.Discard, src)
	}
	if err != nil && src.refused {
		return broken("it does not have a file that it named")
	}
	if err == nil {
		t.s.tally(func(p *Progress) { p.Pulled.add(0, w.size-w.from) })
	}
	return err
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
