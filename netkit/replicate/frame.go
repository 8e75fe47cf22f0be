package replicate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"dibber/netkit/bamboo"
	"dibber/netkit/negentropy"
)

// kind is the first byte of a frame.
type kind byte

const (
	kindHello kind = iota + 1
	kindHeads
	kindWants
	kindRun
	kindSkip
	kindProbe
	kindPoints
	kindFetch
	kindEntry
	kindProof
	kindSent
	kindFin
	kindCredit
	kindGet
	kindFile
	kindFileEnd
	kindFileRoom
	kindNegentropy
	kindAsk
	kindRefusal
	kindSeek
)

const (
	version = 1
	// maxFrame is the largest frame in bytes that is written and taken.
	maxFrame = 1 << 20
	// partFrame is about how long the frames of a list are.
	partFrame = 64 << 10
	// maxListed is how many logs one session deals with; more are left to the next.
	maxListed = 1 << 16
	// maxProbe is how many ids one probe asks for.
	maxProbe = 64
	// maxSought is how many files one session asks for that no run of it has named, soughtAtOnce how many before they are put on disk.
	maxSought    = 1 << 14
	soughtAtOnce = 1 << 10
)

// ErrProtocol means that the other side said something that the protocol does not allow.
var ErrProtocol = errors.New("peer broke the replication protocol")

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// hello is how a session begins.
type hello struct {
	flags    byte
	algo     Algo
	window   uint64 // bytes of runs that may be under way to this side
	epoch    uint64
	arrivals uint64
	entries  uint64
	logs     uint64
	// cursorEpoch and received are this side's cursor for the other; 0 is none.
	cursorEpoch, received uint64
	fingerprint           negentropy.Fingerprint
	root                  [32]byte
	forks                 [32]byte
}

// The flags of a hello.
const (
	flagTakes   = 1 << iota // wants what it lacks
	flagGives               // sends what the other lacks
	flagCompare             // only the roots
	flagFiles               // sends any file that it is asked for
	flagLacks               // files are missing of entries that it has
)

func (h *hello) encode() []byte {
	out := []byte{byte(kindHello), version, h.flags, byte(h.algo)}
	for _, n := range []uint64{h.window, h.arrivals, h.entries, h.logs, h.received} {
		out = binary.AppendUvarint(out, n)
	}
	out = binary.BigEndian.AppendUint64(out, h.epoch)
	out = binary.BigEndian.AppendUint64(out, h.cursorEpoch)
	out = append(out, h.fingerprint[:]...)
	out = append(out, h.root[:]...)
	return append(out, h.forks[:]...)
}

func decodeHello(body []byte) (hello, error) {
	d := decoder{rest: body}
	if v := d.byte(); d.err == nil && v != version {
		return hello{}, broken("it speaks version %d, not %d", v, version)
	}
	h := hello{flags: d.byte(), algo: Algo(d.byte())}
	for _, n := range []*uint64{&h.window, &h.arrivals, &h.entries, &h.logs, &h.received} {
		*n = d.number()
	}
	h.epoch, h.cursorEpoch = d.fixed(), d.fixed()
	copy(h.fingerprint[:], d.bytes(len(h.fingerprint)))
	h.root, h.forks = d.hash(), d.hash()
	if d.err == nil && (h.algo > Ranges || h.window < minWindow) {
		return hello{}, broken("hello with algorithm %d and a window of %d bytes", h.algo, h.window)
	}
	return h, d.end()
}

// decoder reads a body from its start. After the first error it returns zeros.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) bytes(n int) []byte {
	if d.err != nil || n > len(d.rest) {
		d.fail("it ends early")
		return nil
	}
	out := d.rest[:n:n]
	d.rest = d.rest[n:]
	return out
}

func (d *decoder) fail(why string) {
	if d.err == nil {
		d.err = broken("malformed frame: %s", why)
	}
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) flag() bool {
	b := d.byte()
	if b > 1 {
		d.fail("neither yes nor no")
	}
	return b == 1
}

func (d *decoder) number() uint64 {
	n, used := binary.Uvarint(d.rest)
	if d.err != nil || used <= 0 || used > 1 && d.rest[used-1] == 0 {
		d.fail("a number is none")
		return 0
	}
	d.rest = d.rest[used:]
	return n
}

// count reads how many items follow, of which each takes at least size bytes.
func (d *decoder) count(size int) int {
	n := d.number()
	if n > uint64(len(d.rest)/size) {
		d.fail("it counts more than it holds")
		return 0
	}
	return int(n)
}

func (d *decoder) hash() (h [32]byte) {
	copy(h[:], d.bytes(len(h)))
	return h
}

// fixed reads a number of eight bytes.
func (d *decoder) fixed() uint64 {
	var b [8]byte
	copy(b[:], d.bytes(len(b)))
	return binary.BigEndian.Uint64(b[:])
}

func (d *decoder) log() (l logID) { return logID{author: d.hash(), log: d.number()} }

// sized reads bytes with their length before them.
func (d *decoder) sized() []byte { return d.bytes(d.count(1)) }

func (d *decoder) end() error {
	if d.err == nil && len(d.rest) > 0 {
		d.fail("something follows")
	}
	return d.err
}

// logID names a log.
type logID struct {
	author bamboo.Author
	log    uint64
}

