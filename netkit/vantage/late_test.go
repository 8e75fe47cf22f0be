package vantage

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestLateAnswersAreBounded: what is over the bound is dropped, and nothing is sent once
// the server is closed.
func TestLateAnswersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l late
		var sent atomic.Int64
		for range maxLate + 10 {
			l.after(time.Minute, func() { sent.Add(1) })
		}
		time.Sleep(59 * time.Second)
		if n := sent.Load(); n != 0 {
			t.Errorf("%d were sent too early", n)
		}
		time.Sleep(2 * time.Second)
		if n := sent.Load(); n != maxLate {
			t.Errorf("%d were sent, want %d", n, maxLate)
		}
		l.after(time.Minute, func() { sent.Add(1) })
		l.close()
		l.after(0, func() { sent.Add(1) })
		time.Sleep(time.Hour)
		if n := sent.Load(); n != maxLate {
			t.Errorf("%d were sent, some after the end", n)
		}
	})
}
