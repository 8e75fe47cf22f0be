package dial

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// after is a moment so many milliseconds after the start of the dial.
func after(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }

func silent() cause { return cause{CauseSilent, "no answer"} }

func TestDownFromTheFirstPingWithoutAnswer(t *testing.T) {
	l := newLadder(began, after(100), Direct, "/d")
	l.pinged(after(1000), Direct, new(5.0))
	l.pinged(after(2000), Direct, nil)
	l.pinged(after(5000), Direct, nil)
	l.move(after(6000), None, "", silent())
	l.pinged(after(5500), Direct, nil) // told of late
	l.move(after(6500), Relayed, "/r", cause{word: CauseRedialled})
	l.move(after(7500), Punched, "/p", cause{word: CauseUpgraded})
	want := []Change{
		{AtMS: 6000, From: Direct, To: None, Addr: "/d", Cause: new(CauseSilent), Detail: new("no answer")},
		{AtMS: 6500, From: None, To: Relayed, Addr: "/r", Cause: new(CauseRedialled), DownMS: new(4500.0)},
		{AtMS: 7500, From: Relayed, To: Punched, Addr: "/p", Cause: new(CauseUpgraded), DownMS: new(0.0)},
	}
	if diff := cmp.Diff(want, l.changes); diff != "" {
		t.Error(diff)
	}
	up := map[string]float64{}
	for _, p := range l.paths(after(10_000)) {
		up[p.Path] = p.UpMS
	}
	if diff := cmp.Diff(map[string]float64{Direct: 5900, Relayed: 1000, Punched: 2500}, up); diff != "" {
		t.Error(diff)
	}
}

// TestWhenDownBegins: what says that a path worked, or that it did not.
func TestWhenDownBegins(t *testing.T) {
	tests := []struct {
		name  string
		pings func(l *ladder)
		back  string  // the path after the loss at 10 s, which stands at 12 s, or at once
		want  float64 // down_ms
	}{
		{"nothing was pinged", func(*ladder) {}, Direct, 2000},
		{"the last ping was answered", func(l *ladder) {
			l.pinged(after(8000), Direct, nil)
			l.pinged(after(9000), Direct, new(1.0))
		}, Direct, 2000},
		{"a ping on another path", func(l *ladder) { l.pinged(after(9000), Relayed, nil) }, Direct, 2000},
		{"a ping of before", func(l *ladder) { l.pinged(after(50), Direct, nil) }, Direct, 2000},
		{"a ping that was under way", func(l *ladder) {
			l.move(after(10_000), None, "", cause{})
			l.pinged(after(9700), Direct, nil)
		}, Direct, 2300},
		{"another path was open all the time", func(l *ladder) { l.pinged(after(9000), Direct, nil) }, Relayed, 1000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLadder(began, after(100), Direct, "/d")
			tt.pings(l)
			at := after(10_000)
			if tt.back == Direct {
				l.move(at, None, "", cause{})
				at = after(12_000)
			}
			if got := l.move(at, tt.back, "/again", cause{}); *got.DownMS != tt.want {
				t.Errorf("down %v ms, want %v", *got.DownMS, tt.want)
			}
		})
	}
}

func TestSamePathIsNoChange(t *testing.T) {
	l := newLadder(began, began, Direct, "/d")
	if c := l.move(after(1), Direct, "/d", silent()); c != nil {
		t.Errorf("%+v", c)
	}
	l.move(after(2), None, "", silent())
	if c := l.move(after(3), None, "", silent()); c != nil {
		t.Errorf("%+v", c)
	}
}

func TestPercentilesPerPath(t *testing.T) {
	l := newLadder(began, began, Direct, "/d")
	for i := range 100 {
		l.pinged(after(i), Direct, new(float64(100-i)))
	}
	for range 4 {
		l.pinged(after(200), Relayed, nil)
	}
	want := []PathStats{
		{Path: Direct, UpMS: 300, Sent: 100, Received: 100, Loss: new(0.0), P50: new(50.0), P95: new(95.0), Max: new(100.0)},
		{Path: Relayed, Sent: 4, Loss: new(1.0)},
	}
	if diff := cmp.Diff(want, l.paths(after(300))); diff != "" {
		t.Error(diff)
	}
}

// TestLongWatchIsBounded: percentiles are of the last hour, the maximum is of all.
func TestLongWatchIsBounded(t *testing.T) {
	l := newLadder(began, began, Direct, "/d")
	l.pinged(began, Direct, new(999.0))
	for i := range 2 * keptRTTs {
		l.pinged(after(i), Direct, new(float64(i/keptRTTs)))
	}
	s := l.paths(began)[0]
	if *s.P50 != 1 || *s.P95 != 1 || *s.Max != 999 || s.Received != 2*keptRTTs+1 {
		t.Errorf("%+v p50 %v p95 %v max %v", s, *s.P50, *s.P95, *s.Max)
	}
	for i := range keptChanges {
		l.move(after(i), Relayed, "/r", cause{})
		l.move(after(i), Direct, "/d", cause{})
	}
	if len(l.changes) != keptChanges || l.omitted != keptChanges {
		t.Errorf("%d changes kept, %d omitted", len(l.changes), l.omitted)
	}
}
