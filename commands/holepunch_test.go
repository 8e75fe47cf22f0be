package commands

import (
	"encoding/json"
	"strings"
	"testing"

	"dibber/netkit/nat"
	"dibber/netkit/punch"
)

// TestPunchHints: what to do about a punch that failed is told by what was planned and
// tried.
func TestPunchHints(t *testing.T) {
	view := func(p *punch.Plan, remote string) punch.View {
		return punch.View{
			Outcome: punch.Failed, Reason: new(punch.ReasonAttemptsEnded), Plan: p,
			Attempts: []punch.Attempt{{Local: []string{"/ip4/17.0.0.1/tcp/4001"}, Remote: []string{remote}}},
		}
	}
	for _, c := range []struct {
		name, reason string
		view         punch.View
		err          error
		retry        bool
		hint         string
	}{
		{"DCUtR alone", punch.ReasonAttemptsEnded, view(nil, "/ip4/17.0.0.2/tcp/4001"), nil, true, "serve --vantage"},
		{"too soon", punch.ReasonAttemptsEnded, punch.View{
			Outcome: punch.Failed, Reason: new(punch.ReasonAttemptsEnded), Timeline: []punch.Step{{Event: "offer.limited"}},
		}, nil, true, "--every"},
		{"same NAT", punch.ReasonAttemptsEnded, view(nil, "/ip4/17.0.0.1/tcp/4002"), nil, true, "local network"},
		{"impossible", punch.ReasonAttemptsEnded, view(&punch.Plan{Method: nat.MethodNone}, "/ip4/17.0.0.2/tcp/4001"), punch.ErrImpossible, false, "open port"},
		{"unexpected", punch.ReasonAttemptsEnded, view(&punch.Plan{Method: nat.MethodTogether}, "/ip4/17.0.0.2/tcp/4001"), nil, true, "firewall"},
		{"budget", punch.ReasonCoordination, punch.View{Dropped: []punch.Dropped{{Reason: punch.DroppedSpent}}}, nil, true, "within a minute"},
	} {
		f, ok := punchFailure(&punch.FailedError{Reason: c.reason, View: c.view, Err: c.err})
		if !ok || f.Retryable != c.retry || !strings.Contains(f.Hint, c.hint) {
			t.Errorf("%s: retryable %v, hint %q", c.name, f.Retryable, f.Hint)
		}
	}
}

// TestSentenceOfOffer: where there was no relayed connection none is spoken of.
func TestSentenceOfOffer(t *testing.T) {
	r := punch.Report{View: punch.View{Outcome: punch.Direct, Addr: new("/ip4/17.0.0.1/udp/1/quic-v1"), DirectMS: new(12.0)}}
	if s := punchSentence(r); strings.Contains(s, "relayed") || !strings.Contains(s, "after the offer") {
		t.Errorf("%q", s)
	}
	r.Relayed = true
	if s := punchSentence(r); !strings.Contains(s, "after the relayed connection") {
		t.Errorf("%q", s)
	}
}

// TestSeriesHasItsList: a series that was cut off before the first punch ended has the
// list of its runs.
func TestSeriesHasItsList(t *testing.T) {
	raw, err := json.Marshal(holepunchManyDoc{Runs: []punch.Report{}, Tally: punch.Tally(nil)})
	if err != nil || !strings.Contains(string(raw), `"runs":[]`) {
		t.Errorf("%s, %v", raw, err)
	}
}
