package replicate

import (
	"bytes"
	"io"
	"sync"

	"dibber/netkit/logstore"
)

// file queues a frame of a file.
func (t *taker) file(k kind, body []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.awaited == 0 {
		return broken("it sends a file that was not asked for")
	}
	if k == kindFileEnd {
		t.awaited--
		t.files = append(t.files, filePart{end: true, whole: len(body) == 1 && body[0] == 1})
	} else {
		if t.filed += len(body) + 1; t.filed > fileWindow+maxFrame || len(body) == 0 {
			return broken("it sends more of a file than it got credit for")
		}
		t.files = append(t.files, filePart{data: body})
	}
	t.changed.Broadcast()
	return nil
}

// receive gets the files that entries name, as far as they are not here. Nobody else receives them until release.
func (t *taker) receive(records []logstore.Record) (release func(), err error) {
	wants := filesOf(records)
	var releases []func()
	release = func() {
		for _, fn := range releases {
			fn()
		}
	}
	store := t.s.replica.Store
	var asked []fileWant
	for _, w := range wants {
		done, err := t.s.replica.claim(t.s.ctx, w.hash)
		if err != nil {
			return release, err
		}
		releases = append(releases, done)
		if w.from = store.HeldPayload(w.hash, w.size); w.from == w.size {
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
	return release, t.arrive(asked)
}

// arrive stores the files that were asked for as they come.
func (t *taker) arrive(asked []fileWant) (err error) {
	var running sync.WaitGroup
	defer running.Wait()
	slots, failed := make(chan struct{}, atOnce), make(chan error, atOnce)
	for _, w := range asked {
		src := &fileReader{t: t}
		if w.size-w.from > smallFile {
			if err := t.keep(w, src, src); err != nil {
				return err
			}
			continue
		}
		data, err := io.ReadAll(io.LimitReader(src, 2*smallFile))
		if err != nil {
			return err
		}
		select {
		case slots <- struct{}{}:
		case err := <-failed:
			return err
		}
		running.Go(func() {
			defer func() { <-slots }()
			if err := t.keep(w, bytes.NewReader(data), src); err != nil {
				failed <- err
			}
		})
	}
	running.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// keep stores one file, of which data is what is read or was read from src.
func (t *taker) keep(w fileWant, data io.Reader, src *fileReader) error {
	err := t.s.replica.Store.ReceivePayload(w.hash, w.size, data)
	if err == nil {
		_, err = io.Copy(io.Discard, src)
	}
	if err != nil && src.refused {
		err = broken("it does not have a file that it named")
	}
	if err == nil {
		t.s.tally(func(p *Progress) { p.Pulled.add(0, w.size-w.from) })
	}
	return err
}

// fileReader reads one file out of the frames that come.
type fileReader struct {
	t       *taker
	part    []byte
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
	f.part = f.part[n:]
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
	size := len(part.data) + 1
	t.filed -= size
	t.mu.Unlock()
	f.part = part.data
	return t.s.out.say(encodeNumber(kindFileRoom, uint64(size)))
}
