package discover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// fake makes a source of the answers that come one after another, the last of them
// from then on.
func fake(word string, answers ...func(context.Context) (answer, error)) *source {
	next := 0
	return &source{SourceResult: SourceResult{Source: word}, ask: func(ctx context.Context) (answer, error) {
		ask := answers[next]
		next = min(next+1, len(answers)-1)
		return ask(ctx)
	}}
}

// after answers with peers, each known for ttl, when some time has passed.
func after(wait, ttl time.Duration, ids ...peer.ID) func(context.Context) (answer, error) {
	return func(ctx context.Context) (answer, error) {
		select {
		case <-ctx.Done():
			return answer{}, ctx.Err()
		case <-time.After(wait):
		}
		out := answer{all: true}
		for _, id := range ids {
			out.sightings = append(out.sightings, sighting{
				peer: id, addrs: addrs("/ip4/192.0.2.1/tcp/1"), until: time.Now().Add(ttl),
			})
		}
		return out, nil
	}
}

var errDown = errors.New("down")

func down(context.Context) (answer, error) { return answer{}, errDown }

// recorder notes events with the time since it was made.
type recorder struct {
	start  time.Time
	events []string
}

func record(cfg *Config) *recorder {
	r := &recorder{start: time.Now()}
	cfg.On = func(e Event) {
		line := time.Since(r.start).String() + " " + string(e.Kind)
		if e.Peer != nil {
			line += " " + string(e.Peer.State)
		}
		r.events = append(r.events, line)
	}
	return r
}

func TestEnds(t *testing.T) {
	ids := testPeers(t, 2)
	var part *PartialError
	var few *TooFewError
	var failed *SourceError
	for _, c := range []struct {
		name    string
		cfg     Config
		sources []*source
		took    time.Duration
		found   int
		err     any // what errors.As must find; nil for no error
	}{
		{"with the slowest source", Config{}, []*source{fake("a", after(time.Second, time.Hour, ids[0])), fake("b", after(3*time.Second, time.Hour, ids[1]))}, 3 * time.Second, 2, nil},
		{"no source", Config{}, nil, 0, 0, nil},
		{"nobody there is no error", Config{}, []*source{fake("a", after(0, 0))}, 0, 0, nil},
		{"a source that hangs", Config{Timeout: 4 * time.Second}, []*source{fake("a", after(0, time.Hour, ids[0])), fake("b", after(time.Hour, 0))}, 4 * time.Second, 1, &part},
		{"one down", Config{}, []*source{fake("a", down), fake("b", after(0, time.Hour, ids[0]))}, 0, 1, &part},
		{"all down", Config{}, []*source{fake("a", down), fake("b", down)}, 0, 0, &failed},
		{"one down, but enough found", Config{Min: 1}, []*source{fake("a", down), fake("b", after(0, time.Hour, ids[0]))}, 0, 1, nil},
		{"after For", Config{For: 7 * time.Second}, []*source{fake("a", after(0, time.Hour, ids[0]))}, 7 * time.Second, 1, nil},
		{"For does not cut the first answer short", Config{For: time.Second}, []*source{fake("a", after(2*time.Second, time.Hour, ids[0]))}, 2 * time.Second, 1, nil},
		{"Min waits", Config{Min: 2, Interval: time.Second}, []*source{fake("a", after(0, time.Hour, ids[0]), after(0, time.Hour, ids...))}, time.Second, 2, nil},
		{"Min waits in vain", Config{Min: 3}, []*source{fake("a", after(0, time.Hour, ids...))}, DefaultFor, 2, &few},
		{"Min, one down", Config{Min: 2, For: time.Second}, []*source{fake("a", down), fake("b", after(0, time.Hour, ids[0]))}, time.Second, 1, &few},
		{"a source recovers", Config{For: 15 * time.Second}, []*source{fake("a", down, after(0, time.Hour, ids[0]))}, 15 * time.Second, 1, nil},
		{"Limit", Config{Limit: 1}, []*source{fake("a", after(0, time.Hour, ids...))}, 0, 1, nil},
		{"gone before the end", Config{For: 9 * time.Second}, []*source{fake("a", after(0, 8*time.Second, ids[0]))}, 9 * time.Second, 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				r, err := newSessionOf("", c.cfg, c.sources).collect(t.Context())
				if took := time.Since(began); took != c.took {
					t.Errorf("took %s, want %s", took, c.took)
				}
				if r.Count != c.found || len(r.Peers) != c.found {
					t.Errorf("found %d %v, want %d", r.Count, r.Peers, c.found)
				}
				if c.err == nil && err != nil || c.err != nil && !errors.As(err, c.err) {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

func TestErrorsNameTheFirstFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := newSessionOf("", Config{}, []*source{fake("a", down), fake("b", down)}).collect(t.Context())
		if !errors.Is(err, errDown) || err.Error() != "all 2 sources and registrations failed; the first: a: down" {
			t.Error(err)
		}
		_, err = newSessionOf("", Config{}, []*source{fake("a", after(0, 0)), fake("b", down)}).collect(t.Context())
		if err == nil || err.Error() != "1 of 2 sources and registrations failed; the first: b: down" {
			t.Error(err)
		}
		_, err = newSessionOf("", Config{Min: 1}, []*source{fake("a", after(0, 0)), fake("b", down)}).collect(t.Context())
		if err == nil || err.Error() != "found 0 peers of at least 1; b: down" {
			t.Error(err)
		}
	})
}

func TestCutShort(t *testing.T) {
	id := testPeers(t, 1)[0]
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r, err := newSessionOf("", Config{}, []*source{fake("a", after(0, time.Hour, id)), fake("b", after(time.Hour, 0))}).collect(ctx)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if r.Count != 1 || !r.Sources[0].OK || r.Sources[1].OK || r.Sources[1].Error == nil {
			t.Errorf("result %+v", r)
		}
	})
}

