package logstore

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	"dibber/netkit/bamboo"
)

// ErrExists is returned for the name of a log that there is.
var ErrExists = errors.New("there is a log of that name")

// CreateLog makes a new, empty log of one's own. Its number is one that this author has used neither here nor, by the guard, before.
func (s *Store) CreateLog(author bamboo.Author, name string) (Head, error) {
	var out Head
	err := s.do(func(w *work) error {
		if s.guard.missing {
			return &GuardError{Missing: true}
		}
		next := uint64(0)
		used := func(k logKey) {
			if k.author() == author {
				next = max(next, k.log()+1)
			}
		}
		see := func(h *Head) error {
			used(h.key())
			if h.Author == author && h.Mine && h.Name == name {
				return fmt.Errorf("%w: %q", ErrExists, name)
			}
			return nil
		}
		if err := w.base.headsOf(author[:], func(h Head) error { return see(&h) }); err != nil {
			return err
		}
		for _, c := range w.heads {
			if err := see(&c.now); err != nil {
				return err
			}
		}
		for k := range s.guard.heads {
			used(k)
		}
		h, err := w.head(keyOf(author, next))
		if err != nil {
			return err
		}
		h.Name, h.Mine = name, true
		out = *h
		return nil
	})
	return out, err
}

// NameLog makes a log that is in the store one of one's own, as when it was fetched back from peers.
func (s *Store) NameLog(author bamboo.Author, log uint64, name string) error {
	return s.do(func(w *work) error {
		if _, err := w.base.Head(author, log); err != nil {
			return err
		}
		h, err := w.head(keyOf(author, log))
		if err != nil {
			return err
		}
		h.Name, h.Mine = name, true
		return nil
	})
}

// Append signs one entry for each payload and adds them to a log of the key's author, all or none. It returns when they, and the
// guard's word that they are out, are on disk. The error is a [GuardError] when the log was published beyond what the store holds.
func (s *Store) Append(key ed25519.PrivateKey, log uint64, payloads ...Payload) ([]Record, error) {
	k := keyOf(bamboo.Author(key[ed25519.SeedSize:]), log)
	var out []Record
	err := s.doMany(len(payloads), func(w *work) error {
		h, err := w.head(k)
		if err != nil {
			return err
		}
		if err := w.mayExtend(h); err != nil {
			return err
		}
		out, err = w.sign(key, h, payloads)
		if err != nil {
			return err
		}
		for i := range out {
			w.add(h, &out[i])
		}
		if len(out) > 0 {
			if w.own == nil {
				w.own = make(map[logKey]struct{})
			}
			w.own[k] = struct{}{}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// sign makes the entries that follow the head of a log.
func (w *work) sign(key ed25519.PrivateKey, h *Head, payloads []Payload) ([]Record, error) {
	k, now := h.key(), uint64(w.store.now().UnixMilli())
	out := make([]Record, 0, len(payloads))
	ids := make(map[uint64]bamboo.Hash) // of what is signed here
	previous := bamboo.Signed{Entry: bamboo.Entry{Author: h.Author, Log: h.Log, Seq: h.Height}, ID: h.ID}
	for _, p := range payloads {
		seq := previous.Seq + 1
		var skip bamboo.Hash
		if bamboo.HasSkiplink(seq) {
			var err error
			var here bool
			if skip, here = ids[bamboo.Lipmaa(seq)]; !here {
				if skip, err = w.id(k.at(bamboo.Lipmaa(seq))); err != nil {
					return nil, err
				}
			}
		}
		if p.Size > InlineMax && !w.store.hasFile(p.Hash, p.Size) {
			return nil, ErrPayloadMissing
		}
		before := &previous
		if seq == 1 {
			before = nil
		}
		signed, err := bamboo.SignHash(key, h.Log, before, skip, p.Size, p.Hash)
		if err != nil {
			return nil, err
		}
		out = append(out, Record{Signed: signed, Time: now, Payload: p.Inline})
		ids[seq], previous = signed.ID, signed
	}
	return out, nil
}

// mayExtend refuses what could give one number two entries.
func (w *work) mayExtend(h *Head) error {
	g := w.store.guard
	switch out := g.heads[h.key()]; {
	case g.missing:
		return &GuardError{Missing: true}
	case h.Fork > 0:
		return fmt.Errorf("log %d: %w", h.Log, ErrForked)
	case h.Ended:
		return fmt.Errorf("log %d: %w", h.Log, ErrEnded)
	case out.seq > h.Height:
		return &GuardError{Author: h.Author, Log: h.Log, Published: out.seq, Held: h.Height}
	case out.seq > 0:
		if id, err := w.id(h.key().at(out.seq)); err != nil || id != out.id {
			return errors.Join(&GuardError{Author: h.Author, Log: h.Log, Published: out.seq, Held: h.Height}, err)
		}
	}
	return nil
}

// Guarded returns the error that [Store.Append] would return for some log, nil if the guard has no objection to any.
func (s *Store) Guarded() error {
	return s.do(func(w *work) error { return s.behind(w) })
}

func (s *Store) behind(w *work) error {
	if s.guard.missing {
		return &GuardError{Missing: true}
	}
	return s.reached(w)
}

// reached returns an error unless the store holds every entry that the guard says is out.
func (s *Store) reached(w *work) error {
	for k, out := range s.guard.heads {
		if id, err := w.id(k.at(out.seq)); errors.Is(err, ErrNotFound) || err == nil && id != out.id {
			h, err := w.base.head(k)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			return &GuardError{Author: k.author(), Log: k.log(), Published: out.seq, Held: h.Height}
		} else if err != nil {
			return err
		}
	}
	return nil
}

// Recover makes the guard go by the store as it is: whoever calls it has fetched the logs of one's own from everybody who may hold
// more of them. Where the guard knows of entries that the store still lacks it returns a [GuardError] and changes nothing.
func (s *Store) Recover() error {
	return s.do(func(w *work) error {
		if err := s.reached(w); err != nil {
			return err
		}
		err := w.base.Heads(func(h Head) error {
			if h.Mine && h.Height > 0 {
				s.guard.raise(&h)
			}
			return nil
		})
		if err != nil {
			return err
		}
		s.guard.epoch, s.guard.mark = w.base.state.epoch, w.base.state.arrivals
		return s.guard.save()
	})
}
