package rendezvous

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	keyEntries = "rendezvous/entry/" // then the seq, 8 bytes big endian
	keySeq     = "rendezvous/seq"
	keyCookie  = "rendezvous/cookie-key"
)

// restartGap is skipped in the sequence at each start. Numbers of writes that
// were seen by a DISCOVER but lost before they were durable are then not given
// out again, where an old cookie would hide them.
const restartGap = 1 << 32

func storedKey(seq uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte(keyEntries), seq))
}

// Field numbers of a stored entry.
const (
	storedNS          = 1
	storedPeer        = 2
	storedExpires     = 3 // unix milliseconds
	storedTTL         = 4 // seconds
	storedPrimary     = 5
	storedRecord      = 6 // and 7, by flavour
	storedRecordSeq   = 8 // and 9
	storedFlavours    = 2
	cookieKeyBytes    = 40
	cookieSecretBytes = 32
)

func encodeEntry(e *entry) []byte {
	out := appendString(nil, storedNS, &e.ns)
	out = appendString(out, storedPeer, ptr(string(e.peer)))
	out = appendUint(out, storedExpires, ptr(uint64(max(e.expires.UnixMilli(), 0))))
	out = appendUint(out, storedTTL, ptr(uint64(e.ttl/time.Second)))
	out = appendUint(out, storedPrimary, ptr(uint64(e.primary)))
	for i := range e.records {
		out = appendBytes(out, storedRecord+protowire.Number(i), e.records[i])
		out = appendUint(out, storedRecordSeq+protowire.Number(i), &e.recordSeqs[i])
	}
	return out
}

// decodeEntry reads a stored entry. Its expiry becomes one of now's clock, at
// most the TTL away: the wall clock may have been set back since it was
// written.
func decodeEntry(key, value []byte, now time.Time) (*entry, error) {
	if len(key) != len(keyEntries)+8 {
		return nil, errMalformed
	}
	e := &entry{seq: binary.BigEndian.Uint64(key[len(keyEntries):])}
	var ns *string
	var id []byte
	var expires, ttl, primary *uint64
	var seqs [storedFlavours]*uint64
	err := walk(value, func(num protowire.Number, typ protowire.Type, v []byte) (int, error) {
		switch num {
		case storedNS:
			return consumeString(typ, v, &ns)
		case storedPeer:
			return consumeBytes(typ, v, &id)
		case storedExpires:
			return consumeUint(typ, v, &expires)
		case storedTTL:
			return consumeUint(typ, v, &ttl)
		case storedPrimary:
			return consumeUint(typ, v, &primary)
		case storedRecord, storedRecord + 1:
			return consumeBytes(typ, v, &e.records[num-storedRecord])
		case storedRecordSeq, storedRecordSeq + 1:
			return consumeUint(typ, v, &seqs[num-storedRecordSeq])
		default:
			return 0, nil
		}
	})
	if err != nil {
		return nil, err
	}
	if ns == nil || id == nil || expires == nil || ttl == nil || primary == nil || seqs[0] == nil || seqs[1] == nil {
		return nil, errMalformed
	}
	e.ns, e.peer = *ns, peer.ID(id)
	e.primary = Flavour(*primary & 1)
	e.recordSeqs = [2]uint64{*seqs[0], *seqs[1]}
	e.ttl = time.Duration(*ttl) * time.Second
	e.expires = now.Add(min(time.UnixMilli(int64(*expires)).Sub(now), e.ttl))
	return e, nil
}

// load reads what a journal left: it fills reg with what is still alive and
// returns the cookie key and the changes that bring the database up to date.
func load(db DB, reg *registry, now time.Time) (key cookieKey, changes map[string][]byte, err error) {
	changes = make(map[string][]byte)
	err = db.Scan([]byte(keyEntries), func(k, value []byte) error {
		e, err := decodeEntry(k, value, now)
		if err != nil {
			return fmt.Errorf("entry %x: %w", k[len(keyEntries):], err)
		}
		reg.seq = max(reg.seq, e.seq)
		if !e.expires.After(now) {
			changes[string(k)] = nil
			return nil
		}
		if replaced := reg.restore(e); replaced != nil {
			changes[storedKey(replaced.seq)] = nil
		}
		return nil
	})
	if err != nil {
		return key, nil, fmt.Errorf("load registrations: %w", err)
	}
	if key, err = loadMeta(db, reg, changes); err != nil {
		return key, nil, fmt.Errorf("load registrations: %w", err)
	}
	reg.seq += restartGap
	changes[keySeq] = binary.BigEndian.AppendUint64(nil, reg.seq)
	return key, changes, nil
}

func loadMeta(db DB, reg *registry, changes map[string][]byte) (cookieKey, error) {
	var seq, stored []byte
	err := errors.Join(
		db.Scan([]byte(keySeq), func(_, v []byte) error { seq = append([]byte{}, v...); return nil }),
		db.Scan([]byte(keyCookie), func(_, v []byte) error { stored = append([]byte{}, v...); return nil }),
	)
	switch {
	case err != nil:
		return cookieKey{}, err
	case seq != nil && len(seq) != 8, stored != nil && len(stored) != cookieKeyBytes:
		return cookieKey{}, errMalformed
	}
	if seq != nil {
		reg.seq = max(reg.seq, binary.BigEndian.Uint64(seq))
	}
	key := newCookieKey()
	if stored != nil {
		copy(key.secret[:], stored)
		copy(key.epoch[:], stored[cookieSecretBytes:])
		return key, nil
	}
	changes[keyCookie] = append(append([]byte{}, key.secret[:]...), key.epoch[:]...)
	return key, nil
}