func TestWatchTellsWhoComesAndGoes(t *testing.T) {
	ids := testPeers(t, 2)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 55*time.Second)
		defer cancel()
		cfg := Config{Interval: 10 * time.Second, Probe: func(ctx context.Context, id peer.ID, _ []ma.Multiaddr) Probe {
			time.Sleep(time.Second)
			return Probe{State: Reachable}
		}}
		events := record(&cfg)
		_, err := newSessionOf("", cfg, []*source{fake("a",
			after(0, time.Hour, ids[0]),
			down,
			after(0, 15*time.Second, ids[1]), // at 20 s: the first is gone
			func(context.Context) (answer, error) { return answer{}, nil }, // no news: the second stays until 35 s
		)}).watch(ctx)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		want := []string{
			"0s source", "0s peer.added unprobed", "1s peer.updated reachable",
			"10s source",
			"20s source", "20s peer.added unprobed", "20s peer.expired reachable", "21s peer.updated reachable",
			"30s source",
			"35s peer.expired reachable",
			"40s source", "50s source",
		}
		slices.Sort(want[5:7])
		slices.Sort(events.events[5:7])
		if diff := cmp.Diff(want, events.events); diff != "" {
			t.Error(diff)
		}
	})
}

func TestProbesAreBounded(t *testing.T) {
	ids := testPeers(t, 20)
	synctest.Test(t, func(t *testing.T) {
		var running, most, all atomic.Int32
		cfg := Config{ProbeParallel: 3, ProbeMax: 10, ProbeTimeout: 2 * time.Second}
		cfg.Probe = func(ctx context.Context, _ peer.ID, at []ma.Multiaddr) Probe {
			all.Add(1)
			if n := running.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer running.Add(-1)
			<-ctx.Done() // each takes its whole time
			return Probe{State: Unreachable}
		}
		began := time.Now()
		r, err := newSessionOf("", cfg, []*source{fake("a", after(0, time.Hour, ids...))}).collect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if most.Load() != 3 || all.Load() != 10 {
			t.Errorf("%d probes at once, %d in all, want 3 and 10", most.Load(), all.Load())
		}
		if took := time.Since(began); took != 8*time.Second { // four rounds of three
			t.Errorf("took %s", took)
		}
		states := map[State]int{}
		for _, p := range r.Peers {
			states[p.State]++
		}
		if diff := cmp.Diff(map[State]int{Unreachable: 10, Unprobed: 10}, states); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAnInterruptedProbeTellsNothing(t *testing.T) {
	id := testPeers(t, 1)[0]
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		cfg := Config{Probe: func(ctx context.Context, _ peer.ID, _ []ma.Multiaddr) Probe {
			<-ctx.Done()
			return Probe{State: Unreachable}
		}}
		r, _ := newSessionOf("", cfg, []*source{fake("a", after(0, time.Hour, id))}).collect(ctx)
		if r.Peers[0].State != Unprobed {
			t.Errorf("state %s", r.Peers[0].State)
		}
	})
}

func TestResolveEndsWithTheFirstAddress(t *testing.T) {
	ids := testPeers(t, 2)
	for _, c := range []struct {
		name    string
		sources []*source
		cfg     Config
		took    time.Duration
		err     error
	}{
		{"found", []*source{fake("a", after(time.Hour, 0)), fake("b", after(time.Second, time.Hour, ids...))}, Config{}, time.Second, nil},
		{"not found", []*source{fake("a", after(time.Second, time.Hour, ids[1])), fake("b", down)}, Config{}, time.Second, ErrNotFound},
		{"nobody to ask", []*source{fake("a", down)}, Config{}, 0, errDown},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				at, err := newSessionOf("", c.cfg, c.sources).find(t.Context(), ids[0])
				if !errors.Is(err, c.err) || (err == nil) != (len(at) == 1) {
					t.Errorf("found %s, error %v", at, err)
				}
				if took := time.Since(began); took != c.took {
					t.Errorf("took %s, want %s", took, c.took)
				}
			})
		})
	}
}

// TestMoreThanIsKept: what is left out of a source that has too many is said, in its events
// and in the result.
func TestMoreThanIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ids []peer.ID
		for i := range MaxPerSource + 1 {
			ids = append(ids, peer.ID(fmt.Sprint("peer ", i)))
		}
		var told []bool
		cfg := Config{On: func(e Event) {
			if e.Source != nil {
				told = append(told, e.Source.More)
			}
		}}
		sources := []*source{fake("many", after(time.Second, time.Hour, ids...)), fake("few", after(2*time.Second, time.Hour, ids[:3]...))}
		r, err := newSessionOf("self", cfg, sources).collect(t.Context())
		if err != nil || !r.Sources[0].More || r.Sources[1].More || r.Count != MaxPerSource {
			t.Errorf("%v, %d peers of %+v", err, r.Count, r.Sources)
		}
		if !slices.Equal(told, []bool{true, false}) {
			t.Errorf("told %v", told)
		}
	})
}

// TestMoreIsToldOnce: a source that tells unasked more than is kept is an event, once.
func TestMoreIsToldOnce(t *testing.T) {
	var events int
	src := fake("many")
	s := newSessionOf("self", Config{On: func(Event) { events++ }}, []*source{src})
	for i := range MaxPerSource + 3 {
		s.add(0, src, false, []sighting{{peer: peer.ID(fmt.Sprint("peer ", i))}})
	}
	if events != 1 || !src.More || src.Count != MaxPerSource {
		t.Errorf("%d events, %+v", events, src.SourceResult)
	}
}
