package rendezvous

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"time"
)

// loadBatch is how many stored entries are decoded at a time.
const loadBatch = 2048

// rawBatch is stored entries as a scan gave them, in one buffer.
type rawBatch struct {
	data []byte
	// ends are the ends of key and value of each.
	ends [][2]int
}

func (b *rawBatch) add(key, value []byte) {
	b.data = append(append(b.data, key...), value...)
	end := len(b.data)
	b.ends = append(b.ends, [2]int{end - len(value), end})
}

// decoded is a batch after decoding.
type decoded struct {
	entries []storedEntry
	err     error
}

func (b *rawBatch) decode(now time.Time) (out decoded) {
	out.entries = make([]storedEntry, 0, len(b.ends))
	start := 0
	for _, end := range b.ends {
		key, value := b.data[start:end[0]], b.data[end[0]:end[1]]
		start = end[1]
		e, err := decodeEntry(key, value, now)
		if err != nil {
			out.err = fmt.Errorf("entry %x: %w", key[len(keyEntries):], err)
			return out
		}
		out.entries = append(out.entries, e)
	}
	return out
}

// scanEntries decodes the stored entries on all processors, and gives them to
// apply one after the other in their order.
func scanEntries(db DB, now time.Time, apply func(storedEntry)) error {
	// Each batch under way has a channel for its result; the order of the
	// channels is that of the batches.
	results := make(chan chan decoded, runtime.GOMAXPROCS(0)+1)
	applied := make(chan error, 1)
	go func() {
		var err error
		for result := range results {
			batch := <-result
			err = errors.Join(err, batch.err)
			for _, e := range batch.entries {
				apply(e)
			}
		}
		applied <- err
	}()
	batch := new(rawBatch)
	send := func() {
		result, full := make(chan decoded, 1), batch
		results <- result
		go func() { result <- full.decode(now) }()
		batch = new(rawBatch)
	}
	err := db.Scan([]byte(keyEntries), func(key, value []byte) error {
		batch.add(key, value)
		if len(batch.ends) == loadBatch {
			send()
		}
		return nil
	})
	send()
	close(results)
	return errors.Join(err, <-applied)
}

// load reads what a journal left: it fills reg, which began at now, with what is
// still alive and returns the cookie key and the changes that bring the database
// up to date.
func load(db DB, reg *registry, now time.Time) (key cookieKey, changes map[string][]byte, err error) {
	changes = make(map[string][]byte)
	var last uint64
	err = scanEntries(db, now, func(e storedEntry) {
		last = max(last, e.seq)
		if e.left <= 0 || reg.limits.Load().CircuitsOnly && e.kinds != AddrRelayed {
			changes[storedKey(e.seq)] = nil
			return
		}
		if replaced := reg.restore(e.claim, e.seq, reg.clock(now)+e.left); replaced != 0 {
			changes[storedKey(replaced)] = nil
		}
	})
	if err != nil {
		return key, nil, fmt.Errorf("load registrations: %w", err)
	}
	reg.seq = max(reg.seq, last)
	if key, err = loadMeta(db, reg, changes); err != nil {
		return key, nil, fmt.Errorf("load registrations: %w", err)
	}
	reg.seq += restartGap
	reg.visible.Store(reg.seq)
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
