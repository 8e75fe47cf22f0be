package rendezvous

import "time"

// calendar finds expired entries without looking at the others: entries are
// filed under the minute they expire in, counted from a start. The times it is
// given may carry a monotonic reading, which then decides, so that setting the
// wall clock moves no expiry.
type calendar struct {
	start   time.Time
	minutes map[int64]map[*entry]struct{}
	// swept is the first minute that may have entries.
	swept int64
}

func newCalendar(start time.Time) *calendar {
	return &calendar{start: start, minutes: make(map[int64]map[*entry]struct{})}
}

func (c *calendar) minute(t time.Time) int64 {
	since := t.Sub(c.start)
	if since < 0 {
		return -1
	}
	return int64(since / time.Minute)
}

func (c *calendar) add(e *entry) {
	minute := c.minute(e.expires)
	c.swept = min(c.swept, minute)
	page := c.minutes[minute]
	if page == nil {
		page = make(map[*entry]struct{})
		c.minutes[minute] = page
	}
	page[e] = struct{}{}
}

func (c *calendar) remove(e *entry) {
	minute := c.minute(e.expires)
	page := c.minutes[minute]
	delete(page, e)
	if len(page) == 0 {
		delete(c.minutes, minute)
	}
}

// until returns the entries that have expired at now; the caller removes them.
func (c *calendar) until(now time.Time) []*entry {
	var expired []*entry
	collect := func(page map[*entry]struct{}) {
		for e := range page {
			if !e.expires.After(now) {
				expired = append(expired, e)
			}
		}
	}
	last := c.minute(now)
	if last-c.swept > int64(len(c.minutes)) {
		// A clock that leapt far ahead must not be walked minute by minute.
		for minute, page := range c.minutes {
			if minute <= last {
				collect(page)
			}
		}
	} else {
		for minute := c.swept; minute <= last; minute++ {
			collect(c.minutes[minute])
		}
	}
	c.swept = max(c.swept, last)
	return expired
}
