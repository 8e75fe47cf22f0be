package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"dibber/netkit/bamboo"
	"dibber/netkit/negentropy"
)

// The rows of the database, by the first byte of their keys:
//
//	m                            format, epoch, arrivals, bytes
//	l  author log                head: height, id, bytes, flags, fork, name
//	e  author log seq            time, arrival, start of the id, entry, payload unless it is a file
//	i  id                        author log seq
//	x  time id                   (nothing): the order that ranges are summed in
//	b  first x key of a block    count, sum
//	j  arrival                   author log seq
//	p  peer                      cursor
//	f  author log seq            both entries of a fork
//	o  payload hash              size of the file
//	q  payload hash              size of a file that Verify found not to be there
//
// Numbers in keys are big-endian, so that the order of keys is theirs.
const (
	rowState   = 'm'
	rowHead    = 'l'
	rowEntry   = 'e'
	rowID      = 'i'
	rowItem    = 'x'
	rowBlock   = 'b'
	rowArrival = 'j'
	rowPeer    = 'p'
	rowFork    = 'f'
	rowFile    = 'o'
	rowLack    = 'q'
)

// InlineMax is the size in bytes up to which a payload is kept in the database; a larger one is a file.
const InlineMax = 16 << 10

// errRow is the cause of a [CorruptError] for a row of the wrong form.
var errRow = errors.New("malformed row")

// logKey names a log: the author, then the log's number.
type logKey [40]byte

func keyOf(author bamboo.Author, log uint64) (k logKey) {
	copy(k[:], author[:])
	binary.BigEndian.PutUint64(k[32:], log)
	return k
}

func (k logKey) author() bamboo.Author { return bamboo.Author(k[:32]) }
func (k logKey) log() uint64           { return binary.BigEndian.Uint64(k[32:]) }

// place names an entry: its log, then its number. It is also a value: that of the rows that lead to an entry.
type place [48]byte

func (k logKey) at(seq uint64) (p place) {
	copy(p[:], k[:])
	binary.BigEndian.PutUint64(p[40:], seq)
	return p
}

func (p place) log() logKey { return logKey(p[:40]) }
func (p place) seq() uint64 { return binary.BigEndian.Uint64(p[40:]) }

