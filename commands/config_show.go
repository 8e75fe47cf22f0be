package commands

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// configShowOptions are the flags and arguments of config show.
type configShowOptions struct {
	Origin  bool
	Command []string // the line of the command to show: its names, then flags; empty means all commands
}

// configShowDoc is every setting with where it came from.
type configShowDoc struct {
	File     *string      `json:"file"` // the configuration file that was read; null if there is none
	Settings []settingDoc `json:"settings"`
	origin   bool
}

// settingDoc is one setting. A shared setting has no command and counts for all that do not set it themselves.
type settingDoc struct {
	Command *string `json:"command"`
	Key     string  `json:"key"`
	Value   any     `json:"value"`  // null: the default differs from command to command
	Origin  string  `json:"origin"` // flag, env, file or default
	Place   *string `json:"place"`  // the flag, the variable, or file:line; null for a default
}

func newConfig(e *env) spec {
	var o configShowOptions
	return spec{
		name: "config", usage: "show the settings and where they come from",
		about: `Settings come from flags, else from the environment, else from a TOML file, else they have their default.
Flags that many commands share are keys at the top of the file; each command has a table for the rest.`,
		examples: configExamples(),
		subcommands: []spec{{
			name: "show", usage: "print each setting of one command, or of all", args: "[command [-- flags]]",
			about:    "Flags after -- are read as those of the command.",
			examples: configExamples(),
			flags: []cli.Flag{&cli.BoolFlag{
				Name: "origin", Usage: "print where each value came from, too", Destination: &o.Origin,
			}},
			options: &o, doc: configShowDoc{}, complete: func([]string) []string { return runnable(e) },
			validate: func(args []string) error {
				o.Command = args
				return nil
			},
			run: func(context.Context, *output) (any, error) { return runConfigShow(e, o) },
		}},
	}
}

func configExamples() []string {
	return []string{
		"dibber config show",
		"dibber config show --origin version",
		"dibber config show --json version -- --timeout 5s",
	}
}

// runConfigShow settles every setting as a run of the command would, in an env of its own for each command, because flags write
// into options.
func runConfigShow(e *env, o configShowOptions) (any, error) {
	conf, err := e.loadConfig()
	if err != nil {
		return nil, err
	}
	doc := configShowDoc{File: known(conf.path), origin: o.Origin}
	if len(o.Command) > 0 {
		in, err := parse(newEnv(e.stdio), append(slices.Clone(e.line), o.Command...))
		if err != nil {
			return nil, err
		}
		doc.Settings, err = showCommand(e, in.spec, in.flags, conf)
		return doc, err
	}
	if doc.Settings, err = showShared(e, conf); err != nil {
		return nil, err
	}
	var failed error
	walk(e.root, func(s *spec) {
		all, err := showCommand(e, s, nil, conf)
		if err != nil && failed == nil {
			failed = err
		}
		doc.Settings = append(doc.Settings, slices.DeleteFunc(all, func(d settingDoc) bool { return d.Command == nil })...)
	})
	return doc, failed
}

// showCommand returns all settings of one command; those that are shared and not set in its own table carry no command.
func showCommand(e *env, s *spec, line []given, conf *configFile) ([]settingDoc, error) {
	fresh := newEnv(e.stdio)
	s = find(fresh.root, s.path)
	return fresh.show(s, line, conf)
}

// showShared returns the shared settings of all commands.
func showShared(e *env, conf *configFile) ([]settingDoc, error) {
	fresh := newEnv(e.stdio)
	in, err := parse(fresh, append([]string{"version"}, e.line...))
	if err != nil {
		return nil, err
	}
	all := &spec{run: in.spec.run}
	defaults := map[string]map[string]bool{}
	walk(fresh.root, func(s *spec) {
		for _, f := range s.allFlags(fresh) {
			name := f.Names()[0]
			if !shared(f) {
				continue
			}
			if defaults[name] == nil {
				defaults[name] = map[string]bool{}
				if f.(cli.CategorizableFlag).GetCategory() != groupOutput {
					all.flags = append(all.flags, f)
				}
			}
			defaults[name][defaultText(f)] = true
		}
	})
	settings, err := fresh.show(all, in.flags, conf)
	for i, d := range settings {
		if d.Origin == fromDefault.String() && len(defaults[d.Key]) > 1 {
			settings[i].Value = nil
		}
	}
	return settings, err
}

// show settles the flags of a command and reads their values back.
func (e *env) show(s *spec, line []given, conf *configFile) ([]settingDoc, error) {
	all, err := e.settle(s, line, conf)
	if err != nil {
		return nil, err
	}
	set := flag.NewFlagSet("", flag.ContinueOnError)
	for _, one := range all {
		if err := one.flag.Apply(set); err != nil {
			return nil, fmt.Errorf("read the setting %s: %w", one.flag.Names()[0], err)
		}
	}
	if err := apply(set, all); err != nil {
		return nil, err
	}
	var docs []settingDoc
	for _, one := range all {
		name := one.flag.Names()[0]
		if one.origin == fromFlag {
			for _, v := range one.values {
				if err := set.Set(name, v); err != nil {
					return nil, usagef("%s: %w", one.place, err)
				}
			}
		}
		d := settingDoc{Key: name, Value: settingValue(set.Lookup(name)), Origin: one.origin.String(), Place: known(one.place)}
		if !shared(one.flag) || one.origin == fromTable {
			d.Command = known(s.fullName())
		}
		docs = append(docs, d)
	}
	return docs, nil
}

// settingValue returns the value of a flag as a JSON document carries it.
func settingValue(f *flag.Flag) any {
	getter, ok := f.Value.(flag.Getter)
	if !ok {
		return f.Value.String()
	}
	if d, ok := getter.Get().(time.Duration); ok {
		return d.String()
	}
	return getter.Get()
}

func (d configShowDoc) renderText(t *text) {
	if d.File != nil {
		t.line("# %s", *d.File)
	}
	header := []string{"setting", "value"}
	if d.origin {
		header = append(header, "origin")
	}
	var rows [][]string
	for _, s := range d.Settings {
		row := []string{s.Key, settingText(s.Value)}
		if s.Command != nil {
			row[0] = strings.ReplaceAll(*s.Command, " ", ".") + "." + s.Key
		}
		if d.origin {
			place := s.Origin
			if s.Place != nil {
				place += " " + *s.Place
			}
			row = append(row, place)
		}
		rows = append(rows, row)
	}
	t.table(header, rows)
}

// settingText writes a value as a person reads it.
func settingText(value any) string {
	switch v := value.(type) {
	case nil:
		return "by command"
	case []string:
		return strings.Join(v, ",")
	default:
		return fmt.Sprint(v)
	}
}
