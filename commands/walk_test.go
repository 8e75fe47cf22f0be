package commands

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// everyCommand calls f in a subtest for each command of a fresh tree: those that can be run, and those that only have others below.
func everyCommand(t *testing.T, f func(t *testing.T, s *spec)) {
	t.Helper()
	var each func([]spec)
	each = func(list []spec) {
		for i := range list {
			s := &list[i]
			t.Run(s.fullName(), func(t *testing.T) {
				t.Parallel()
				f(t, s)
			})
			each(s.subcommands)
		}
	}
	each(newEnv(Stdio{}).root)
}

// dry runs dibber up to where the command's work would begin: the line is parsed, settings are read and arguments validated. It
// returns the env that was used, whose options then are those of the run.
func (s session) dry(ctx context.Context, args ...string) (*env, outcome) {
	var stdout, stderr bytes.Buffer
	e := newEnv(s.stdio(&stdout, &stderr))
	walk(e.root, func(s *spec) { s.run = func(context.Context, *output) (any, error) { return nil, nil } })
	code := e.main(ctx, args)
	return e, outcome{code, stdout.String(), stderr.String()}
}

// TestHelp holds that the help of every command is complete, and on stdout, because it was asked for.
func TestHelp(t *testing.T) {
	t.Parallel()
	exits := newText(newEnv(Stdio{}))
	exitHelp(exits)
	table := strings.TrimSpace(string(exits.bytes()))
	everyCommand(t, func(t *testing.T, s *spec) {
		if len(s.examples) != 3 {
			t.Errorf("%d examples, want 3", len(s.examples))
		}
		name := strings.Fields(s.fullName())
		want := (session{}).run(t.Context(), append(name, "--help")...)
		if want.code != 0 || want.stderr != "" {
			t.Fatalf("exit %d, stderr %q", want.code, want.stderr)
		}
		for what, text := range map[string]string{
			"its line":       "dibber " + s.fullName() + ": " + s.usage + "\n",
			"its synopsis":   "usage: " + synopsisOf(s) + "\n",
			"the examples":   "\nexamples\n  " + strings.Join(s.examples, "\n  ") + "\n\nexit codes\n",
			"the exit table": table,
		} {
			if !strings.Contains(want.stdout, text) {
				t.Errorf("help lacks %s, %q:\n%s", what, text, want.stdout)
			}
		}
		if !strings.HasSuffix(strings.TrimSpace(want.stdout), table) {
			t.Errorf("help does not end with the exit table:\n%s", want.stdout)
		}
		for _, line := range [][]string{append(name, "-h"), append([]string{"--help"}, name...), append([]string{"help"}, name...)} {
			if got := (session{}).run(t.Context(), line...); got != want {
				t.Errorf("%q differs from --help: %+v", line, got)
			}
		}
	})
}

// TestHelpTellsEveryFlag holds that each flag is in the help with its variable.
func TestHelpTellsEveryFlag(t *testing.T) {
	t.Parallel()
	everyCommand(t, func(t *testing.T, s *spec) {
		help := (session{}).run(t.Context(), append(strings.Fields(s.fullName()), "--help")...).stdout
		for _, f := range s.allFlags(newEnv(Stdio{})) {
			label, usage := describeFlag(f)
			if usage == "" || !strings.Contains(help, "  "+label+" ") || !strings.Contains(help, "[$"+envName(s, f)+"]") {
				t.Errorf("help lacks %s %q", label, usage)
			}
		}
	})
}

// TestExamples holds that each example is a line that dibber takes, whatever stands around it in the shell.
func TestExamples(t *testing.T) {
	t.Parallel()
	everyCommand(t, func(t *testing.T, s *spec) {
		for _, example := range s.examples {
			lines := dibberLines(example)
			if len(lines) == 0 {
				t.Errorf("%q does not run dibber", example)
			}
			names := false
			for _, line := range lines {
				names = names || strings.HasPrefix(strings.Join(line, " ")+" ", s.fullName()+" ")
				if _, got := (session{}).dry(t.Context(), line...); got.code != 0 {
					t.Errorf("%q: exit %d: %s", line, got.code, got.stderr)
				}
			}
			if !names {
				t.Errorf("%q does not use %s", example, s.fullName())
			}
		}
	})
}

// dibberLines returns the arguments of each dibber in a shell line of pipes, redirections and one command substitution.
func dibberLines(line string) [][]string {
	var lines [][]string
	for _, part := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(`|()"`, r) }) {
		part, _, _ = strings.Cut(part, ">")
		if words := strings.Fields(part); len(words) > 0 && words[0] == "dibber" {
			lines = append(lines, words[1:])
		}
	}
	return lines
}

var suggestion = regexp.MustCompile(`; did you mean (.+)\?\n$`)

