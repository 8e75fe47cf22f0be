package commands

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// optionsAfter runs a line up to where the command's work would begin and returns the option fields that it then has.
func (s session) optionsAfter(t *testing.T, path []string, flags ...string) map[string]string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	e := newEnv(s.stdio(&stdout, &stderr))
	command := find(e.root, path)
	command.validate = func([]string) error { return nil }
	command.run = func(context.Context, *output) (any, error) { return nil, nil }
	if code := e.main(t.Context(), slices.Concat(path, flags)); code != 0 {
		t.Fatalf("%q: exit %d: %s", flags, code, stderr.String())
	}
	fields := map[string]string{}
	flatten(fields, "", reflect.ValueOf(e.shared))
	if command.options != nil {
		flatten(fields, "", reflect.ValueOf(command.options).Elem())
	}
	return fields
}

// inTOML writes the value of a flag as a configuration file has it.
func inTOML(f cli.Flag, value string) string {
	switch kindOf(f) {
	case kindString, kindDuration:
		return fmt.Sprintf("%s = %q\n", f.Names()[0], value)
	case kindList:
		return fmt.Sprintf("%s = [%q]\n", f.Names()[0], value)
	default:
		return fmt.Sprintf("%s = %s\n", f.Names()[0], value)
	}
}

// TestEveryFlagFromEverywhere holds that the command line, the environment and the configuration file set the same one field, the
// one that the flag's row names.
func TestEveryFlagFromEverywhere(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty.toml")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	first := firstWith()
	field := map[string]string{}
	for _, r := range flagRows() {
		field[r.of+" --"+r.flag] = r.field
	}
	everyCommand(t, func(t *testing.T, e *env, s *spec) {
		if s.run == nil {
			return
		}
		before := session{}.optionsAfter(t, s.path)
		for _, f := range s.allFlags(e) {
			name, category := f.Names()[0], f.(cli.CategorizableFlag).GetCategory()
			if category == "" {
				category = s.fullName()
			}
			value := sampleValue(f, defaultText(f))
			if name == "config" {
				value = empty
			}
			want := session{}.optionsAfter(t, s.path, dashed(name)+"="+value)
			if got := changed(before, want); !slices.Equal(got, []string{field[category+" --"+name]}) {
				t.Errorf("--%s sets the options %v, want %s", name, got, field[category+" --"+name])
			}
			if first[category+" --"+name] != s.fullName() {
				continue // the same flag, of another command
			}
			places := map[string]session{"the environment": {env: map[string]string{envName(s, f): value}}}
			if name != "config" {
				places["the command's table"], _ = configured(t, fmt.Sprintf("[%s]\n%s", strings.Join(s.path, "."), inTOML(f, value)))
			}
			if shared(f) && name != "config" {
				places["the top of the file"], _ = configured(t, inTOML(f, value))
			}
			for place, with := range places {
				if got := with.optionsAfter(t, s.path); len(changed(want, got)) > 0 {
					t.Errorf("--%s: %s sets other options than the command line: %v", name, place, changed(want, got))
				}
			}
		}
	})
}

// firstWith is the first command that has a flag, by what defines the flag: its category, or else the command itself.
func firstWith() map[string]string {
	first := map[string]string{}
	e := newEnv(Stdio{})
	walkAll(e.root, func(s *spec) {
		for _, f := range s.allFlags(e) {
			category := f.(cli.CategorizableFlag).GetCategory()
			if category == "" {
				category = s.fullName()
			}
			if key := category + " --" + f.Names()[0]; s.run != nil && first[key] == "" {
				first[key] = s.fullName()
			}
		}
	})
	return first
}

// changed lists the fields that differ.
func changed(before, after map[string]string) []string {
	var list []string
	for name, value := range after {
		if before[name] != value {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}
