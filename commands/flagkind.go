package commands

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// flagKind is the type of value a flag takes.
type flagKind string

// The kinds of flags.
const (
	kindBool     flagKind = "true or false"
	kindInt      flagKind = "a whole number"
	kindUint     flagKind = "a whole number of at least 0"
	kindFloat    flagKind = "a number"
	kindString   flagKind = "a string"
	kindDuration flagKind = "a duration such as 10s or 1m30s"
	kindList     flagKind = "a list of strings"
)

// kindOf returns the kind of a flag. Commands use no other types of cli flags than these; a test walks them all.
func kindOf(f cli.Flag) flagKind {
	switch f := f.(type) {
	case *cli.BoolFlag:
		return kindBool
	case *cli.IntFlag, *cli.Int64Flag:
		return kindInt
	case *cli.UintFlag, *cli.Uint64Flag:
		return kindUint
	case *cli.Float64Flag:
		return kindFloat
	case *cli.DurationFlag:
		return kindDuration
	case *cli.GenericFlag:
		if _, ok := f.Destination.(*listValue); ok {
			return kindList
		}
	}
	return kindString
}

// words returns the only values a flag takes, nil if it takes any.
func words(f cli.Flag) []string {
	if g, ok := f.(*cli.GenericFlag); ok {
		if w, ok := g.Destination.(interface{ choices() []string }); ok {
			return w.choices()
		}
	}
	return nil
}

// checkValue says what is wrong with a value before it is handed to the flag, in words that fit a command line, an environment
// variable and a configuration file alike.
func checkValue(f cli.Flag, value string) error {
	kind := kindOf(f)
	var err error
	switch kind {
	case kindBool:
		_, err = strconv.ParseBool(value)
	case kindInt:
		_, err = strconv.ParseInt(value, 0, 64)
	case kindUint:
		_, err = strconv.ParseUint(value, 0, 64)
	case kindFloat:
		_, err = strconv.ParseFloat(value, 64)
	case kindDuration:
		_, err = time.ParseDuration(value)
	case kindList:
		for _, v := range splitList(value) {
			err = errors.Join(err, checkWord(words(f), v))
		}
		return err
	case kindString:
		return checkWord(words(f), value)
	}
	if err != nil {
		return fmt.Errorf("%q is not %s", value, kind)
	}
	return nil
}

// checkWord returns an error if words is not empty and lacks v.
func checkWord(words []string, v string) error {
	if len(words) == 0 || slices.Contains(words, v) {
		return nil
	}
	return fmt.Errorf("%q is not one of %s%s", v, strings.Join(words, ", "), didYouMean(v, words, ""))
}

// listValue is a flag that may be repeated and whose values may be separated by commas. What the command line gives replaces the
// default instead of adding to it.
type listValue struct {
	dest  *[]string
	words []string
	given bool
}

// listFlag declares a repeatable flag. The current content of dest is its default; words, if any, are the only values it takes.
// A list flag has no alias: the library would copy its value from one name to the other and so double it.
func listFlag(category, name, usage string, dest *[]string, words ...string) cli.Flag {
	v := &listValue{dest: dest, words: words}
	return &cli.GenericFlag{Category: category, Name: name, Usage: usage, Value: v, Destination: v}
}

// Set adds the values of one occurrence.
func (l *listValue) Set(s string) error {
	if !l.given {
		*l.dest, l.given = nil, true
	}
	*l.dest = append(*l.dest, splitList(s)...)
	return nil
}

func (l *listValue) String() string {
	if l == nil || l.dest == nil {
		return ""
	}
	return strings.Join(*l.dest, ",")
}

// Get returns the list, as flag.Getter.
func (l *listValue) Get() any { return slices.Clone(*l.dest) }

func (l *listValue) choices() []string { return l.words }

// splitList splits at commas and drops what is empty.
func splitList(s string) []string {
	return slices.DeleteFunc(strings.Split(s, ","), func(v string) bool { return v == "" })
}

// choiceValue is a flag that takes one of a few words.
type choiceValue struct {
	dest  *string
	words []string
}

// choiceFlag declares a flag that takes one of words. The current content of dest is its default.
func choiceFlag(category, name, usage string, dest *string, words ...string) *cli.GenericFlag {
	v := &choiceValue{dest: dest, words: words}
	return &cli.GenericFlag{Category: category, Name: name, Usage: usage, Value: v, Destination: v}
}

// Set stores the word.
func (c *choiceValue) Set(s string) error {
	if err := checkWord(c.words, s); err != nil {
		return err
	}
	*c.dest = s
	return nil
}

func (c *choiceValue) String() string {
	if c == nil || c.dest == nil {
		return ""
	}
	return *c.dest
}

// Get returns the word, as flag.Getter.
func (c *choiceValue) Get() any { return *c.dest }

func (c *choiceValue) choices() []string { return c.words }
