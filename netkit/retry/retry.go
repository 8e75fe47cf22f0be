// Package retry says when to try again what was lost: soon at first, then at a
// steady pace that the lost side can bear, and within seconds of its return. It
// does no I/O and is told the time.
package retry

import (
	"math/rand/v2"
	"time"
)

// The pace of repairs. With waits of at most DefaultMost, spread by a quarter, and
// attempts of at most Attempt, the next attempt begins at most 7 s after one that began
// just before the cause of a loss was over, which leaves 3 s of the 10 s that a
// repair may take.
const (
	// DefaultFirst and DefaultMost are the ends of a Schedule that names none.
	DefaultFirst = time.Second
	DefaultMost  = 5 * time.Second
	// Attempt is how long each step of an attempt, a dial or a request, may take.
	Attempt = 7 * time.Second
)

// Schedule decides when the attempts at one thing begin. Waits are counted from the
// beginning of one attempt to that of the next, so that attempts which take long
// come no later. The zero value works. It is not safe for concurrent use.
type Schedule struct {
	First time.Duration // the first wait; 0 means DefaultFirst
	Most  time.Duration // what it doubles to; 0 means DefaultMost
	// Chance returns a number in [0, 1) that spreads waits by a quarter to either
	// side, so that those who lost the same server do not return at once; nil means
	// a random one.
	Chance func() float64

	begun    time.Time // the last attempt
	due      time.Time // when the next one was to begin
	early    bool      // the last attempt began before it was due
	failures int       // in a row, with losses of what did not last
	since    time.Time // what is held was got then; zero: nothing is held
}

// Begin takes note that an attempt begins.
func (s *Schedule) Begin(now time.Time) {
	s.early = now.Before(s.due)
	s.begun = now
}

// Succeeded takes note that what was tried for is held, or still is.
func (s *Schedule) Succeeded(now time.Time) {
	s.due = time.Time{}
	if s.since.IsZero() {
		s.since = now
	}
}

// Failed takes note that the attempt failed, or that what was held is lost, and
// returns when the next one is to begin. What was held for long begins with the
// first wait again; what is lost as soon as it is got is tried for ever less often.
func (s *Schedule) Failed(now time.Time) time.Time {
	if !s.since.IsZero() && now.Sub(s.since) >= s.most() {
		s.failures = 0
	}
	s.since = time.Time{}
	s.failures++
	wait := s.most()
	if doublings := s.failures - 1; doublings < 20 {
		wait = min(wait, s.first()<<doublings)
	}
	s.due = s.begun.Add(time.Duration(float64(wait) * (0.75 + 0.5*s.chance())))
	if s.due.Before(now) {
		s.due = now
	}
	return s.due
}

// Lost is Failed for something that was held, which others may have lost at the same
// moment: they spread over the first wait.
func (s *Schedule) Lost(now time.Time) time.Time {
	due := s.Failed(now)
	if spread := now.Add(time.Duration(float64(s.first()) * s.chance())); spread.After(due) {
		s.due = spread
	}
	return s.due
}

// Hint takes note of a sign that an attempt would succeed now, and returns when the
// next one is to begin. Between two attempts that began when they were due there is
// at most one that a hint brought forward, so that hints, which attempts may
// cause themselves, make no tight loop.
func (s *Schedule) Hint(now time.Time) time.Time {
	if at := later(now, s.begun.Add(s.first())); !s.early && at.Before(s.due) {
		return at
	}
	return s.due
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (s *Schedule) first() time.Duration {
	if s.First == 0 {
		return DefaultFirst
	}
	return s.First
}

func (s *Schedule) most() time.Duration {
	if s.Most == 0 {
		return DefaultMost
	}
	return s.Most
}

func (s *Schedule) chance() float64 {
	if s.Chance == nil {
		return rand.Float64()
	}
	return s.Chance()
}
