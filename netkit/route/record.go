package route

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"dibber/netkit/addr"
	"dibber/netkit/wire"

	"github.com/ipfs/boxo/ipns"
	libp2precord "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	"google.golang.org/protobuf/encoding/protowire"
)

// Namespace is where records of dibber's own kind stand: their keys are /dibber/AUTHOR/NAME.
const Namespace = "dibber"

const (
	// MaxName is the length in bytes of the longest name of a record.
	MaxName = 128
	// recordDomain separates signatures of records from all others of the same key.
	recordDomain = "dibber-dht-record"
	recordCodec  = "/dibber/dht-record"
)

// Why a key or a record is refused.
var (
	// ErrKey means that a key is malformed, or in a namespace that the network does not take.
	ErrKey = errors.New("bad record key")
	// ErrRecord means that a record is not valid for its key: forged, of another author, expired or too long.
	ErrRecord = errors.New("invalid record")
)

// Record is a value signed by its author, under a name that is the author's own. Its bytes are a signed envelope (libp2p
// RFC 0002) of the domain dibber-dht-record and the type /dibber/dht-record, whose payload is a protobuf message: key = 1,
// seq = 2, expires in Unix seconds = 3, value = 4. Of several records of one key that with the highest seq counts, of
// those the one that expires last.
type Record struct {
	Author  peer.ID // of whoever signed; Seal and Open fill it in
	Name    string  // 1 to MaxName bytes of UTF-8 without control characters
	Seq     uint64
	Expires time.Time // in whole seconds
	Value   []byte
}

// RecordKey is the key of an author's record.
func RecordKey(author peer.ID, name string) string {
	return "/" + Namespace + "/" + author.String() + "/" + name
}

// SplitRecordKey takes the key of a record of dibber's own kind apart. Errors wrap ErrKey.
func SplitRecordKey(key string) (author peer.ID, name string, err error) {
	rest, ok := strings.CutPrefix(key, "/"+Namespace+"/")
	id, name, found := strings.Cut(rest, "/")
	if !ok || !found {
		return "", "", fmt.Errorf("%w: %.200q is not /%s/AUTHOR/NAME", ErrKey, key, Namespace)
	}
	if author, err = addr.ParseID(id); err != nil {
		return "", "", fmt.Errorf("%w: author: %w", ErrKey, err)
	}
	if author.String() != id {
		return "", "", fmt.Errorf("%w: the author %.80q is to be written %s", ErrKey, id, author)
	}
	return author, name, CheckName(name)
}

// CheckName finds what is wrong with a record's name. Errors wrap ErrKey.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: the name is empty", ErrKey)
	case len(name) > MaxName:
		return fmt.Errorf("%w: a name of %d bytes is longer than %d", ErrKey, len(name), MaxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%w: the name is no plain text", ErrKey)
	}
	return nil
}

// payload is what of a Record is signed.
type payload struct {
	key     string
	seq     uint64
	expires uint64
	value   []byte
}

// Domain implements record.Record.
func (*payload) Domain() string { return recordDomain }

// Codec implements record.Record.
func (*payload) Codec() []byte { return []byte(recordCodec) }

// MarshalRecord implements record.Record.
func (p *payload) MarshalRecord() ([]byte, error) {
	var b []byte
	b = protowire.AppendString(protowire.AppendTag(b, 1, protowire.BytesType), p.key)
	b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.VarintType), p.seq)
	b = protowire.AppendVarint(protowire.AppendTag(b, 3, protowire.VarintType), p.expires)
	return protowire.AppendBytes(protowire.AppendTag(b, 4, protowire.BytesType), p.value), nil
}

// UnmarshalRecord implements record.Record.
func (p *payload) UnmarshalRecord(b []byte) error {
	*p = payload{}
	return wire.Fields(b, func(f wire.Field) error {
		switch {
		case f.Type == protowire.BytesType && f.Num == 1:
			p.key = string(f.Bytes)
		case f.Type == protowire.BytesType && f.Num == 4:
			p.value = bytes.Clone(f.Bytes)
		case f.Type == protowire.VarintType && f.Num == 2:
			p.seq = f.Number
		case f.Type == protowire.VarintType && f.Num == 3:
			p.expires = f.Number
		}
		return nil
	})
}

