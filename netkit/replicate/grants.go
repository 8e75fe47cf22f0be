package replicate

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"strings"
	"sync"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
)

// A namespace is known by an author's key. Whoever has it grants other authors leave to write, in a log of that author's which
// replicates like any other: it is the one of lowest number whose first payload is GrantsHead. Each further payload is a
// word, a space and a public key in hexadecimal digits; the last word about an author holds, anything else says nothing.
const (
	// GrantsHead begins a log of grants.
	GrantsHead = "dibber grants 1"
	// GrantAllow and GrantRevoke are the words.
	GrantAllow  = "allow"
	GrantRevoke = "revoke"
)

// ParseGrant reads a payload of a log of grants; false means that it says nothing.
func ParseGrant(payload []byte) (author bamboo.Author, allowed, ok bool) {
	word, key, found := strings.Cut(string(payload), " ")
	if !found || word != GrantAllow && word != GrantRevoke {
		return author, false, false
	}
	author, err := bamboo.ParseAuthor(key)
	return author, word == GrantAllow, err == nil
}

// IsGrants reports whether a log of that first payload is one of grants.
func IsGrants(payload []byte) bool { return bytes.Equal(payload, []byte(GrantsHead)) }

// ofGrants reports whether a log that has entries is one of grants.
func ofGrants(v *logstore.View, h *logstore.Head) (bool, error) {
	first, err := v.Entry(h.Author, h.Log, 1)
	return err == nil && IsGrants(first.Payload), err
}

// grants are those of some namespaces, as far as their logs are here.
type grants struct {
	keys []bamboo.Author // of the namespaces, in order

	mu sync.Mutex // guards following
	of map[bamboo.Author]*granted
}

// granted is what the log of one namespace says.
type granted struct {
	log    uint64
	read   uint64                 // number of the last entry that was read; 0: no log was found
	allows map[bamboo.Author]bool // false: revoked
}

func newGrants(keys map[bamboo.Author]bool) *grants {
	g := &grants{of: make(map[bamboo.Author]*granted)}
	for key := range keys {
		g.keys = append(g.keys, key)
		g.of[key] = &granted{allows: make(map[bamboo.Author]bool)}
	}
	slices.SortFunc(g.keys, func(a, b bamboo.Author) int { return cmp.Compare(a.String(), b.String()) })
	return g
}

// standing is what namespaces say of an author.
type standing int

const (
	unknown standing = iota
	allowed
	revoked
)

// about returns what the namespaces say of an author, and the first of them that allows it. One that allows is enough.
func (g *grants) about(v *logstore.View, author bamboo.Author) (standing, bamboo.Author, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := unknown
	for _, key := range g.keys {
		if key == author {
			return allowed, key, nil
		}
		said, err := g.of[key].refresh(v, key)
		if err != nil {
			return unknown, key, err
		}
		if yes, known := said[author]; yes {
			return allowed, key, nil
		} else if known {
			out = revoked
		}
	}
	return out, bamboo.Author{}, nil
}

// members are the authors of a namespace: its own key and those that it allows.
func (g *grants) members(v *logstore.View, key bamboo.Author) ([]bamboo.Author, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	said, err := g.of[key].refresh(v, key)
	out := []bamboo.Author{key}
	for author, yes := range said {
		if yes && author != key {
			out = append(out, author)
		}
	}
	return out, err
}

// refresh reads what has come since it was last called.
func (g *granted) refresh(v *logstore.View, key bamboo.Author) (map[bamboo.Author]bool, error) {
	if g.read == 0 {
		if err := g.find(v, key); err != nil || g.read == 0 {
			return g.allows, err
		}
	}
	h, err := v.Head(key, g.log)
	switch {
	case errors.Is(err, logstore.ErrNotFound), err == nil && h.Height <= g.read: // the view is an earlier one, or nothing came
		return g.allows, nil
	case err != nil:
		return nil, err
	}
	to := h.Height
	if h.Fork > 0 { // what is behind it is one of two words
		to = h.Fork - 1
	}
	return g.allows, v.Run(key, g.log, g.read+1, to, func(r logstore.Record) error {
		if author, yes, ok := ParseGrant(r.Payload); ok {
			g.allows[author] = yes
		}
		g.read = r.Seq
		return nil
	})
}

// find looks for the log.
func (g *granted) find(v *logstore.View, key bamboo.Author) error {
	err := v.HeadsOf(key, func(h logstore.Head) error {
		if h.Height == 0 {
			return nil
		}
		of, err := ofGrants(v, &h)
		if of {
			g.log, g.read = h.Log, 1
			err = errFound
		}
		return err
	})
	if errors.Is(err, errFound) {
		return nil
	}
	return err
}
