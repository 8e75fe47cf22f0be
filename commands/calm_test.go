package commands

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// befalls is a calm in a time of its own, with what it told.
type befalls struct {
	calm
	now  time.Time
	told []string
}

func (b *befalls) tell(cause string) {
	if tell, _ := b.tells(b.now, "server", cause); tell {
		b.told = append(b.told, fmt.Sprint(b.now.Sub(time.Time{}), " ", cause))
	}
}

// every has the causes happen one after the other, 5 s apart, for a time.
func (b *befalls) every(total time.Duration, causes ...string) {
	for i, end := 0, b.now.Add(total); b.now.Before(end); i++ {
		b.tell(causes[i%len(causes)])
		b.now = b.now.Add(5 * time.Second)
	}
}

func (b *befalls) expect(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(b.told, want) {
		t.Errorf("told %q, want %q", b.told, want)
	}
	b.told = nil
}

func TestCalmTellsEachCauseOnceThenSeldom(t *testing.T) {
	var b befalls
	b.every(30*time.Second, "silent", "refused")
	b.tell("")
	b.expect(t, "0s silent", "5s refused", "30s ")
	b.now = b.now.Add(time.Hour) // that lasted
	b.every(10*time.Minute, "silent")
	b.tell("")
	b.expect(t, "1h0m30s silent", "1h1m30s silent", "1h3m30s silent", "1h7m30s silent", "1h10m30s ")
}

func TestCalmWhenItComesAndGoes(t *testing.T) {
	var b befalls
	b.every(4*time.Minute, "dropped", "")
	// What was told last is true, but for a minute at most.
	b.expect(t, "0s dropped", "5s ", "1m0s dropped", "1m5s ", "3m0s dropped", "3m5s ")
	b.every(10*time.Minute, "dropped")
	b.tell("")
	b.expect(t, "5m0s dropped", "13m0s dropped", "14m0s ")
}

func TestCalmWithTextsThatDiffer(t *testing.T) {
	var b befalls
	for i := range 1000 {
		b.tell(fmt.Sprint("attempt ", i))
		b.now = b.now.Add(5 * time.Second)
	}
	if n := len(b.told); n < calmCauses || n > calmCauses+10 {
		t.Errorf("told %d times: %q", n, b.told)
	}
}

func TestCalmTellsTheEndOfWhatWasTold(t *testing.T) {
	var b befalls
	for i, step := range []struct {
		cause string
		ended bool
	}{{"", false}, {"away", false}, {"away", false}, {"", true}, {"", false}, {"away", false}, {"", false}} {
		if _, ended := b.tells(b.now, "server", step.cause); ended != step.ended {
			t.Errorf("step %d: ended is %v", i, ended)
		}
	}
}
