package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"lukechampine.com/blake3/guts"

	"dibber/netkit/bamboo"
)

// pieceSize is how much of a file is written at once.
const pieceSize = 256 << 10

// slice reads the rest of a payload from some group on, encoded as a slice (https://github.com/oconnor663/bao/blob/master/docs/spec.md),
// and writes what was verified, in pieces. The library's decoder copies more often, writes each group by itself and throws the tree
// away, which then takes another reading of the file.
type slice struct {
	src  io.Reader
	from uint64    // a multiple of groupSize
	tree io.Writer // gets the tree if from is zero; nil for nobody
	f    io.WriterAt
	at   int64 // where the piece goes

	piece  []byte
	filled int
	nodes  []byte // of the tree, to be written
}

// read reads up to the end of a payload. What was verified before an error is written.
func (s *slice) read(root bamboo.Hash, size uint64) error {
	var announced [8]byte
	if err := s.full(announced[:]); err != nil {
		return err
	}
	if n := binary.LittleEndian.Uint64(announced[:]); n != size {
		return fmt.Errorf("%w: %d bytes announced", bamboo.ErrPayload, n)
	}
	err := s.grow(announced[:])
	if err == nil {
		err = s.node(words(root[:]), 0, size, guts.FlagRoot)
	}
	return errors.Join(err, s.flush(), s.flushTree())
}

// full reads p. The source must not end there.
func (s *slice) full(p []byte) error {
	_, err := io.ReadFull(s.src, p)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// node reads what is below one node of the tree, which covers size bytes from pos on.
func (s *slice) node(want [8]uint32, pos, size uint64, flags uint32) error {
	if pos+size <= s.from {
		return nil
	}
	if size <= groupSize {
		return s.group(want, pos, int(size), flags)
	}
	var pair [64]byte
	if err := s.full(pair[:]); err != nil {
		return err
	}
	left, right := words(pair[:32]), words(pair[32:])
	if guts.ChainingValue(guts.ParentNode(left, right, &guts.IV, flags)) != want {
		return bamboo.ErrPayload
	}
	if err := s.grow(pair[:]); err != nil {
		return err
	}
	mid := half(size)
	if err := s.node(left, pos, mid, 0); err != nil {
		return err
	}
	return s.node(right, pos+mid, size-mid, 0)
}

func (s *slice) group(want [8]uint32, pos uint64, size int, flags uint32) error {
	if s.filled+groupSize > len(s.piece) {
		if err := s.flush(); err != nil {
			return err
		}
	}
	room := (*[groupSize]byte)(s.piece[s.filled:])
	if err := s.full(room[:size]); err != nil {
		return err
	}
	n := guts.CompressBuffer(room, size, &guts.IV, pos/guts.ChunkSize, 0)
	n.Flags |= flags
	if guts.ChainingValue(n) != want {
		return bamboo.ErrPayload
	}
	s.filled += size
	return nil
}

// flush writes the piece.
func (s *slice) flush() error {
	n, err := s.f.WriteAt(s.piece[:s.filled], s.at)
	s.at, s.filled = s.at+int64(n), 0
	return err
}

// grow adds to the tree.
func (s *slice) grow(nodes []byte) error {
	if s.tree == nil {
		return nil
	}
	if s.nodes = append(s.nodes, nodes...); len(s.nodes) < groupSize {
		return nil
	}
	return s.flushTree()
}

func (s *slice) flushTree() error {
	if s.tree == nil {
		return nil
	}
	_, err := s.tree.Write(s.nodes)
	s.nodes = s.nodes[:0]
	return err
}

// words reads a hash as the numbers that it is computed in.
func words(b []byte) (cv [8]uint32) {
	for i := range cv {
		cv[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return cv
}

// short is a payload in memory and its tree, in the order in which it is sent.
type short struct {
	piece *[pieceSize]byte
	data  []byte // in the piece
	nodes []byte
}

// plant makes the tree of the first size bytes of a piece.
func plant(piece *[pieceSize]byte, size int) (*short, bamboo.Hash) {
	s := &short{piece: piece, data: piece[:size]}
	root := s.plant(0, size, guts.FlagRoot)
	var hash bamboo.Hash
	putWords(hash[:], &root)
	return s, hash
}

func (s *short) plant(pos, size int, flags uint32) [8]uint32 {
	if size <= groupSize {
		n := guts.CompressBuffer((*[groupSize]byte)(s.piece[pos:]), size, &guts.IV, uint64(pos/guts.ChunkSize), 0)
		n.Flags |= flags
		return guts.ChainingValue(n)
	}
	at, mid := len(s.nodes), half(size)
	s.nodes = append(s.nodes, make([]byte, 64)...)
	left, right := s.plant(pos, mid, 0), s.plant(pos+mid, size-mid, 0)
	putWords(s.nodes[at:], &left)
	putWords(s.nodes[at+32:], &right)
	return guts.ChainingValue(guts.ParentNode(left, right, &guts.IV, flags))
}

// half is how much of size bytes is below the left one of two nodes.
func half[N int | uint64](size N) N { return 1 << (bits.Len64(uint64(size)-1) - 1) }

// send writes the slice from some group on.
func (s *short) send(w io.Writer, from uint64) error {
	if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(s.data)))); err != nil {
		return err
	}
	nodes := s.nodes
	var node func(pos, size int) error
	node = func(pos, size int) error {
		within := pos+size > int(from)
		if size <= groupSize {
			if !within {
				return nil
			}
			_, err := w.Write(s.data[pos : pos+size])
			return err
		}
		pair := nodes[:64]
		nodes = nodes[64:]
		if within {
			if _, err := w.Write(pair); err != nil {
				return err
			}
		}
		if err := node(pos, half(size)); err != nil {
			return err
		}
		return node(pos+half(size), size-half(size))
	}
	return node(0, len(s.data))
}

func putWords(dst []byte, cv *[8]uint32) {
	for i, w := range cv {
		binary.LittleEndian.PutUint32(dst[4*i:], w)
	}
}
