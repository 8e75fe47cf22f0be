package retry_test

import (
	"testing"
	"time"

	"dibber/netkit/retry"

	"pgregory.net/rapid"
)

func at(seconds float64) time.Time {
	return time.Unix(1_000_000, 0).Add(time.Duration(seconds * float64(time.Second)))
}

func middle() float64 { return 0.5 }

// within fails unless what is due is so many seconds after the zero of at.
func within(t *testing.T, what string, due time.Time, seconds float64) {
	t.Helper()
	if got := due.Sub(at(0)); got != at(seconds).Sub(at(0)) {
		t.Errorf("%s: due at %s, want %gs", what, got, seconds)
	}
}

func TestWaitsDoubleToTheMost(t *testing.T) {
	s := retry.Schedule{Chance: middle}
	now := 0.0
	for _, wait := range []float64{1, 2, 4, 5, 5, 5} {
		s.Begin(at(now))
		within(t, "after a failure", s.Failed(at(now+0.5)), now+wait)
		now += wait
	}
	s.Begin(at(now))
	within(t, "after an attempt of 7 s", s.Failed(at(now+7)), now+7)
}

func TestLossOfWhatLasted(t *testing.T) {
	s := retry.Schedule{Chance: middle}
	for i := range 5 {
		s.Begin(at(float64(i)))
		s.Failed(at(float64(i)))
	}
	s.Begin(at(10))
	s.Succeeded(at(11))
	s.Succeeded(at(50))
	within(t, "held for long", s.Lost(at(100)), 100.5) // spread over the first second
	s.Begin(at(101))
	within(t, "and again", s.Failed(at(101)), 103)
}

// TestLossAtOnce: a server that takes us and hangs up is not asked in a tight loop.
func TestLossAtOnce(t *testing.T) {
	s := retry.Schedule{Chance: middle}
	now := 0.0
	for _, wait := range []float64{1, 2, 4, 5, 5} {
		s.Begin(at(now))
		s.Succeeded(at(now))
		within(t, "lost at once", s.Lost(at(now)), now+wait)
		now += wait
	}
}

func TestHintComesOnce(t *testing.T) {
	s := retry.Schedule{Chance: middle}
	for i := range 5 {
		s.Begin(at(float64(5 * i)))
		s.Failed(at(float64(5*i) + 0.1))
	}
	within(t, "before the first wait is over", s.Hint(at(20.2)), 21)
	within(t, "later", s.Hint(at(22)), 22)
	s.Begin(at(22))
	s.Failed(at(22.1))
	within(t, "after an attempt that a hint brought", s.Hint(at(23)), 27)
	s.Begin(at(27))
	s.Failed(at(27.1))
	within(t, "after one that was due", s.Hint(at(29)), 29)
}

// TestPaceAndPatience: whatever fails however long, and whatever hints come, the
// next attempt begins within 8 s of the one before, and there are at most 30 a
// minute.
func TestPaceAndPatience(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := retry.Schedule{Chance: func() float64 { return rapid.Float64Range(0, 0.999999).Draw(t, "chance") }}
		now := at(0)
		var begun []time.Time
		for range rapid.IntRange(1, 100).Draw(t, "attempts") {
			s.Begin(now)
			begun = append(begun, now)
			over := now.Add(time.Duration(rapid.Int64Range(0, int64(retry.Attempt)).Draw(t, "took")))
			var due time.Time
			if rapid.Bool().Draw(t, "held") {
				s.Succeeded(over)
				due = s.Lost(over)
			} else {
				due = s.Failed(over)
			}
			if rapid.Bool().Draw(t, "hint") {
				due = s.Hint(over.Add(time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "hint at"))))
			}
			if due.Before(over) || due.Sub(now) > retry.Attempt+time.Second {
				t.Fatalf("an attempt that ended after %s is followed by one after %s", over.Sub(now), due.Sub(now))
			}
			now = due
		}
		for i := range begun {
			if i >= 30 && begun[i].Sub(begun[i-30]) < time.Minute {
				t.Fatalf("30 attempts within %s", begun[i].Sub(begun[i-30]))
			}
		}
	})
}
