package bamboo

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
)

// ErrEntry is returned for bytes that are not an entry.
var ErrEntry = errors.New("malformed entry")

// MaxEntrySize is the length in bytes that no entry exceeds.
const MaxEntrySize = 1 + 32 + 9 + 9 + HashSize + HashSize + 9 + HashSize + ed25519.SignatureSize

// Author is the Ed25519 public key whose owner writes a log.
type Author [ed25519.PublicKeySize]byte

// String returns the key in 64 hexadecimal digits.
func (a Author) String() string { return hex.EncodeToString(a[:]) }

// ParseAuthor reads what [Author.String] returns.
func ParseAuthor(text string) (Author, error) {
	data, err := hex.DecodeString(text)
	if err != nil || len(data) != len(Author{}) {
		return Author{}, fmt.Errorf("author %q: want %d hexadecimal digits", text, 2*len(Author{}))
	}
	return Author(data), nil
}

// Entry is what one entry of a log says.
type Entry struct {
	// End says that the log ends with this entry. p2panda never writes it.
	End    bool
	Author Author
	// Log tells the logs of an author apart.
	Log uint64
	// Seq is the entry's number in its log, from 1.
	Seq uint64
	// Skiplink is the id of the entry [Lipmaa](Seq); zero where that is the one before, or none.
	Skiplink Hash
	// Backlink is the id of the entry before; zero in the first.
	Backlink Hash
	// PayloadSize is the payload's length in bytes.
	PayloadSize uint64
	PayloadHash Hash
	// Signature is the author's over all before it.
	Signature [ed25519.SignatureSize]byte
}

// HasSkiplink says whether entry seq of a log names a second entry besides the one before it.
func HasSkiplink(seq uint64) bool { return seq > 1 && Lipmaa(seq) != seq-1 }

// Append appends the entry as it is written. It does not check it.
func (e *Entry) Append(dst []byte) []byte {
	return append(e.appendUnsigned(dst), e.Signature[:]...)
}

func (e *Entry) appendUnsigned(dst []byte) []byte {
	var tag byte
	if e.End {
		tag = 1
	}
	dst = append(dst, tag)
	dst = append(dst, e.Author[:]...)
	dst = AppendVaru64(dst, e.Log)
	dst = AppendVaru64(dst, e.Seq)
	if HasSkiplink(e.Seq) {
		dst = e.Skiplink.Append(dst)
	}
	if e.Seq > 1 {
		dst = e.Backlink.Append(dst)
	}
	dst = AppendVaru64(dst, e.PayloadSize)
	return e.PayloadHash.Append(dst)
}

// Decode reads an entry, whole and nothing after it. The signature, the links and the payload are not checked.
func Decode(data []byte) (Entry, error) {
	e, err := decode(data)
	if err != nil {
		return Entry{}, fmt.Errorf("%w: %w", ErrEntry, err)
	}
	return e, nil
}

func decode(data []byte) (e Entry, err error) {
	if len(data) < 1+len(e.Author) {
		return e, fmt.Errorf("cut off after %d bytes", len(data))
	}
	if data[0] > 1 {
		return e, fmt.Errorf("unknown tag %d", data[0])
	}
	e.End = data[0] == 1
	rest := data[1+copy(e.Author[:], data[1:]):]
	if e.Log, rest, err = ReadVaru64(rest); err != nil {
		return e, fmt.Errorf("log: %w", err)
	}
	if e.Seq, rest, err = ReadVaru64(rest); err != nil {
		return e, fmt.Errorf("sequence number: %w", err)
	}
	if rest, err = e.decodeLinks(rest); err != nil {
		return e, err
	}
	if e.PayloadSize, rest, err = ReadVaru64(rest); err != nil {
		return e, fmt.Errorf("payload size: %w", err)
	}
	if e.PayloadHash, rest, err = readHash(rest); err != nil {
		return e, fmt.Errorf("payload: %w", err)
	}
	if len(rest) != len(e.Signature) {
		return e, fmt.Errorf("signature of %d bytes, want %d", len(rest), len(e.Signature))
	}
	copy(e.Signature[:], rest)
	return e, nil
}

func (e *Entry) decodeLinks(rest []byte) (_ []byte, err error) {
	if e.Seq == 0 {
		return nil, errors.New("sequence number 0")
	}
	if HasSkiplink(e.Seq) {
		if e.Skiplink, rest, err = readHash(rest); err != nil {
			return nil, fmt.Errorf("skiplink: %w", err)
		}
	}
	if e.Seq > 1 {
		if e.Backlink, rest, err = readHash(rest); err != nil {
			return nil, fmt.Errorf("backlink: %w", err)
		}
		if e.Backlink == e.Skiplink {
			return nil, errors.New("backlink and skiplink are the same")
		}
	}
	return rest, nil
}
