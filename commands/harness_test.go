package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
)

// outcome is what a run of dibber left behind.
type outcome struct {
	code   int
	stdout string
	stderr string
}

// session is a run of dibber with an environment and a standard input of its own.
type session struct {
	env   map[string]string
	stdin string
}

func (s session) stdio(stdout, stderr *bytes.Buffer) Stdio {
	return Stdio{
		In: strings.NewReader(s.stdin), Out: stdout, Err: stderr,
		LookupEnv: func(name string) (string, bool) {
			v, ok := s.env[name]
			return v, ok
		},
	}
}

// run runs dibber as a user would.
func (s session) run(ctx context.Context, args ...string) outcome {
	var stdout, stderr bytes.Buffer
	code := Main(ctx, args, s.stdio(&stdout, &stderr))
	return outcome{code, stdout.String(), stderr.String()}
}

// with runs dibber with one command more, made for the test.
func (s session) with(ctx context.Context, extra func(*env) spec, args ...string) outcome {
	var stdout, stderr bytes.Buffer
	e := newEnv(s.stdio(&stdout, &stderr))
	e.root = append(e.root, withPaths(nil, []spec{extra(e)})...)
	code := e.main(ctx, args)
	return outcome{code, stdout.String(), stderr.String()}
}

// document decodes the one document that stdout must carry.
func (o outcome) document(t *testing.T) map[string]any {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal([]byte(o.stdout), &doc); err != nil {
		t.Fatalf("stdout is not one JSON document: %v\n%s", err, o.stdout)
	}
	return doc
}

// wrongUsage fails the test unless the run ended as wrong usage must: exit 2, nothing on stdout, one line on stderr that says want.
func (o outcome) wrongUsage(t *testing.T, want string) {
	t.Helper()
	if o.code != int(exitUsage) || o.stdout != "" {
		t.Errorf("exit %d with %q on stdout, want exit 2 and nothing", o.code, o.stdout)
	}
	if strings.Count(o.stderr, "\n") != 1 || !strings.HasPrefix(o.stderr, "dibber: ") || !strings.Contains(o.stderr, want) {
		t.Errorf("stderr is %q, want one line that says %q", o.stderr, want)
	}
}
