package rendezvous

import (
	"encoding/binary"
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
	var key [len(keyEntries) + 8]byte
	return string(binary.BigEndian.AppendUint64(append(key[:0], keyEntries...), seq))
}

// Field numbers of a stored entry. Those of the envelopes and their seqs were
// written before envelopes were packed.
const (
	storedNS          = 1
	storedPeer        = 2
	storedExpires     = 3 // unix milliseconds
	storedTTL         = 4 // seconds
	storedPrimary     = 5
	storedRecord      = 6 // and 7, by flavour
	storedRecordSeq   = 8 // and 9
	storedPrefix      = 10
	storedPacked      = 11
	storedKinds       = 12
	cookieKeyBytes    = 40
	cookieSecretBytes = 32
)

// encodeChanges turns changes into those of the database. clock is the time
// since the registry's start at now.
func encodeChanges(changes []*change, now time.Time, clock time.Duration) map[string][]byte {
	out := make(map[string][]byte, 2*len(changes)+1)
	for _, c := range changes {
		for _, seq := range c.dead {
			out[storedKey(seq)] = nil
		}
		if c.put() {
			out[storedKey(c.seq)] = encodeEntry(c, now.Add(c.e.expires-clock))
		}
	}
	out[keySeq] = binary.BigEndian.AppendUint64(nil, changes[len(changes)-1].seq)
	return out
}

// encodeEntry is the registration a change put, which expires at a time of the
// wall clock.
func encodeEntry(c *change, expires time.Time) []byte {
	e := c.e
	return encodeClaim(claim{
		entryKey: e.key(), from: c.from, packed: e.packed, primary: e.primary, kinds: e.kinds, ttl: e.granted(),
	}, expires)
}

// encodeClaim is a claim as a registration that expires at a time of the wall clock.
func encodeClaim(c claim, expires time.Time) []byte {
	out := make([]byte, 0, 64+len(c.ns)+len(c.peer)+len(c.packed))
	out = appendString(out, storedNS, &c.ns)
	out = appendString(out, storedPeer, new(string(c.peer)))
	out = appendUint(out, storedExpires, new(uint64(max(expires.UnixMilli(), 0))))
	out = appendUint(out, storedTTL, new(uint64(c.ttl/time.Second)))
	out = appendUint(out, storedPrimary, new(uint64(c.primary)))
	out = appendBytes(out, storedPrefix, c.from[:])
	out = appendString(out, storedPacked, new(string(c.packed)))
	return appendUint(out, storedKinds, new(uint64(c.kinds)))
}

// storedEntry is a registration read from disk.
type storedEntry struct {
	claim
	seq uint64
	// left is how much of its ttl is left.
	left time.Duration
	// since is when it was made, by the wall clock of who made it.
	since time.Time
}

// decodeEntry reads a stored entry. What is left of it is at most its TTL: the
// wall clock may have been set back since it was written. Signatures are not
// verified again: nobody else writes the database, which checks its blocks.
func decodeEntry(key, value []byte, now time.Time) (storedEntry, error) {
	if len(key) != len(keyEntries)+8 {
		return storedEntry{}, errMalformed
	}
	e, err := decodeValue(value, now)
	e.seq = binary.BigEndian.Uint64(key[len(keyEntries):])
	return e, err
}

// decodeValue reads a stored entry but for its number.
func decodeValue(value []byte, now time.Time) (storedEntry, error) {
	var e storedEntry
	var ns, id, packedRecord *string
	var from []byte
	var records [2][]byte
	var expires, ttl, primary, kinds *uint64
	err := walk(value, func(num protowire.Number, typ protowire.Type, v []byte) (int, error) {
		switch num {
		case storedNS:
			return consumeString(typ, v, &ns)
		case storedPeer:
			return consumeRaw(typ, v, &id)
		case storedExpires:
			return consumeUint(typ, v, &expires)
		case storedTTL:
			return consumeUint(typ, v, &ttl)
		case storedPrimary:
			return consumeUint(typ, v, &primary)
		case storedRecord, storedRecord + 1:
			return consumeBytes(typ, v, &records[num-storedRecord])
		case storedPrefix:
			return consumeBytes(typ, v, &from)
		case storedPacked:
			return consumeRaw(typ, v, &packedRecord)
		case storedKinds:
			return consumeUint(typ, v, &kinds)
		default:
			return 0, nil
		}
	})
	if err != nil {
		return e, err
	}
	if ns == nil || id == nil || expires == nil || ttl == nil || *ttl > uint64(longestTTL/time.Second) || primary == nil {
		return e, errMalformed
	}
	e.ns, e.peer = *ns, peer.ID(*id)
	e.primary = Flavour(*primary & 1)
	copy(e.from[:], from)
	e.ttl = time.Duration(*ttl) * time.Second
	ends := time.UnixMilli(int64(*expires))
	e.left, e.since = min(ends.Sub(now), e.ttl), ends.Add(-e.ttl)
	if packedRecord == nil {
		e.packed, e.kinds = pack(e.peer, records), AddrPublic|AddrRelayed|AddrPrivate
	} else {
		e.packed, e.kinds = packed(*packedRecord), AddrKinds(*orEmpty(kinds))
	}
	if !e.packed.valid(e.peer) {
		return e, errMalformed
	}
	for f := range e.recordSeqs {
		e.recordSeqs[f] = e.packed.recordSeq(e.peer, Flavour(f))
	}
	return e, nil
}

// consumeRaw reads bytes that need not be text.
func consumeRaw(typ protowire.Type, value []byte, into **string) (int, error) {
	v, n := protowire.ConsumeBytes(value)
	if typ != protowire.BytesType || n < 0 {
		return 0, errMalformed
	}
	*into = new(string(v))
	return n, nil
}