// Seal signs a record, whose author is the owner of the key, and returns its key and bytes.
func (r Record) Seal(key crypto.PrivKey) (at string, signed []byte, err error) {
	author, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return "", nil, fmt.Errorf("author of a record: %w", err)
	}
	if err := CheckName(r.Name); err != nil {
		return "", nil, err
	}
	at = RecordKey(author, r.Name)
	e, err := record.Seal(&payload{at, r.Seq, uint64(max(0, r.Expires.Unix())), r.Value}, key)
	if err != nil {
		return "", nil, fmt.Errorf("sign record: %w", err)
	}
	signed, err = e.Marshal()
	return at, signed, err
}

// OpenRecord reads a record and checks that its author is the one of the key, and signed it. Errors wrap ErrKey or
// ErrRecord.
func OpenRecord(key string, signed []byte) (Record, error) {
	author, name, err := SplitRecordKey(key)
	if err != nil {
		return Record{}, err
	}
	var p payload
	e, err := record.ConsumeTypedEnvelope(signed, &p)
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	signer, err := peer.IDFromPublicKey(e.PublicKey)
	switch {
	case err != nil:
		return Record{}, fmt.Errorf("%w: %w", ErrRecord, err)
	case signer != author:
		return Record{}, fmt.Errorf("%w: signed by %s, not by the author %s", ErrRecord, signer, author)
	case p.key != key:
		return Record{}, fmt.Errorf("%w: signed for the key %.200q", ErrRecord, p.key)
	case p.expires > maxExpires:
		return Record{}, fmt.Errorf("%w: expires after the year 9999", ErrRecord)
	}
	return Record{Author: author, Name: name, Seq: p.seq, Expires: time.Unix(int64(p.expires), 0), Value: p.value}, nil
}

// maxExpires is the end of the year 9999 in Unix seconds, the last that RFC 3339 can write.
const maxExpires = 253402300799

// signedValidator holds the rule of Record (go-libp2p-record).
type signedValidator struct {
	most int // bytes
}

// Validate implements record.Validator.
func (v signedValidator) Validate(key string, value []byte) error {
	if len(value) > v.most {
		return fmt.Errorf("%w: %d bytes are more than %d", ErrRecord, len(value), v.most)
	}
	r, err := OpenRecord(key, value)
	if err != nil {
		return err
	}
	if now := time.Now(); now.After(r.Expires) {
		return fmt.Errorf("%w: it expired %s ago", ErrRecord, now.Sub(r.Expires).Round(time.Second))
	}
	return nil
}

// Select implements record.Validator.
func (v signedValidator) Select(key string, values [][]byte) (int, error) {
	best, chosen := Record{}, -1
	for i, value := range values {
		r, err := OpenRecord(key, value)
		if err != nil {
			continue
		}
		if chosen < 0 || r.Seq > best.Seq || r.Seq == best.Seq && r.Expires.After(best.Expires) {
			best, chosen = r, i
		}
	}
	if chosen < 0 {
		return 0, fmt.Errorf("%w: none of %d", ErrRecord, len(values))
	}
	return chosen, nil
}

// limited refuses records that are too long before anything of them is read.
type limited struct {
	libp2precord.Validator
	most int // bytes
}

// Validate implements record.Validator.
func (v limited) Validate(key string, value []byte) error {
	if len(value) > v.most {
		return fmt.Errorf("%w: %d bytes are more than %d", ErrRecord, len(value), v.most)
	}
	return v.Validator.Validate(key, value)
}

// validators are those of an own network: its own kind of records, and those of the public network.
func (s *Service) validators() libp2precord.NamespacedValidator {
	most := s.cfg.Limits.RecordBytes
	return libp2precord.NamespacedValidator{
		Namespace: signedValidator{most},
		"pk":      limited{libp2precord.PublicKeyValidator{}, most},
		"ipns":    limited{ipns.Validator{KeyBook: s.n.Peerstore()}, most},
	}
}
