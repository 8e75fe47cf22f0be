package pipe

import "fmt"

// outgoing is what one side sends: the bytes that the other side has not consumed yet.
// Places are counted from the beginning of the session; the end is the place behind
// the last byte, and is consumed as one byte more.
type outgoing struct {
	window int
	kept   []byte // not consumed yet
	base   uint64 // place of kept[0]
	sent   uint64 // place up to which the stream in use was given everything

	ended    bool // nothing more is written
	endSent  bool // on the stream in use
	finished bool // the end was consumed
}

// room is how many more bytes may be written.
func (o *outgoing) room() int { return o.window - len(o.kept) }

// last is the place behind the last byte written.
func (o *outgoing) last() uint64 { return o.base + uint64(len(o.kept)) }

// next is the next piece to send. isEnd tells that it is the end; a nil piece that is
// not the end tells that there is nothing to send now.
func (o *outgoing) next() (piece []byte, isEnd bool) {
	if o.sent < o.last() {
		from := o.sent - o.base
		piece = o.kept[from:min(from+chunk, uint64(len(o.kept)))]
		o.sent += uint64(len(piece))
		return piece, false
	}
	if o.ended && !o.endSent {
		o.endSent = true
		return nil, true
	}
	return nil, false
}

// restart begins anew on another stream whose reader has received so many bytes. Some
// of these may not be consumed yet, and so are kept.
func (o *outgoing) restart(received uint64) error {
	if received < o.base || received > o.end() {
		return fmt.Errorf("%w: peer has %d bytes; %d to %d were possible", errProtocol, received, o.base, o.end())
	}
	o.sent = min(received, o.last())
	o.endSent = received > o.last()
	return nil
}

// end is the place behind the end where that is known, else behind the last byte.
func (o *outgoing) end() uint64 {
	if o.ended {
		return o.last() + 1
	}
	return o.last()
}

// consumed drops what the other side has consumed, counted from the beginning.
func (o *outgoing) consumed(count uint64) error {
	if count > o.end() {
		return fmt.Errorf("%w: %d bytes consumed of %d", errProtocol, count, o.end())
	}
	o.finished = o.ended && count > o.last()
	if drop := int64(min(count, o.last()) - o.base); drop > 0 {
		o.kept = append(o.kept[:0], o.kept[drop:]...)
		o.base += uint64(drop)
		o.sent = max(o.sent, o.base)
	}
	return nil
}

// incoming is what one side has received.
type incoming struct {
	window int
	unread []byte
	read   uint64 // consumed by the reader, the end included
	told   uint64 // of read, told to the other side on the stream in use
	ended  bool   // the end has arrived
	over   bool   // and was read
}

// received is how many bytes have arrived, the end included.
func (i *incoming) received() uint64 {
	n := i.read + uint64(len(i.unread))
	if i.ended && !i.over {
		n++
	}
	return n
}

// arrived takes data. A sender that keeps to the window never fills it.
func (i *incoming) arrived(b []byte) error {
	if i.ended {
		return fmt.Errorf("%w: data after the end", errProtocol)
	}
	if len(i.unread)+len(b) > i.window {
		return fmt.Errorf("%w: window exceeded", errProtocol)
	}
	i.unread = append(i.unread, b...)
	return nil
}

// take moves bytes to the reader. It returns eof once the end was read, which counts
// as one byte.
func (i *incoming) take(p []byte) (n int, eof bool) {
	n = copy(p, i.unread)
	i.unread = append(i.unread[:0], i.unread[n:]...)
	i.read += uint64(n)
	if n == 0 && i.ended {
		if !i.over {
			i.over = true
			i.read++
		}
		return 0, true
	}
	return n, false
}

// news is the count to tell the other side, if it is worth a frame: when a quarter of
// the window was read since the last, when everything was, or at the end.
func (i *incoming) news() (count uint64, worth bool) {
	fresh := i.read - i.told
	worth = fresh > 0 && (fresh >= uint64(i.window)/4 || len(i.unread) == 0)
	return i.read, worth
}
