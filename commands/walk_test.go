package commands

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// everyCommand calls f with each command that is shown, in an env of its own.
func everyCommand(t *testing.T, f func(t *testing.T, e *env, s *spec)) {
	t.Helper()
	walkAll(newEnv(Stdio{}).root, func(s *spec) {
		t.Run(s.fullName(), func(t *testing.T) {
			t.Parallel()
			e := newEnv(session{}.stdio(&bytes.Buffer{}, &bytes.Buffer{}))
			f(t, e, find(e.root, s.path))
		})
	})
}

func TestHelpOfEveryCommand(t *testing.T) {
	t.Parallel()
	everyCommand(t, func(t *testing.T, e *env, s *spec) {
		for _, args := range [][]string{append(slices.Clone(s.path), "--help"), append([]string{"help"}, s.path...)} {
			got := session{}.run(t.Context(), args...)
			if got.code != 0 || got.stderr != "" {
				t.Fatalf("%q: exit %d, stderr %q", args, got.code, got.stderr)
			}
			wanted := slices.Clone(s.examples)
			for _, m := range exitTable() {
				wanted = append(wanted, fmt.Sprintf("%5d  %s\n", m.code, m.text))
			}
			for _, f := range s.allFlags(e) {
				wanted = append(wanted, "  "+dashed(f.Names()[0]), "[$"+envName(s, f)+"]")
			}
			for _, w := range append(wanted, synopsisOf(s), s.usage) {
				if !strings.Contains(got.stdout, w) {
					t.Errorf("%q lacks %q", args, w)
				}
			}
		}
	})
}

// TestExamplesOfEveryCommand holds that there are three and that each is a valid command line of the command it explains.
func TestExamplesOfEveryCommand(t *testing.T) {
	t.Parallel()
	everyCommand(t, func(t *testing.T, _ *env, s *spec) {
		if len(s.examples) != 3 {
			t.Errorf("%d examples, want 3", len(s.examples))
		}
		for _, example := range s.examples {
			explained := false
			for _, line := range dibberLines(example) {
				e := newEnv(session{}.stdio(&bytes.Buffer{}, &bytes.Buffer{}))
				in, err := parse(e, line)
				if err != nil {
					t.Errorf("%s: %v", example, err)
					continue
				}
				explained = explained || strings.HasPrefix(in.spec.fullName()+" ", s.fullName()+" ")
				app := e.app(in, func(c *cli.Context) error { return e.prepare(c, in) })
				if err := app.RunContext(t.Context(), in.canonical()); err != nil {
					t.Errorf("%s: %v", example, err)
				}
			}
			if !explained {
				t.Errorf("%s: is not about %s", example, s.fullName())
			}
		}
	})
}

// dibberLines returns the arguments of each call of dibber in a line of shell.
func dibberLines(line string) [][]string {
	var lines [][]string
	var words []string
	var word strings.Builder
	quote := rune(0)
	end := func() {
		if word.Len() > 0 {
			words = append(words, word.String())
			word.Reset()
		}
	}
	command := func() {
		end()
		if i := slices.Index(words, "dibber"); i >= 0 {
			lines = append(lines, words[i+1:])
		}
		words = nil
	}
	for _, c := range line {
		switch {
		case quote == '\'' && c != quote:
			word.WriteRune(c)
		case c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case strings.ContainsRune("|><;&()$", c):
			command()
		case c == ' ' && quote != '\'':
			end()
		default:
			word.WriteRune(c)
		}
	}
	command()
	return lines
}

// TestWrongUsageOfEveryCommand holds that every command answers wrong flags and wrong values with exit 2 and one line.
func TestWrongUsageOfEveryCommand(t *testing.T) {
	t.Parallel()
	everyCommand(t, func(t *testing.T, e *env, s *spec) {
		wrong := func(want string, args ...string) {
			t.Helper()
			session{}.run(t.Context(), append(slices.Clone(s.path), args...)...).wrongUsage(t, want)
		}
		wrong("--no-such-flag", "--no-such-flag")
		for _, f := range s.allFlags(e) {
			name := dashed(f.Names()[0])
			if kindOf(f) != kindBool {
				wrong(name+" needs a value", name)
			}
			if checkValue(f, "?!") != nil {
				wrong(name+`: "?!" is not`, name+"=?!")
			}
		}
	})
}

// TestDeclarations holds what the framework takes for granted of every command.
func TestDeclarations(t *testing.T) {
	t.Parallel()
	everyCommand(t, func(t *testing.T, e *env, s *spec) {
		if s.usage == "" || strings.HasSuffix(s.usage, ".") || strings.ToLower(s.usage[:1]) != s.usage[:1] {
			t.Errorf("usage is %q, want one line, lower case, no full stop", s.usage)
		}
		if (s.run == nil) != (s.doc == nil) || s.run == nil && len(s.subcommands) == 0 {
			t.Error("a command has a run and a document, or commands below it")
		}
		seen := map[string]bool{}
		for _, f := range s.allFlags(e) {
			for _, name := range f.Names() {
				if seen[name] {
					t.Errorf("two flags are called %s", dashed(name))
				}
				seen[name] = true
			}
			if r, ok := f.(cli.RequiredFlag); ok && r.IsRequired() {
				t.Errorf("--%s: urfave/cli answers a missing required flag with help; check it in validate", f.Names()[0])
			}
			if kindOf(f) == kindList && len(f.Names()) > 1 {
				t.Errorf("--%s: a list flag with an alias takes its values twice", f.Names()[0])
			}
		}
		if s.run == nil {
			return
		}
		for _, part := range append([]event{{"result", s.doc}}, s.events...) {
			for _, field := range append(jsonFields(t, envelope{Event: "x"}), jsonFields(t, verdict{})...) {
				if slices.Contains(jsonFields(t, part.payload), field) && (part.name == "result" || field != "ok" && field != "error") {
					t.Errorf("%s: the field %s belongs to the frame", part.name, field)
				}
			}
		}
	})
}

