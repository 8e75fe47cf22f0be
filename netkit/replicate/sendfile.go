package replicate

import (
	"encoding/binary"
	"errors"
	"io"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
	"dibber/netkit/wire"
)

// opening is a file that is opened, and if it is short also read and proven, while the one before it is sent.
type opening struct {
	hash bamboo.Hash
	done chan struct{} // closed when the following are known
	src  *logstore.Source
	err  error
}

// open returns a file to be sent, and begins to open the one after it.
func (w *writer) open(f *fileWant) (src *logstore.Source, err error) {
	now := w.ahead
	w.ahead = nil
	if now != nil && now.hash == f.hash {
		<-now.done
		src, err = now.src, now.err
	} else {
		now.drop()
		src, err = w.s.replica.Store.OpenPayload(f.hash)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.files) > 0 {
		next := &opening{hash: w.files[0].hash, done: make(chan struct{})}
		w.ahead = next
		go func() {
			defer close(next.done)
			next.src, next.err = w.s.replica.Store.OpenPayload(next.hash)
		}()
	}
	return src, err
}

// drop closes a file that is not sent after all.
func (o *opening) drop() {
	if o == nil {
		return
	}
	if <-o.done; o.err == nil {
		_ = o.src.Close() // it was only read
	}
}

// sendFile sends a file as far as it is asked for.
func (w *writer) sendFile(f *fileWant) error {
	out := &fileWriter{w: w, part: w.part[:0]}
	src, err := w.open(f)
	if err == nil {
		err = src.Send(out, f.from)
		err = errors.Join(err, src.Close())
	}
	if out.err == nil {
		if err != nil {
			out.part = out.part[:0]
		}
		_ = out.flush(wire.AppendFrame(nil, []byte{byte(kindFileEnd), flag(err == nil)})) // it keeps the error
	}
	w.part = out.part
	if out.err == nil && err == nil {
		w.change(func() { w.payload += f.size - f.from })
		w.s.tally(func(p *Progress) { p.Pushed.add(0, f.size-f.from) })
	}
	return out.err
}

// fileWriter cuts a file into frames.
type fileWriter struct {
	w    *writer
	part []byte // the next frame, behind frameHead bytes for its length
	err  error  // of the stream
}

const frameHead = binary.MaxVarintLen32

func (f *fileWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if len(f.part) == 0 {
			f.part = append(f.part, make([]byte, frameHead)...)
			f.part = append(f.part, byte(kindFile))
		}
		k := min(len(p), frameHead+1+fileChunk-len(f.part))
		f.part = append(f.part, p[:k]...)
		p, n = p[k:], n+k
		if len(f.part) == frameHead+1+fileChunk {
			if err := f.flush(nil); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// flush sends the frame once there is room for it, and what follows it.
func (f *fileWriter) flush(after []byte) error {
	if len(f.part) == 0 {
		return f.send(after)
	}
	w, size := f.w, len(f.part)-frameHead
	w.mu.Lock()
	for f.err == nil && (len(w.control) > 0 || w.fileRoom <= 0) {
		switch {
		case len(w.control) > 0:
			f.err = w.answer()
		case w.closed:
			f.err = io.ErrClosedPipe
		default:
			w.changed.Wait()
		}
	}
	w.fileRoom -= int64(size)
	w.mu.Unlock()
	var head [frameHead]byte
	n := binary.PutUvarint(head[:], uint64(size))
	copy(f.part[frameHead-n:], head[:n])
	return f.send(append(f.part, after...)[frameHead-n:])
}

func (f *fileWriter) send(data []byte) error {
	f.part = f.part[:0]
	if f.err == nil && len(data) > 0 {
		_, f.err = f.w.dst.Write(data)
	}
	return f.err
}
