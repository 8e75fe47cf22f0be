package bamboo

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519/extra/cache"
)

// ErrSignature is what a [SignatureError] wraps.
var ErrSignature = errors.New("signature does not verify")

// ErrPayload is returned for a payload that is not the one an entry names.
var ErrPayload = errors.New("payload is not what the entry names")

// Signed is an entry with the bytes it was written in.
type Signed struct {
	Entry
	// Raw is the entry as it is written.
	Raw []byte
	// ID is the hash of Raw.
	ID Hash
}

// Parse decodes an entry, as [Decode] does, and keeps its bytes, which must not be changed any more.
func Parse(raw []byte) (Signed, error) {
	e, err := Decode(raw)
	if err != nil {
		return Signed{}, err
	}
	return Signed{Entry: e, Raw: raw, ID: HashOf(raw)}, nil
}

// Sign makes the entry that follows previous in its log, nil for the first of log. skip is the id of entry [Lipmaa] of its number;
// it is used only where there is a skiplink.
func Sign(key ed25519.PrivateKey, log uint64, previous *Signed, skip Hash, payload []byte) (Signed, error) {
	return SignHash(key, log, previous, skip, uint64(len(payload)), HashOf(payload))
}

// SignHash is [Sign] for a payload of which only the size and the hash are at hand.
func SignHash(key ed25519.PrivateKey, log uint64, previous *Signed, skip Hash, size uint64, hash Hash) (Signed, error) {
	e := Entry{Author: Author(key[ed25519.SeedSize:]), Log: log, Seq: 1, PayloadSize: size, PayloadHash: hash}
	if previous != nil {
		if previous.Author != e.Author || previous.Log != log || previous.End {
			return Signed{}, fmt.Errorf("sign entry of log %d: what comes before is entry %d of log %d by %s, end %t",
				log, previous.Seq, previous.Log, previous.Author, previous.End)
		}
		e.Seq, e.Backlink = previous.Seq+1, previous.ID
		if HasSkiplink(e.Seq) {
			e.Skiplink = skip
		}
	}
	raw := e.appendUnsigned(make([]byte, 0, MaxEntrySize))
	copy(e.Signature[:], ed25519.Sign(key, raw))
	raw = append(raw, e.Signature[:]...)
	return Signed{Entry: e, Raw: raw, ID: HashOf(raw)}, nil
}

// CheckPayload returns [ErrPayload] unless payload is what the entry names.
func (e *Entry) CheckPayload(payload []byte) error {
	if uint64(len(payload)) != e.PayloadSize || HashOf(payload) != e.PayloadHash {
		return fmt.Errorf("entry %d: %w", e.Seq, ErrPayload)
	}
	return nil
}

// Verify checks the signature of one entry, and nothing else.
func (s *Signed) Verify() error {
	if !voi.VerifyWithOptions(s.Author[:], s.message(), s.Signature[:], rules()) {
		return &SignatureError{Entries: []int{0}}
	}
	return nil
}

// message is what the signature is over.
func (s *Signed) message() []byte { return s.Raw[:len(s.Raw)-len(s.Signature)] }

// rules are those that one signature and a batch of them are judged by.
func rules() *voi.Options { return &voi.Options{Verify: voi.VerifyOptionsZIP_215} }

// SignatureError says which of the entries that were checked have a signature that does not verify. It wraps [ErrSignature].
type SignatureError struct {
	// Entries are indices into what was checked.
	Entries []int
}

func (e *SignatureError) Error() string {
	return fmt.Sprintf("entries %v: %v", e.Entries, ErrSignature)
}

// Unwrap returns [ErrSignature].
func (e *SignatureError) Unwrap() error { return ErrSignature }

// Batch is how many signatures [VerifySignatures] checks at once: beyond, it gets no faster.
const Batch = 1024

// VerifySignatures checks the signatures of entries, of whichever logs, many at once. It accepts exactly what [Signed.Verify]
// accepts of each, and names those it does not in a [SignatureError].
func VerifySignatures(entries []Signed) error {
	// Most entries of a batch are by few authors, whose keys are then unpacked only once.
	keys := cache.NewVerifier(cache.NewLRUCache(64))
	var bad []int
	for start := 0; start < len(entries); start += Batch {
		part := entries[start:min(start+Batch, len(entries))]
		batch := voi.NewBatchVerifierWithCapacity(len(part))
		for i := range part {
			keys.AddWithOptions(batch, part[i].Author[:], part[i].message(), part[i].Signature[:], rules())
		}
		all, each := batch.Verify(nil)
		if all {
			continue
		}
		for i, ok := range each {
			if !ok {
				bad = append(bad, start+i)
			}
		}
	}
	if len(bad) > 0 {
		return &SignatureError{Entries: bad}
	}
	return nil
}

// LinkError says that an entry does not follow what is before it in its log.
type LinkError struct {
	Author Author
	Log    uint64
	Seq    uint64
	// Reason says what is wrong.
	Reason string
}

func (e *LinkError) Error() string {
	return fmt.Sprintf("entry %d of log %d by %s: %s", e.Seq, e.Log, e.Author, e.Reason)
}

// VerifyRun proves a run of one log, numbers rising by one: every link is compared with the id of the entry it leads to, and the
// signature of the last entry is checked. Since ids cover signatures and links cover ids, that one signature is the author's word
// for every byte before it. Signatures further up are not checked; one that does not verify is then the author's own fault.
// [VerifySignatures] checks them all.
//
// held returns the ids of entries before the run, as far as they are known. The error is a [LinkError] or a [SignatureError].
func VerifyRun(run []Signed, held func(seq uint64) (Hash, bool)) error {
	if len(run) == 0 {
		return nil
	}
	first := &run[0].Entry
	id := func(seq uint64) (Hash, bool) {
		if seq >= first.Seq {
			return run[seq-first.Seq].ID, true
		}
		return held(seq)
	}
	for i := range run {
		if reason := follows(&run[i].Entry, first, uint64(i), id); reason != "" {
			return &LinkError{Author: run[i].Author, Log: run[i].Log, Seq: run[i].Seq, Reason: reason}
		}
		if run[i].End && i < len(run)-1 {
			return &LinkError{Author: run[i].Author, Log: run[i].Log, Seq: run[i].Seq + 1, Reason: "the log has ended"}
		}
	}
	last := len(run) - 1
	if run[last].Verify() != nil {
		return &SignatureError{Entries: []int{last}}
	}
	return nil
}

// follows returns what is wrong with entry e, which stands i entries after first, or "".
func follows(e, first *Entry, i uint64, id func(seq uint64) (Hash, bool)) string {
	switch {
	case e.Log != first.Log || e.Author != first.Author:
		return "it is of another log"
	case e.Seq != first.Seq+i:
		return fmt.Sprintf("it stands where entry %d is expected", first.Seq+i)
	case e.Seq > 1 && !leads(e.Backlink, e.Seq-1, id):
		return "its backlink does not lead to the entry before"
	case HasSkiplink(e.Seq) && !leads(e.Skiplink, Lipmaa(e.Seq), id):
		return fmt.Sprintf("its skiplink does not lead to entry %d", Lipmaa(e.Seq))
	}
	return ""
}

func leads(link Hash, seq uint64, id func(seq uint64) (Hash, bool)) bool {
	want, ok := id(seq)
	return ok && want == link
}
