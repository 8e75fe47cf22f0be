package commands

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

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

// outputFormats are the ways to ask for output.
func outputFormats() [][]string { return [][]string{nil, {"--json"}, {"--ndjson"}, {"-q"}} }

// inEveryFormat runs a line with each format asked for: what is wrong with it looks the same.
func inEveryFormat(t *testing.T, s *spec, line []string, check func(outcome)) {
	t.Helper()
	for _, format := range outputFormats() {
		check((session{}).run(t.Context(), slices.Concat(s.path, format, line)...))
	}
}

// TestMisspeltFlags holds that for a flag which no command has the nearest right spelling is named.
func TestMisspeltFlags(t *testing.T) {
	t.Parallel()
	everyCommand(t, func(t *testing.T, e *env, s *spec) {
		var spellings []string
		for _, f := range s.allFlags(e) {
			for _, n := range f.Names() {
				spellings = append(spellings, dashed(n))
			}
		}
		for i, f := range s.allFlags(e) {
			right := dashed(f.Names()[0])
			for _, wrong := range []string{right + "x", right[:3] + right[4:], right[:3] + "-" + right[3:]} {
				if !slices.Contains(spellings, wrong) { // in one format after the other: there are thousands
					line := slices.Concat(s.path, outputFormats()[i%len(outputFormats())], []string{wrong + "=1"})
					(session{}).run(t.Context(), line...).misspelt(t, wrong, spellings, "")
				}
			}
		}
		if s.run == nil {
			return
		}
		for _, stray := range []string{"-Z", "-ZZ", "--nothing-is-called-like-this-one", "--="} {
			inEveryFormat(t, s, []string{"x", stray}, func(o outcome) { o.wrongUsage(t, "arguments that start with - go after --") })
		}
	})
}

// TestMisspeltCommands holds the same of the names of commands.
func TestMisspeltCommands(t *testing.T) {
	t.Parallel()
	root := names(newEnv(Stdio{}).root)
	for _, n := range root {
		(session{}).run(t.Context(), n+"x").misspelt(t, n+"x", root, "dibber ")
		(session{}).run(t.Context(), "--json", n+"x").misspelt(t, n+"x", root, "dibber ")
	}
	everyCommand(t, func(t *testing.T, _ *env, s *spec) {
		below := names(s.subcommands)
		for _, n := range below {
			line := append(slices.Clone(s.path), n+"x")
			(session{}).run(t.Context(), line...).misspelt(t, n+"x", below, "dibber "+s.fullName()+" ")
		}
		if s.run == nil {
			(session{}).run(t.Context(), s.path...).wrongUsage(t, strings.Join(below, ", "))
		}
	})
}

// TestMisspeltValues holds that a value which does not fit its flag is named with the flag and what would fit.
func TestMisspeltValues(t *testing.T) {
	t.Parallel()
	everyCommand(t, func(t *testing.T, e *env, s *spec) {
		for _, f := range s.allFlags(e) {
			flag := dashed(f.Names()[0])
			if wrong, want := badValue(f); wrong != "" {
				says := fmt.Sprintf("%s: %q is not %s", flag, wrong, want)
				inEveryFormat(t, s, []string{flag + "=" + wrong}, func(o outcome) { o.wrongUsage(t, says) })
			}
		}
	})
}

// badValue returns a value that a flag cannot take, and what the complaint says of it; nothing for flags that take anything.
func badValue(f cli.Flag) (value, want string) {
	switch kind := kindOf(f); kind {
	case kindString, kindList:
		list := words(f)
		if list == nil {
			return "", ""
		}
		last := list[len(list)-1]
		return last + "x", "one of " + strings.Join(list, ", ") + "; did you mean " + last + "?"
	default:
		return "many", string(kind)
	}
}

// TestStrayArguments holds that a command which takes no arguments says so, also when one looks like a flag.
func TestStrayArguments(t *testing.T) {
	t.Parallel()
	everyCommand(t, func(t *testing.T, _ *env, s *spec) {
		if s.run == nil || s.args != "" {
			return
		}
		for _, stray := range [][]string{{"stray"}, {"--", "--json"}, {"-"}} {
			says := fmt.Sprintf("takes no arguments, but got %q", stray[len(stray)-1])
			inEveryFormat(t, s, stray, func(o outcome) { o.wrongUsage(t, says) })
		}
	})
}

// TestHelpEndsWithTheExitCodes holds that the table is the last thing, whichever way help was asked for.
func TestHelpEndsWithTheExitCodes(t *testing.T) {
	t.Parallel()
	text := newText(newEnv(Stdio{}))
	exitHelp(text)
	table := string(text.bytes())
	everyCommand(t, func(t *testing.T, _ *env, s *spec) {
		help := (session{}).run(t.Context(), append(slices.Clone(s.path), "--help")...)
		examples := "\nexamples\n  " + strings.Join(s.examples, "\n  ") + "\n\n"
		if help.code != 0 || !strings.HasSuffix(help.stdout, examples+table) {
			t.Errorf("exit %d; help does not end with the examples and the exit codes:\n%.2000s", help.code, help.stdout)
		}
		for _, line := range [][]string{
			append(slices.Clone(s.path), "-h"), append([]string{"--help"}, s.path...), append(slices.Clone(s.path), "--json", "-h"),
		} {
			if got := (session{}).run(t.Context(), line...); got != help {
				t.Errorf("%q differs from --help: exit %d, stderr %q", line, got.code, got.stderr)
			}
		}
	})
}
