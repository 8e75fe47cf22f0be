package bed

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// outcome runs one feature on loopback.
func outcome(t *testing.T, f Feature) Row {
	t.Helper()
	work := t.TempDir()
	if err := os.Mkdir(work+"/logs", 0o755); err != nil {
		t.Fatal(err)
	}
	f.Name = "a feature"
	return Peer{Name: "peer"}.run(t.Context(), f, place{work: work, noNamespace: "no namespace"})
}

func TestResults(t *testing.T) {
	for name, test := range map[string]struct {
		f    Feature
		want Result
		text string
	}{
		"works":     {Feature{Run: func(context.Context, *Scene) (string, error) { return "seen", nil }}, Pass, "seen"},
		"fails":     {Feature{Run: func(context.Context, *Scene) (string, error) { return "", errors.New("broken") }}, Fail, "broken"},
		"not here":  {Feature{Run: func(context.Context, *Scene) (string, error) { return "", Skip("no %s", "key") }}, Skipped, "no key"},
		"namespace": {Feature{Public: true}, Skipped, "no namespace"},
		"too long": {Feature{Limit: time.Millisecond, Run: func(ctx context.Context, _ *Scene) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		}}, Fail, context.DeadlineExceeded.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			if got := outcome(t, test.f); got.Result != test.want || got.Text != test.text {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// What a feature has started is gone after it, with whatever that has started.
func TestProcessesEndWithTheirFeature(t *testing.T) {
	var group int
	var dir string
	row := outcome(t, Feature{Run: func(ctx context.Context, s *Scene) (string, error) {
		dir = s.Dir
		// It takes no notice of being told, and has a child that does not either.
		p, err := s.Start(ctx, nil, "sh", "-c", `trap "" TERM; sleep 600 & echo started $!; wait`)
		if err != nil {
			return "", err
		}
		group = p.cmd.Process.Pid
		return p.Line(ctx, "started ")
	}})
	if row.Result != Pass || row.Text == "" {
		t.Fatalf("got %+v", row)
	}
	for limit := time.Now().Add(10 * time.Second); syscall.Kill(-group, 0) == nil; { // a killed process may take a moment to be gone
		if time.Now().After(limit) {
			t.Fatal("something is left of the group")
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is left: %v", err)
	}
}

func TestALineThatNeverComes(t *testing.T) {
	row := outcome(t, Feature{Run: func(ctx context.Context, s *Scene) (string, error) {
		p, err := s.Start(ctx, nil, "sh", "-c", "echo hello")
		if err != nil {
			return "", err
		}
		return p.Line(ctx, "goodbye")
	}})
	if row.Result != Fail || !strings.Contains(row.Text, `last: "hello"`) {
		t.Errorf("got %+v", row)
	}
}

func TestLimitsOfOurRelay(t *testing.T) {
	for said, want := range map[string]bool{"120 131072": true, "119 128000": true, "120000 131072": false, "0 0": false, "120": false, "two minutes": false} {
		if got := ourLimits(strings.Fields(said)); got != want {
			t.Errorf("%q: %t", said, got)
		}
	}
}

func TestHowOthersCallNoReservation(t *testing.T) {
	for text, want := range map[string]bool{
		"error opening relay circuit: NO_RESERVATION (204)": true,
		"Transport([(…, Other(Connect(NoReservation)))])":   true,
		"connection refused": false,
	} {
		if _, err := SaysNoReservation(errors.New(text)); (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := SaysNoReservation(nil); err == nil {
		t.Error("a dial that worked was not refused")
	}
}

func TestChoice(t *testing.T) {
	all := []Peer{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	for only, want := range map[string]string{"": "abc", "c,a": "ca"} {
		got, err := choose(all, only)
		names := ""
		for _, p := range got {
			names += p.Name
		}
		if err != nil || names != want {
			t.Errorf("%q: %s, %v", only, names, err)
		}
	}
	if _, err := choose(all, "d"); err == nil || !strings.Contains(err.Error(), "a, b, c") {
		t.Errorf("unknown peer: %v", err)
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	err := table(&out, []Row{
		{Peer: "kubo", Version: "1", Feature: "dials", Result: Pass, Text: "fine", MS: 1234},
		{Peer: "js", Version: "2", Feature: "dials", Result: Skipped, Text: "no node"},
	})
	want := `PEER      FEATURE  RESULT   S    SEEN, OR WHY NOT
kubo (1)  dials    pass     1.2  fine
js (2)    dials    skipped  –    no node

1 passed, 0 failed, 1 skipped
`
	if err != nil || out.String() != want {
		t.Errorf("%v\n%s", err, out.String())
	}
}