// jsonFields lists the fields of a document.
func jsonFields(t *testing.T, doc any) []string {
	t.Helper()
	line, err := encode(doc)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(line, &fields); err != nil {
		t.Fatal(err)
	}
	return slices.Collect(maps.Keys(fields))
}

// TestEveryFlag holds that each flag writes the one option field that its row names and that the test in the row is there.
func TestEveryFlag(t *testing.T) {
	t.Parallel()
	rows := map[string]flagRow{}
	for _, r := range flagRows() {
		rows[r.of+" --"+r.flag] = r
	}
	used := map[string]bool{}
	walk(newEnv(Stdio{}).root, func(s *spec) {
		for i, f := range s.allFlags(newEnv(Stdio{})) {
			of := f.(cli.CategorizableFlag).GetCategory()
			if of == "" {
				of = s.fullName()
			}
			key := of + " --" + f.Names()[0]
			row, ok := rows[key]
			if !ok {
				t.Errorf("%s has no row in flagRows", key)
				continue
			}
			if got := effect(t, s.path, i); !slices.Equal(got, []string{row.field}) {
				t.Errorf("%s of %s changes the options %v, want %s", key, s.fullName(), got, row.field)
			}
			if !used[key] {
				row.checkTest(t, s, f)
			}
			used[key] = true
		}
	})
	for key := range rows {
		if !used[key] {
			t.Errorf("flagRows has %s, which no command has", key)
		}
	}
}

// effect gives flag number i of a command a value that is not its default and returns the option fields that this changes.
func effect(t *testing.T, path []string, i int) []string {
	t.Helper()
	e := newEnv(Stdio{})
	s := find(e.root, path)
	set := flag.NewFlagSet("", flag.ContinueOnError)
	flags := s.allFlags(e)
	for _, f := range flags {
		if err := f.Apply(set); err != nil {
			t.Fatal(err)
		}
	}
	options := func() map[string]string {
		fields := map[string]string{}
		flatten(fields, "", reflect.ValueOf(e.shared))
		if s.options != nil {
			flatten(fields, "", reflect.ValueOf(s.options).Elem())
		}
		return fields
	}
	before := options()
	name := flags[i].Names()[0]
	if err := set.Set(name, sampleValue(flags[i], set.Lookup(name).Value.String())); err != nil {
		t.Fatal(err)
	}
	var changed []string
	for field, value := range options() {
		if before[field] != value {
			changed = append(changed, field)
		}
	}
	return changed
}

// flatten writes the fields of a struct, and of those in it, as text.
func flatten(fields map[string]string, prefix string, v reflect.Value) {
	for i := range v.NumField() {
		name := prefix + v.Type().Field(i).Name
		if v.Type().Field(i).Anonymous {
			flatten(fields, prefix, v.Field(i))
			continue
		}
		if v.Field(i).Kind() == reflect.Struct {
			flatten(fields, name+".", v.Field(i))
			continue
		}
		fields[name] = fmt.Sprintf("%#v", v.Field(i))
	}
}

// sampleValue returns a value that the flag takes and that is not its default.
func sampleValue(f cli.Flag, def string) string {
	switch kindOf(f) {
	case kindBool:
		return "true"
	case kindDuration:
		return "77s"
	case kindString, kindList:
		for _, w := range words(f) {
			if w != def {
				return w
			}
		}
	case kindInt, kindUint, kindFloat:
	}
	return "77"
}

// checkTest fails the test unless the test that the row names is there and speaks of the flag.
func (r flagRow) checkTest(t *testing.T, s *spec, f cli.Flag) {
	t.Helper()
	dir, name, elsewhere := strings.Cut(r.test, ".Test")
	var text string
	switch {
	case strings.HasSuffix(r.test, ".txtar"):
		data, err := os.ReadFile(filepath.Join("../testdata/script", r.test))
		if err != nil {
			t.Errorf("%s --%s: %v", r.of, r.flag, err)
			return
		}
		for line := range strings.Lines(string(data)) {
			if strings.Contains(line, "dibber ") && !strings.HasPrefix(line, "code 2 ") && (shared(f) || strings.Contains(line, s.fullName())) {
				text += line
			}
		}
	case elsewhere:
		// A test of the library shows the effect; it does not know the flag.
		if testSource(t, "../"+dir, "Test"+name) == "" {
			t.Errorf("%s --%s: there is no %s", r.of, r.flag, r.test)
		}
		return
	default:
		text = testSource(t, ".", r.test)
	}
	spelled := slices.ContainsFunc(f.Names(), func(name string) bool {
		for _, after := range []string{" ", "=", "\n", `"`, "`", ":"} {
			if strings.Contains(text, dashed(name)+after) {
				return true
			}
		}
		return false
	})
	if !spelled {
		t.Errorf("%s --%s: %s does not use it", r.of, r.flag, r.test)
	}
}

// testSource returns the source of a test function in a folder, nothing if there is none.
func testSource(t *testing.T, dir, name string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		fset := token.NewFileSet()
		file, err := goparser.ParseFile(fset, path, data, goparser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == name && f.Recv == nil {
				return string(data[fset.Position(f.Pos()).Offset:fset.Position(f.End()).Offset])
			}
		}
	}
	return ""
}
