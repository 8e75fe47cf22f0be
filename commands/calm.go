package commands

import (
	"sync"
	"time"
)

const (
	// calmFirst and calmMost are the ends of the doubling wait after which a person is told
	// once more of a cause that he knows.
	calmFirst = time.Minute
	calmMost  = time.Hour
	// calmCauses bounds the causes that are new once: texts of others may differ each time.
	calmCauses = 8
)

// calm decides which of the losses and failures that come again and again are for a person: the
// first of each cause, and from then on fewer and fewer. What is well for a minute begins anew. The
// zero value works.
type calm struct {
	mu sync.Mutex
	of map[string]*trouble // by what it befalls
}

// trouble is a run of losses and failures of one thing, with the successes that did not last.
type trouble struct {
	causes map[string]struct{} // told
	wait   time.Duration       // after the next that is told
	again  time.Time           // when a known cause is told again
	told   bool                // the last told was no success
	bad    time.Time           // since then it is not well, and nobody was told; zero: else
	well   time.Time           // since then it is; zero: it is not
}

// tells reports whether to tell what befell something: a cause, or success where it is empty.
// ended reports whether success comes after what was told.
func (c *calm) tells(now time.Time, of, cause string) (tell, ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.of[of]
	if t == nil && cause == "" {
		return true, false
	}
	if c.of == nil {
		c.of = make(map[string]*trouble)
	}
	if t == nil || cause != "" && !t.well.IsZero() && now.Sub(t.well) >= calmFirst {
		t = &trouble{causes: make(map[string]struct{}), wait: calmFirst}
		c.of[of] = t
	}
	if cause == "" {
		ended, hidden := t.told, !t.bad.IsZero()
		t.told, t.bad = false, time.Time{}
		if t.well.IsZero() {
			t.well = now
		}
		return !hidden, ended
	}
	t.well = time.Time{}
	return t.tells(now, cause), false
}

func (t *trouble) tells(now time.Time, cause string) bool {
	_, known := t.causes[cause]
	hidden := !t.bad.IsZero() && now.Sub(t.bad) >= calmFirst // else it would seem well
	if (known || len(t.causes) == calmCauses) && now.Before(t.again) && !hidden {
		if !t.told && t.bad.IsZero() {
			t.bad = now
		}
		return false
	}
	if len(t.causes) < calmCauses {
		t.causes[cause] = struct{}{}
	}
	t.told, t.bad = true, time.Time{}
	t.again = now.Add(t.wait)
	t.wait = min(2*t.wait, calmMost)
	return true
}

// recurring is event for what may happen to something again and again: --ndjson has it each time, text
// as a person bears it.
func (o *output) recurring(of string, cause error, name string, payload any) {
	text := ""
	if cause != nil {
		text = cause.Error()
	}
	tell, _ := o.calm.tells(time.Now(), of, text)
	o.emit(name, payload, tell)
}

// lost warns of what befell a source of the command, and tells once it is over.
func (o *output) lost(of string, cause *string) {
	if cause == nil {
		if _, ended := o.calm.tells(time.Now(), of, ""); ended {
			o.notice("%s answers again", plainText(of))
		}
		return
	}
	if tell, _ := o.calm.tells(time.Now(), of, *cause); tell {
		o.warn("%s", plainText(oneLine(of+": "+*cause)))
	}
}
