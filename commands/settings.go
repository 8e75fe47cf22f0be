package commands

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// origin says which kind of place a setting came from; the smaller one wins.
type origin int

// The origins of a setting, in the order of their precedence.
const (
	fromFlag origin = iota
	fromEnv
	fromTable // the command's table in the file
	fromFile  // the top of the file
	fromDefault
)

func (o origin) String() string { return [...]string{"flag", "env", "file", "file", "default"}[o] }

// setting is the value of one flag for one run, and where it came from.
type setting struct {
	flag   cli.Flag
	values []string // as on the command line; nil for a default
	origin origin
	place  string // the flag, the variable, or file:line; empty for a default
}

// shared reports whether a flag is configured once for all commands.
func shared(f cli.Flag) bool {
	group := f.(cli.CategorizableFlag).GetCategory()
	return group == groupOutput || group == groupHost || group == groupSources || group == groupStore || group == groupLookup
}

// envName returns the environment variable that sets a flag: DIBBER_<FLAG> if it is shared, else DIBBER_<COMMAND>_<FLAG>.
func envName(s *spec, f cli.Flag) string {
	parts := []string{"dibber"}
	if !shared(f) {
		parts = append(parts, s.path...)
	}
	parts = append(parts, f.Names()[0])
	return strings.ToUpper(strings.ReplaceAll(strings.Join(parts, "_"), "-", "_"))
}

// settle finds the origin of every setting of a command: command line, then environment, then configuration file, then default.
func (e *env) settle(s *spec, line []given, conf *configFile) ([]setting, error) {
	var all []setting
	for _, f := range s.allFlags(e) {
		one, err := e.settleFlag(s, f, line, conf)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return oneFormat(all), nil
}

func (e *env) settleFlag(s *spec, f cli.Flag, line []given, conf *configFile) (setting, error) {
	one := setting{flag: f, origin: fromDefault}
	name := f.Names()[0]
	for _, g := range line {
		if g.name == name {
			one.values = append(one.values, g.value)
			one.origin, one.place = fromFlag, dashed(name)
		}
	}
	if one.origin == fromFlag {
		return one, nil
	}
	if value, ok := e.lookup(envName(s, f)); ok {
		if err := checkValue(f, value); err != nil {
			return one, usagef("%s: %w", envName(s, f), err)
		}
		return setting{f, []string{value}, fromEnv, envName(s, f)}, nil
	}
	if entry, from := conf.lookup(s, f); from != fromDefault {
		return setting{f, entry.values, from, fmt.Sprintf("%s:%d", conf.path, entry.line)}, nil
	}
	return one, nil
}

// formats names the flags that choose what stdout carries; no two of them go together.
func formats() []string { return []string{"json", "ndjson", "quiet"} }

// oneFormat keeps a format asked for in one place from clashing with another asked for in a place that counts less: --ndjson on
// the command line replaces json = true in the file.
func oneFormat(all []setting) []setting {
	best := fromDefault
	asked := func(s setting) bool {
		if len(s.values) == 0 || !slices.Contains(formats(), s.flag.Names()[0]) {
			return false
		}
		on, err := strconv.ParseBool(s.values[len(s.values)-1])
		return on && err == nil
	}
	for _, s := range all {
		if asked(s) {
			best = min(best, s.origin)
		}
	}
	for i, s := range all {
		if asked(s) && s.origin > best {
			all[i] = setting{flag: s.flag, origin: fromDefault}
		}
	}
	return all
}

// setter is what a flag is set through: a cli.Context, or a flag.FlagSet.
type setter interface {
	Set(name, value string) error
}

// apply writes the settings that did not come from the command line into the options.
func apply(to setter, all []setting) error {
	for _, s := range all {
		if s.origin == fromFlag {
			continue
		}
		values := s.values
		if kindOf(s.flag) == kindList && s.origin != fromDefault && len(values) == 0 {
			values = []string{""} // an empty list in the file empties the default
		}
		for _, v := range values {
			if err := to.Set(s.flag.Names()[0], v); err != nil {
				return usagef("%s: %w", s.place, err)
			}
		}
	}
	return nil
}
