package discover

import (
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"
)

// ErrNotFound means that no source knows an address of the peer.
var ErrNotFound = errors.New("no source knows an address of the peer")

// SourceError is why a source, or the registration at it, failed. It wraps the
// error of netkit/rendezvous, of netkit/mdns, or of the resolver.
type SourceError struct {
	Source string // the word of SourceResult.Source
	Server string // its server or name; empty if it has none
	Err    error
}

func (e *SourceError) Error() string {
	if e.Server == "" {
		return fmt.Sprintf("%s: %v", e.Source, e.Err)
	}
	return fmt.Sprintf("%s %s: %v", e.Source, e.Server, e.Err)
}

func (e *SourceError) Unwrap() error { return e.Err }

// PartialError means that some sources or registrations failed and others did not.
type PartialError struct {
	Failed, Of int
	Err        error // the first failure
}

func (e *PartialError) Error() string {
	return fmt.Sprintf("%d of %d sources and registrations failed; the first: %v", e.Failed, e.Of, e.Err)
}

// TooFewError means that fewer peers were found than Config.Min.
type TooFewError struct {
	Found, Min int
	Err        error // the first source that failed; nil if all worked
}

func (e *TooFewError) Error() string {
	text := fmt.Sprintf("found %d peers of at least %d", e.Found, e.Min)
	if e.Err != nil {
		text += fmt.Sprintf("; %v", e.Err)
	}
	return text
}

// failures are the errors of the sources and registrations as they stand now, and
// how many of those there are.
func (s *session) failures() (failed []error, of int) {
	for i := range s.sources {
		if err := s.sources[i].err; err != nil {
			failed = append(failed, err)
		}
	}
	for _, r := range s.registered {
		if r.err != nil {
			failed = append(failed, r.err)
		}
	}
	return failed, len(s.sources) + len(s.registered)
}

// verdict is the error of a run that came to its end with so many peers. Whoever
// asked for a number of peers and has them need not care which source failed.
func (s *session) verdict(found int) error {
	failed, of := s.failures()
	switch {
	case len(failed) > 0 && len(failed) == of:
		return allFailed(failed)
	case found < s.cfg.Min:
		e := &TooFewError{Found: found, Min: s.cfg.Min}
		if len(failed) > 0 {
			e.Err = failed[0]
		}
		return e
	case len(failed) > 0 && s.cfg.Min == 0:
		return &PartialError{len(failed), of, failed[0]}
	}
	return nil
}

// notFound is the error of a peer that was not found.
func (s *session) notFound(id peer.ID) error {
	failed, of := s.failures()
	if len(failed) > 0 && len(failed) == of {
		return fmt.Errorf("resolve %s: %w", id, allFailed(failed))
	}
	if len(failed) > 0 {
		// The failure is told but not wrapped: that others answered decides the class.
		return fmt.Errorf("resolve %s: %w; %s", id, ErrNotFound, failed[0].Error())
	}
	return fmt.Errorf("resolve %s: %w", id, ErrNotFound)
}

func allFailed(failed []error) error {
	if len(failed) == 1 {
		return failed[0]
	}
	return fmt.Errorf("all %d sources and registrations failed; the first: %w", len(failed), failed[0])
}