// misspelt fails the test unless the run was wrong usage and its one line names one of the candidates that are nearest to word.
func (o outcome) misspelt(t *testing.T, word string, candidates []string, prefix string) {
	t.Helper()
	o.wrongUsage(t, word)
	nearest := slices.MinFunc(candidates, func(a, b string) int { return editDistance(word, a) - editDistance(word, b) })
	m := suggestion.FindStringSubmatch(o.stderr)
	if m == nil {
		t.Errorf("%q names no right spelling; %s is near", o.stderr, nearest)
		return
	}
	meant := strings.TrimPrefix(m[1], prefix)
	if !slices.Contains(candidates, meant) || editDistance(word, meant) != editDistance(word, nearest) {
		t.Errorf("%q suggests %s; %s is nearer", word, meant, nearest)
	}
}

// formatFlags are what wrong usage may stand beside; it looks the same with each.
func formatFlags() [][]string { return [][]string{nil, {"--json"}, {"--ndjson"}, {"-q"}} }

// TestMisspeltFlags holds that a flag that no command has is wrong usage, and that the nearest right spelling is named.
func TestMisspeltFlags(t *testing.T) {
	t.Parallel()
	everyCommand(t, func(t *testing.T, s *spec) {
		name := strings.Fields(s.fullName())
		flags := s.allFlags(newEnv(Stdio{}))
		var spellings []string
		for _, f := range flags {
			for _, n := range f.Names() {
				spellings = append(spellings, dashed(n))
			}
		}
		for _, f := range flags {
			right := dashed(f.Names()[0])
			for _, wrong := range []string{right + "x", right[:3] + right[4:], right[:3] + "-" + right[3:]} {
				if slices.Contains(spellings, wrong) {
					continue
				}
				for _, format := range formatFlags() {
					line := slices.Concat(name, format, []string{wrong + "=1"})
					(session{}).run(t.Context(), line...).misspelt(t, wrong, spellings, "")
				}
			}
		}
		if s.run == nil {
			return
		}
		for _, stray := range []string{"-Z", "-ZZ", "--nothing-is-called-like-this-one", "--="} {
			for _, format := range formatFlags() {
				line := slices.Concat(name, format, []string{"x", stray})
				(session{}).run(t.Context(), line...).wrongUsage(t, "arguments that start with - go after --")
			}
		}
	})
}

// TestMisspeltCommands holds the same of the names of commands.
func TestMisspeltCommands(t *testing.T) {
	t.Parallel()
	root := newEnv(Stdio{}).root
	for _, n := range names(root) {
		(session{}).run(t.Context(), n+"x").misspelt(t, n+"x", names(root), "dibber ")
		(session{}).run(t.Context(), "--json", n+"x").misspelt(t, n+"x", names(root), "dibber ")
	}
	everyCommand(t, func(t *testing.T, s *spec) {
		below := names(s.subcommands)
		for _, n := range below {
			line := append(strings.Fields(s.fullName()), n+"x")
			(session{}).run(t.Context(), line...).misspelt(t, n+"x", below, "dibber "+s.fullName()+" ")
		}
		if s.run == nil {
			(session{}).run(t.Context(), strings.Fields(s.fullName())...).wrongUsage(t, strings.Join(below, ", "))
		}
	})
}

// TestBadValues holds that a value which does not fit its flag is wrong usage that names the flag, the value and what would fit.
func TestBadValues(t *testing.T) {
	t.Parallel()
	everyCommand(t, func(t *testing.T, s *spec) {
		for _, f := range s.allFlags(newEnv(Stdio{})) {
			flag := dashed(f.Names()[0])
			wrong, want := badValue(f)
			if wrong == "" {
				continue
			}
			for _, format := range formatFlags() {
				line := slices.Concat(strings.Fields(s.fullName()), format, []string{flag + "=" + wrong})
				(session{}).run(t.Context(), line...).wrongUsage(t, fmt.Sprintf("%s: %q is not %s", flag, wrong, want))
			}
			if kindOf(f) != kindBool {
				line := append(strings.Fields(s.fullName()), flag)
				(session{}).run(t.Context(), line...).wrongUsage(t, flag+" needs a value")
			}
		}
	})
}

// badValue returns a value that a flag cannot take, and what the complaint says of it; none for flags that take anything.
func badValue(f cli.Flag) (value, want string) {
	switch kind := kindOf(f); kind {
	case kindString, kindList:
		list := words(f)
		if list == nil {
			return "", ""
		}
		wrong := list[len(list)-1] + "x"
		return wrong, "one of " + strings.Join(list, ", ") + didYouMean(wrong, list, "")
	default:
		return "many", string(kind)
	}
}

// TestStrayArguments holds that a command which takes no arguments says so, also when one looks like a flag.
func TestStrayArguments(t *testing.T) {
	t.Parallel()
	everyCommand(t, func(t *testing.T, s *spec) {
		if s.run == nil || s.args != "" {
			return
		}
		for _, format := range formatFlags() {
			for _, stray := range [][]string{{"stray"}, {"--", "--json"}, {"-"}} {
				line := slices.Concat(strings.Fields(s.fullName()), format, stray)
				(session{}).run(t.Context(), line...).wrongUsage(t, fmt.Sprintf("takes no arguments, but got %q", stray[len(stray)-1]))
			}
		}
	})
}