func (l logID) append(dst []byte) []byte {
	return binary.AppendUvarint(append(dst, l.author[:]...), l.log)
}

// head is what one side says of a log.
type head struct {
	logID
	height, bytes uint64
	id            bamboo.Hash
}

// name is the id of a head in the set that negentropy reconciles.
func (h *head) name() negentropy.ID { return negentropy.ID(bamboo.HashOf(h.append(nil))) }

func (h *head) append(dst []byte) []byte {
	dst = binary.AppendUvarint(h.logID.append(dst), h.height)
	dst = binary.AppendUvarint(dst, h.bytes)
	return append(dst, h.id[:]...)
}

// minHead is the length of the shortest head.
const minHead = 32 + 1 + 1 + 1 + 32

// ending says what follows a part of a list.
type ending byte

const (
	goesOn ending = iota
	isLast
	// isCut means that there is more, which another session must bring.
	isCut
)

func encodeHeads(heads []head, end ending) []byte {
	out := binary.AppendUvarint([]byte{byte(kindHeads), byte(end)}, uint64(len(heads)))
	for i := range heads {
		out = heads[i].append(out)
	}
	return out
}

func decodeHeads(body []byte) (heads []head, end ending, err error) {
	d := decoder{rest: body}
	if end = ending(d.byte()); end > isCut {
		d.fail("a list ends as none does")
	}
	heads = make([]head, d.count(minHead))
	for i := range heads {
		heads[i] = head{logID: d.log(), height: d.number(), bytes: d.number(), id: d.hash()}
		if d.err == nil && (heads[i].height == 0 || heads[i].height == math.MaxUint64) {
			d.fail("a log ends where none can")
		}
	}
	return heads, end, d.end()
}

// want asks for a run.
type want struct {
	index    uint64 // among the heads that the other side listed
	from, to uint64
	before   bamboo.Hash // id of the entry from-1, zero for from 1
}

func encodeWants(wants []want, last bool) []byte {
	out := binary.AppendUvarint([]byte{byte(kindWants), flag(last)}, uint64(len(wants)))
	for _, w := range wants {
		for _, n := range []uint64{w.index, w.from, w.to - w.from} {
			out = binary.AppendUvarint(out, n)
		}
		if w.from > 1 {
			out = append(out, w.before[:]...)
		}
	}
	return out
}

func decodeWants(body []byte) (wants []want, last bool, err error) {
	d := decoder{rest: body}
	last = d.flag()
	wants = make([]want, d.count(3))
	for i := range wants {
		wants[i] = want{index: d.number(), from: d.number()}
		wants[i].to = plus(wants[i].from, d.number())
		switch {
		case d.err == nil && wants[i].from == 0:
			d.fail("entries count from 1")
		case wants[i].from > 1:
			wants[i].before = d.hash()
		}
	}
	return wants, last, d.end()
}

// fin is how a side ends.
type fin struct {
	complete bool // everything that the other had and this side lacks is here
	root     [32]byte
	taken    uint64
	refused  uint64
}

func (f *fin) encode() []byte {
	out := append([]byte{byte(kindFin), flag(f.complete)}, f.root[:]...)
	return binary.AppendUvarint(binary.AppendUvarint(out, f.taken), f.refused)
}

func decodeFin(body []byte) (fin, error) {
	d := decoder{rest: body}
	f := fin{complete: d.flag(), root: d.hash(), taken: d.number(), refused: d.number()}
	return f, d.end()
}

// fileWant asks for a payload that is a file.
type fileWant struct {
	hash       bamboo.Hash
	size, from uint64
	sought     bool // no run has named it
}

func (f *fileWant) encode() []byte {
	k := kindGet
	if f.sought {
		k = kindSeek
	}
	out := append([]byte{byte(k)}, f.hash[:]...)
	return binary.AppendUvarint(binary.AppendUvarint(out, f.size), f.from)
}

func decodeFileWant(k kind, body []byte) (fileWant, error) {
	d := decoder{rest: body}
	f := fileWant{hash: d.hash(), size: d.number(), from: d.number(), sought: k == kindSeek}
	if d.err == nil && f.from >= f.size {
		d.fail("nothing of the file is asked for")
	}
	return f, d.end()
}

func encodeProof(a, b []byte) []byte {
	out := append(binary.AppendUvarint([]byte{byte(kindProof)}, uint64(len(a))), a...)
	return append(binary.AppendUvarint(out, uint64(len(b))), b...)
}

func decodeProof(body []byte) (a, b bamboo.Signed, err error) {
	d := decoder{rest: body}
	rawA, rawB := d.sized(), d.sized()
	if err := d.end(); err != nil {
		return a, b, err
	}
	if a, err = bamboo.Parse(rawA); err == nil {
		b, err = bamboo.Parse(rawB)
	}
	if err != nil {
		return a, b, broken("proof of a fork: %v", err)
	}
	return a, b, nil
}

// Why a run does not come.
const (
	skipForked = iota
	skipUnprovable
	skipLimit // the path would not carry it
)

func encodeSkip(index, reason uint64) []byte {
	return binary.AppendUvarint(encodeNumber(kindSkip, index), reason)
}

func encodeNumber(k kind, n uint64) []byte { return binary.AppendUvarint([]byte{byte(k)}, n) }

func decodeNumber(body []byte) (uint64, error) {
	d := decoder{rest: body}
	n := d.number()
	return n, d.end()
}

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}
