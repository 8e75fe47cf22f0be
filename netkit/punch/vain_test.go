package punch_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"dibber/netkit/nat"
	"dibber/netkit/natlab"
	"dibber/netkit/punch"
)

// tells reports whether a step of a name is in a report's timeline.
func tells(r punch.Report, event string) bool {
	return slices.ContainsFunc(r.Timeline, func(s punch.Step) bool { return s.Event == event })
}

// TestVainRunByOfferIsTold: a run by offer that shows that nothing gets through is the
// report of both ends, with what they had agreed, and DCUtR, which does the same, does
// not follow.
func TestVainRunByOfferIsTold(t *testing.T) {
	for name, kinds := range map[string][2]int{"together": {2, 2}, "spray": {2, 5}} {
		t.Run(name, func(t *testing.T) {
			natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
				g := newVantageGrid(t, lab, natlab.Grid()[kinds[0]], natlab.Grid()[kinds[1]], 0)
				_ = g.dialer.service.Close() // Do has its own
				lab.Part(g.targetAt.External(), g.dialerAt.External())
				began := time.Now()
				here, err := g.do(t)
				took := time.Since(began)
				there := g.target.next(t)
				if failed, ok := errors.AsType[*punch.FailedError](err); !ok || failed.Reason != punch.ReasonAttemptsEnded || failed.View.Plan == nil {
					t.Fatalf("%v: %+v", err, here)
				}
				if here.Run != there.Run || here.Other == nil || there.Other == nil || here.RelayedMS == nil {
					t.Errorf("the ends tell different things:\n%+v\n%+v", here, there)
				}
				for _, r := range []punch.Report{here, there} {
					if r.Plan == nil || string(r.Plan.Method) != name || len(r.Attempts) != 1 || r.Attempts[0].Method != name {
						t.Errorf("plan %+v, attempts %+v", r.Plan, r.Attempts)
					}
					if tells(r, "connect.sent") || tells(r, "connect.received") || !tells(r, "plan."+name) {
						t.Errorf("timeline %+v", r.Timeline)
					}
					if c := r.Cause(nat.Outlook{Direct: nat.Yes}); c != punch.CauseUnexplained {
						t.Errorf("cause %s", c)
					}
				}
				if took > 6*time.Second {
					t.Errorf("took %s", took)
				}
				// The other end tries again, as it does with every relayed connection.
				if again := g.target.next(t); again.Run == there.Run || again.Outcome != punch.Failed {
					t.Errorf("%+v", again)
				}
			})
		})
	}
}

// TestRunByOfferGoesOnInTheReport: what was agreed by an offer alone, and came to nothing
// before anything was sent, is in the report of the run that follows.
func TestRunByOfferGoesOnInTheReport(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		g := newVantageGrid(t, lab, natlab.Grid()[2], natlab.Grid()[2], 0)
		_ = g.dialer.service.Close() // Do has its own
		ip := g.dialerAt.External()
		for g.target.SpendDial(ip) == nil { // the target's budget for the dialer is spent
		}
		here, err := g.do(t)
		there := g.target.next(t)
		if err == nil && here.Outcome != punch.Direct {
			t.Fatalf("%v %+v", err, here)
		}
		if there.Plan == nil || there.Plan.Method != nat.MethodTogether || !tells(there, "offer.received") || there.Timeline[0].AtMS >= 0 {
			t.Errorf("%+v", there)
		}
		if !slices.ContainsFunc(there.Dropped, func(d punch.Dropped) bool { return d.Reason == punch.DroppedSpent }) {
			t.Errorf("dropped %+v", there.Dropped)
		}
	})
}

// TestImpossibleIsTriedAgain: two NATs that let nothing through are tried again, and with
// what they are by then.
func TestImpossibleIsTriedAgain(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		g := newVantageLab(t, lab, vantageLab{target: router(5), dialer: router(5), relayed: unlimited()})
		relayed := g.call(t)
		for range 2 {
			r := g.target.next(t)
			if r.Outcome != punch.Failed || r.Plan == nil || r.Plan.Method != nat.MethodNone {
				t.Fatalf("%+v", r)
			}
		}
		g.dialerAt.SetNAT(natlab.NAT{}) // a port was opened there
		for range 3 {
			if r := g.target.next(t); r.Outcome == punch.Direct {
				return
			}
		}
		t.Errorf("still relayed; the relayed connection is closed: %v", relayed.IsClosed())
	})
}

// TestDoEndsWithItsContext: a run by offer ends when it is told to, and says so.
func TestDoEndsWithItsContext(t *testing.T) {
	for name, kinds := range map[string][2]int{"together": {2, 2}, "spray": {2, 5}} {
		for cause, want := range map[string]error{"cancelled": context.Canceled, "timed out": context.DeadlineExceeded} {
			t.Run(name+" "+cause, func(t *testing.T) {
				natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
					g := newVantageGrid(t, lab, natlab.Grid()[kinds[0]], natlab.Grid()[kinds[1]], 0)
					_ = g.dialer.service.Close() // Do has its own
					lab.Part(g.targetAt.External(), g.dialerAt.External())
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					const after = 1500 * time.Millisecond
					if errors.Is(want, context.DeadlineExceeded) {
						ctx, cancel = context.WithTimeout(t.Context(), after)
						defer cancel()
					} else {
						time.AfterFunc(after, cancel)
					}
					began := time.Now()
					r, err := punch.Do(ctx, g.dialer.Node, g.target.ID(), []maddr{g.via.Addrs[0].Encapsulate(circuitOf(g.via.ID))}, punch.DoConfig{})
					if !errors.Is(err, want) || r.Reason == nil || *r.Reason != punch.ReasonCancelled || r.Outcome != punch.Failed {
						t.Errorf("%v: %s %+v", err, text(r.Reason), r)
					}
					if took := time.Since(began); took > after+100*time.Millisecond {
						t.Errorf("took %s", took)
					}
					if r.Plan == nil || !strings.HasPrefix(r.Timeline[0].Event, "offer.") {
						t.Errorf("what was seen until then is gone: %+v", r)
					}
				})
			})
		}
	}
}
