package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// countDoc is the result of the test command count.
type countDoc struct {
	Count int      `json:"count"`
	Names []string `json:"names"`
	Size  *int     `json:"size"`
}

func (d countDoc) quiet() string { return fmt.Sprint(d.Count) }

func (d countDoc) renderText(t *text) {
	t.field("count", "%d", d.Count)
	t.field("", "again")
	t.table([]string{"name", "n"}, [][]string{{"long name", "1"}, {"b", "2"}})
}

// tick is an event of the test command count.
type tick struct {
	N int `json:"n"`
}

func (k tick) line() string { return fmt.Sprintf("tick %d", k.N) }

// newCount is a command that ends with the given document and error after one event.
func newCount(doc any, err error) func(*env) spec {
	return func(*env) spec {
		return spec{
			name: "count", usage: "count", doc: countDoc{}, events: []event{{"tick", tick{}}},
			run: func(_ context.Context, out *output) (any, error) {
				out.event("tick", tick{7})
				out.warn("careful")
				return doc, err
			},
		}
	}
}

// TestReadyFirst: what happened before "ready" is told after it, or at the end if it never came to that.
func TestReadyFirst(t *testing.T) {
	t.Parallel()
	for _, ends := range []bool{false, true} {
		r := session{}.with(t.Context(), func(*env) spec {
			return spec{
				name: "count", usage: "count", doc: countDoc{}, events: []event{{"tick", tick{}}, {"ready", tick{}}},
				run: func(_ context.Context, out *output) (any, error) {
					out.readyFirst()
					out.event("tick", tick{1})
					if !ends {
						out.event("ready", tick{2})
						out.event("tick", tick{3})
					}
					return countDoc{}, nil
				},
			}
		}, "--ndjson", "count")
		var names []string
		for line := range strings.Lines(r.stdout) {
			var e struct {
				Event string `json:"event"`
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			names = append(names, e.Event)
		}
		want := []string{"ready", "tick", "tick", "summary"}
		if ends {
			want = []string{"tick", "summary"}
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	broken := &failure{Exit: exitRefused, Code: "quota", Phase: "reserve", Addr: "/ip4/127.0.0.1", Hint: "ask\nlater", Err: errors.New("no\nroom")}
	fine := countDoc{Count: 3}
	const text = "tick 7\ncount  3\n       again\nname       n\nlong name  1\nb          2\n"
	tests := []struct {
		name           string
		args           []string
		doc            any
		err            error
		code           exitCode
		stdout, stderr string
	}{
		{"text", nil, fine, nil, exitOK, text, "warning: careful\n"},
		{"quiet", []string{"-q"}, fine, nil, exitOK, "3\n", ""},
		{"text failed", nil, fine, broken, exitRefused, text, "warning: careful\ndibber: no room\nhint: ask later\n"},
		{"quiet failed", []string{"-q"}, nil, broken, exitRefused, "", "dibber: no room\nhint: ask later\n"},
		{
			"json",
			[]string{"--json"},
			fine, nil, exitOK,
			`{"schema":"count/1","time":"","elapsed_ms":0,"count":3,"names":[],"size":null,"ok":true,"error":null}`,
			"warning: careful\n",
		},
		{
			"json failed",
			[]string{"--json"},
			nil, broken, exitRefused,
			`{"schema":"count/1","time":"","elapsed_ms":0,"count":0,"names":[],"size":null,"ok":false,"error":` +
				`{"code":"quota","phase":"reserve","addr":"/ip4/127.0.0.1","message":"no\nroom","hint":"ask\nlater","retryable":false}}`,
			"warning: careful\ndibber: no room\nhint: ask later\n",
		},
		{
			"ndjson",
			[]string{"--ndjson"},
			fine, errors.New("odd"), exitInternal,
			`{"schema":"count/1","event":"tick","time":"","elapsed_ms":0,"n":7}` + "\n" +
				`{"schema":"count/1","event":"summary","time":"","elapsed_ms":0,"count":3,"names":[],"size":null,"ok":false,"error":` +
				`{"code":"internal","phase":null,"addr":null,"message":"odd","hint":null,"retryable":false}}`,
			"warning: careful\ndibber: odd\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := session{}.with(t.Context(), newCount(tt.doc, tt.err), append(tt.args, "count")...)
			want := outcome{int(tt.code), tt.stdout, tt.stderr}
			if strings.HasPrefix(tt.stdout, "{") {
				got.stdout = masked(t, got.stdout)
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(outcome{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// masked writes each document of stdout on a line, with its order kept and what changes from run to run taken out.
func masked(t *testing.T, stdout string) string {
	t.Helper()
	var lines []string
	dec := json.NewDecoder(strings.NewReader(stdout))
	for dec.More() {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			t.Fatal(err)
		}
		var head envelope
		if err := json.Unmarshal(raw, &head); err != nil {
			t.Fatal(err)
		}
		if head.Time.IsZero() {
			t.Errorf("no time in %s", raw)
		}
		compact, err := encode(verbatim{raw})
		if err != nil {
			t.Fatal(err)
		}
		line := strings.TrimSpace(string(compact))
		line = strings.Replace(line, `"time":"`+head.Time.Format(time.RFC3339Nano)+`"`, `"time":""`, 1)
		elapsed, _ := json.Marshal(head.ElapsedMS)
		line = strings.Replace(line, `"elapsed_ms":`+string(elapsed), `"elapsed_ms":0`, 1)
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// verbatim makes encode compact a document.
type verbatim struct{ raw json.RawMessage }

func (r verbatim) MarshalJSON() ([]byte, error) { return r.raw, nil }

// waiting is a run that does nothing until its context ends.
func waiting(result error) func(context.Context, *output) (any, error) {
	return func(ctx context.Context, _ *output) (any, error) {
		<-ctx.Done()
		if result != nil {
			return countDoc{}, result
		}
		return countDoc{Count: 1}, ctx.Err()
	}
}

// TestEndOfRun holds which exit code a run has that was cut short, and that it still prints its document last.
func TestEndOfRun(t *testing.T) {
	t.Parallel()
	interrupt, terminate := &signalError{syscall.SIGINT}, &signalError{syscall.SIGTERM}
	unreachable := &failure{Exit: exitUnreachable, Err: errors.New("nobody there")}
	tests := []struct {
		name      string
		args      []string
		cause     error // cancels the run after a second
		longLived bool
		err       error // what the run returns then; nil means its context's error
		code      exitCode
		word      string // error.code; empty means ok
		says      string // error.message, if it matters
	}{
		{name: "timeout", args: []string{"--timeout", "5s"}, code: exitTimeout, word: "timeout", says: "--timeout reached"},
		{
			name: "timeout of a long-lived one", args: []string{"--timeout", "5s"}, longLived: true,
			code: exitTimeout, word: "timeout", says: "--timeout reached",
		},
		{name: "SIGINT", cause: interrupt, code: exitInterrupted, word: "interrupted", says: "interrupted by SIGINT"},
		{name: "SIGTERM", cause: terminate, code: exitTerminated, word: "terminated", says: "ended by SIGTERM"},
		{
			name: "SIGINT seen from below", cause: interrupt, err: fmt.Errorf("ping: %w", interrupt),
			code: exitInterrupted, word: "interrupted", says: "interrupted by SIGINT",
		},
		{name: "SIGINT of a long-lived one", cause: interrupt, longLived: true, code: exitOK},
		{name: "SIGTERM of a long-lived one", cause: terminate, longLived: true, code: exitOK},
		{
			name: "SIGTERM while failing", cause: terminate, err: unreachable,
			code: exitTerminated, word: "terminated", says: "ended by SIGTERM: nobody there",
		},
		{
			name: "SIGTERM after an answer", cause: terminate, code: exitIdentity, word: "identity",
			err: fmt.Errorf("dial: %w", &failure{Exit: exitIdentity, Err: errors.New("another peer")}),
		},
		{name: "drain failed", cause: interrupt, longLived: true, err: errors.New("close the store"), code: exitInternal, word: "internal"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if tt.cause != nil {
					defer time.AfterFunc(time.Second, func() { cancel(tt.cause) }).Stop()
				}
				command := func(*env) spec {
					return spec{
						name: "wait", doc: countDoc{}, run: waiting(tt.err), longLived: func() bool { return tt.longLived },
					}
				}
				got := session{}.with(ctx, command, append([]string{"wait", "--ndjson"}, tt.args...)...)
				doc := got.document(t)
				word := ""
				if e, failed := doc["error"].(map[string]any); failed {
					word = e["code"].(string)
					if tt.says != "" && e["message"] != tt.says {
						t.Errorf("says %q, want %q", e["message"], tt.says)
					}
				}
				if got.code != int(tt.code) || word != tt.word || doc["event"] != "summary" || doc["ok"] != (tt.word == "") {
					t.Errorf("exit %d, error code %q, want %d, %q in %s", got.code, word, tt.code, tt.word, got.stdout)
				}
			})
		})
	}
}

func TestUsageErrorOfARun(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("peers.txt:3: %w", &failure{Exit: exitUsage, Hint: "write /p2p/ID", Err: errors.New("no peer id")})
	command := func(*env) spec {
		return spec{name: "read", doc: countDoc{}, run: func(context.Context, *output) (any, error) { return countDoc{}, err }}
	}
	session{}.with(t.Context(), command, "read", "--json").wrongUsage(t, "peers.txt:3: no peer id")
}

// TestStdoutForData holds that a command whose result is bytes gets stdout for itself, or not at all.
func TestStdoutForData(t *testing.T) {
	t.Parallel()
	command := func(*env) spec {
		return spec{
			name: "cat", doc: countDoc{},
			run: func(_ context.Context, out *output) (any, error) {
				w, err := out.stdout()
				if err != nil {
					return nil, err
				}
				out.event("tick", tick{1})
				_, err = w.Write([]byte("bytes"))
				return countDoc{}, err
			},
		}
	}
	for _, args := range [][]string{{"cat"}, {"cat", "-q"}} {
		if got := (session{}).with(t.Context(), command, args...); got.stdout != "bytes" || got.code != 0 {
			t.Errorf("%q: exit %d, stdout %q", args, got.code, got.stdout)
		}
	}
	session{}.with(t.Context(), command, "cat", "--json").wrongUsage(t, "stdout cannot carry both")
	session{}.with(t.Context(), command, "cat", "--ndjson").wrongUsage(t, "stdout cannot carry both")
}

// TestConcurrentEvents holds that lines from several goroutines stay whole.
func TestConcurrentEvents(t *testing.T) {
	t.Parallel()
	command := func(*env) spec {
		return spec{
			name: "many", doc: countDoc{},
			run: func(_ context.Context, out *output) (any, error) {
				var wg sync.WaitGroup
				for n := range 20 {
					wg.Go(func() {
						out.event("tick", tick{n})
						out.notice("note %d", n)
						out.status("at %d", n)
					})
				}
				wg.Wait()
				return countDoc{}, nil
			},
		}
	}
	got := session{}.with(t.Context(), command, "many", "--ndjson")
	seen := map[float64]bool{}
	dec := json.NewDecoder(strings.NewReader(got.stdout))
	for dec.More() {
		var doc map[string]any
		if err := dec.Decode(&doc); err != nil {
			t.Fatal(err)
		}
		if n, ok := doc["n"].(float64); ok {
			seen[n] = true
		}
	}
	if len(seen) != 20 || strings.Count(got.stderr, "\n") != 20 {
		t.Errorf("%d events and %q on stderr, want 20 of each", len(seen), got.stderr)
	}
}

// TestLogLevel holds what --log-level and -v let through to stderr.
func TestLogLevel(t *testing.T) {
	t.Parallel()
	command := func(*env) spec {
		return spec{
			name: "log", doc: countDoc{},
			run: func(_ context.Context, out *output) (any, error) {
				out.log.Debug("deep")
				out.log.Info("plain")
				out.log.Error("grave")
				return countDoc{}, nil
			},
		}
	}
	for args, want := range map[string][]string{
		"":                  {"grave"},
		"-v":                {"plain", "grave"},
		"--verbose":         {"plain", "grave"},
		"--log-level debug": {"deep", "plain", "grave"},
	} {
		got := session{}.with(t.Context(), command, append(strings.Fields(args), "log")...)
		for _, word := range []string{"deep", "plain", "grave"} {
			expected := false
			for _, w := range want {
				expected = expected || w == word
			}
			if strings.Contains(got.stderr, word) != expected {
				t.Errorf("%q: stderr has %q: %v, want %v\n%s", args, word, !expected, expected, got.stderr)
			}
		}
	}
}