func row(kind byte, parts ...[]byte) []byte {
	out := make([]byte, 1, 64)
	out[0] = kind
	for _, part := range parts {
		out = append(out, part...)
	}
	return out
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// itemKey is an entry's place in the order of all entries, which is the same in every store that holds it: its time, then its id. It
// is the key of a row without the first byte.
type itemKey [40]byte

func itemOf(time uint64, id bamboo.Hash) (k itemKey) {
	binary.BigEndian.PutUint64(k[:], time)
	copy(k[8:], id[:])
	return k
}

func (k itemKey) item() negentropy.Item {
	return negentropy.Item{Timestamp: binary.BigEndian.Uint64(k[:]), ID: negentropy.ID(k[8:])}
}

// Head is what a store knows of a log.
type Head struct {
	Author bamboo.Author
	Log    uint64
	// Name is what the log is called here; empty for logs of others.
	Name string
	// Mine says that the log was made here.
	Mine bool
	// Height is the number of the last entry, zero when there is none; ID is its id.
	Height uint64
	ID     bamboo.Hash
	// Bytes is the length of all payloads together.
	Bytes uint64
	// Ended says that the last entry ends the log.
	Ended bool
	// Fork is the lowest number that two entries have, zero when none is known.
	Fork uint64
	// Checked is the number up to which every single signature has been checked; see [Store.CheckSignatures].
	Checked uint64
}

func (h *Head) key() logKey { return keyOf(h.Author, h.Log) }

const headFixed = 8 + 32 + 8 + 8 + 8 + 1

func (h *Head) encode() []byte {
	out := make([]byte, 0, headFixed+len(h.Name))
	out = binary.BigEndian.AppendUint64(out, h.Height)
	out = append(out, h.ID[:]...)
	out = binary.BigEndian.AppendUint64(out, h.Bytes)
	out = binary.BigEndian.AppendUint64(out, h.Fork)
	out = binary.BigEndian.AppendUint64(out, h.Checked)
	var flags byte
	if h.Mine {
		flags |= 1
	}
	if h.Ended {
		flags |= 2
	}
	return append(append(out, flags), h.Name...)
}

func decodeHead(k logKey, value []byte) (Head, error) {
	if len(value) < headFixed {
		return Head{}, &CorruptError{What: fmt.Sprintf("head of log %d by %s", k.log(), k.author()), Cause: errRow}
	}
	flags := value[headFixed-1]
	return Head{
		Author: k.author(), Log: k.log(), Name: string(value[headFixed:]), Mine: flags&1 != 0, Ended: flags&2 != 0,
		Height: binary.BigEndian.Uint64(value), ID: bamboo.Hash(value[8:40]),
		Bytes: binary.BigEndian.Uint64(value[40:]), Fork: binary.BigEndian.Uint64(value[48:]),
		Checked: binary.BigEndian.Uint64(value[56:]),
	}, nil
}

// Record is an entry as it goes into a store and comes out of it.
type Record struct {
	bamboo.Signed
	// Time orders the entry among those of all logs: milliseconds since 1970 for entries of one's own. It must be the same in every store,
	// so whoever sends an entry sends it along; no signature covers it. [negentropy.Forever] is no time.
	Time uint64
	// Payload is what the entry names; nil when that is longer than [InlineMax] and therefore a file.
	Payload []byte
}

// filed says whether an entry's payload is a file.
func filed(e *bamboo.Entry) bool { return e.PayloadSize > InlineMax }

const (
	idStart     = 8
	recordFixed = 8 + 8 + idStart + 2
)

// encodeRecord makes the value of an entry's row. The start of the id serves to find bits that turned.
func encodeRecord(dst []byte, r *Record, arrival uint64) []byte {
	dst = binary.BigEndian.AppendUint64(dst, r.Time)
	dst = binary.BigEndian.AppendUint64(dst, arrival)
	dst = append(dst, r.ID[:idStart]...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(r.Raw)))
	dst = append(dst, r.Raw...)
	return append(dst, r.Payload...)
}

// decodeRecord reads the value of an entry's row, which it keeps parts of, and compares it with its hashes.
func decodeRecord(p place, value []byte) (Record, error) {
	r, _, payload, err := decodeSigned(p, value)
	if err == nil && !filed(&r.Entry) {
		if err := r.CheckPayload(payload); err != nil {
			return Record{}, p.damaged(err)
		}
		r.Payload = payload
	}
	return r, err
}

func (p place) damaged(cause error) error {
	return &CorruptError{What: fmt.Sprintf("entry %d of log %d by %s", p.seq(), p.log().log(), p.log().author()), Cause: cause}
}

// decodeSigned leaves the payload as it is.
func decodeSigned(p place, value []byte) (r Record, arrival uint64, payload []byte, err error) {
	fail := func(cause error) (Record, uint64, []byte, error) { return Record{}, 0, nil, p.damaged(cause) }
	if len(value) < recordFixed {
		return fail(errRow)
	}
	size := int(binary.BigEndian.Uint16(value[recordFixed-2:]))
	if len(value)-recordFixed < size {
		return fail(errRow)
	}
	if r.Signed, err = bamboo.Parse(value[recordFixed : recordFixed+size]); err != nil {
		return fail(err)
	}
	if [idStart]byte(r.ID[:idStart]) != [idStart]byte(value[16:16+idStart]) {
		return fail(errors.New("its hash is not its id"))
	}
	if keyOf(r.Author, r.Log).at(r.Seq) != p {
		return fail(errors.New("it is another entry"))
	}
	r.Time = binary.BigEndian.Uint64(value)
	return r, binary.BigEndian.Uint64(value[8:]), value[recordFixed+size:], nil
}
