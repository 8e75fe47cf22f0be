package invite

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dibber/netkit/store"

	"github.com/libp2p/go-libp2p/core/peer"
)

// MostGuests is how many peers may come by one token.
const MostGuests = 256

var (
	// ErrUnknown means that a book does not have a token: it was made elsewhere, or its entry is lost.
	ErrUnknown = errors.New("the join token is not in the book of invitations")
	// ErrRevoked means that a token was taken back.
	ErrRevoked = errors.New("the join token was revoked")
	// ErrFull means that MostGuests came by a token.
	ErrFull = fmt.Errorf("%d peers have come by the join token already", MostGuests)
)

// Entry is what a book has of one token. The token itself is not in it: whoever reads the book joins by none.
type Entry struct {
	ID        ID         `json:"id"`
	Issued    time.Time  `json:"issued"`
	Expires   time.Time  `json:"expires"`
	Revoked   *time.Time `json:"revoked"` // null: it was not
	Namespace *string    `json:"namespace"`
	PSK       bool       `json:"psk"`    // it has the key of the private network
	Guests    []peer.ID  `json:"guests"` // who came by it
}

// Live reports why nobody may come by the token any more; nil if they may.
func (e Entry) Live(now time.Time) error {
	switch {
	case e.Revoked != nil:
		return fmt.Errorf("%w at %s", ErrRevoked, e.Revoked.UTC().Format(time.RFC3339))
	case !now.Before(e.Expires):
		return fmt.Errorf("%w: at %s", ErrExpired, e.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// Book is a folder of invitations: for each a file of the operator's, and one of the node's with who came. So they never write the
// same file, and a node need not be told what the operator did, nor run when he does it.
type Book struct{ Dir string }

func (b Book) file(id ID) string { return filepath.Join(b.Dir, id.String()+".json") }

func (b Book) guests(id ID) string { return filepath.Join(b.Dir, id.String()+".guests") }

// Add enters a token that was made.
func (b Book) Add(t Token, now time.Time) (Entry, error) {
	e := Entry{ID: t.ID, Issued: now.UTC().Truncate(time.Second), Expires: t.Expires.UTC(), PSK: t.PSK != nil}
	if t.Namespace != "" {
		e.Namespace = &t.Namespace
	}
	if err := os.MkdirAll(b.Dir, 0o700); err != nil {
		return e, fmt.Errorf("book of invitations: %w", err)
	}
	return e, b.write(b.file(t.ID), e)
}

// Revoke takes a token back, for good, and returns its entry. It fails with ErrUnknown.
func (b Book) Revoke(id ID, now time.Time) (Entry, error) {
	e, err := b.Find(id)
	if err != nil || e.Revoked != nil {
		return e, err
	}
	e.Revoked = new(now.UTC().Truncate(time.Second))
	guests := e.Guests
	e.Guests = nil
	err = b.write(b.file(id), e)
	e.Guests = guests
	return e, err
}

// Find returns the entry of a token. It fails with ErrUnknown.
func (b Book) Find(id ID) (e Entry, err error) {
	data, err := os.ReadFile(b.file(id))
	if errors.Is(err, fs.ErrNotExist) {
		return e, fmt.Errorf("%w: %s", ErrUnknown, id)
	}
	if err == nil {
		err = json.Unmarshal(data, &e)
	}
	if err != nil {
		return e, fmt.Errorf("book of invitations: %w", err)
	}
	if data, err = os.ReadFile(b.guests(id)); err == nil {
		err = json.Unmarshal(data, &e.Guests)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return e, fmt.Errorf("guests of an invitation: %w", err)
	}
	return e, nil
}

// List returns all entries, those that end first in front.
func (b Book) List() ([]Entry, error) {
	files, err := os.ReadDir(b.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("book of invitations: %w", err)
	}
	var list []Entry
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok {
			continue
		}
		id, err := ParseID(name)
		if err != nil {
			continue // a file of somebody else's
		}
		e, err := b.Find(id)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b Entry) int { return a.Expires.Compare(b.Expires) })
	return list, nil
}

// Guest notes that a peer came by a token that is live, and returns its entry. It is the node's alone to call. It fails with
// ErrUnknown, ErrRevoked, ErrExpired or ErrFull.
func (b Book) Guest(id ID, p peer.ID, now time.Time) (Entry, error) {
	e, err := b.Find(id)
	if err != nil {
		return e, err
	}
	if err := e.Live(now); err != nil {
		return e, err
	}
	if slices.Contains(e.Guests, p) {
		return e, nil
	}
	if len(e.Guests) >= MostGuests {
		return e, ErrFull
	}
	e.Guests = append(e.Guests, p)
	return e, b.write(b.guests(id), e.Guests)
}

// write puts a file in the place of another one, whole or not at all.
func (b Book) write(file string, doc any) error {
	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return fmt.Errorf("book of invitations: %w", err)
	}
	if err := store.Replace(file, append(data, '\n')); err != nil {
		return fmt.Errorf("book of invitations: %w", err)
	}
	return nil
}
