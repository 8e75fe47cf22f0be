package commands

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// invocation is a command line taken apart: which command, which flags under their full names, which positional arguments.
type invocation struct {
	spec  *spec // nil when no command was named
	flags []given
	args  []string
	help  bool
}

// given is one flag on the command line.
type given struct{ name, value string }

// canonical returns the invocation in the one order that urfave/cli understands: command, flags, positional arguments.
func (in *invocation) canonical() []string {
	line := append([]string{"dibber"}, in.spec.path...)
	for _, g := range in.flags {
		line = append(line, "--"+g.name+"="+g.value)
	}
	return append(append(line, "--"), in.args...)
}

// sharedLine returns the shared flags of the command line, save those that choose its own format.
func (in *invocation) sharedLine() []string {
	var line []string
	for _, g := range in.flags {
		f := findFlag(outputFlags(&sharedOptions{}, 0), "--"+g.name)
		if f != nil && !slices.Contains(formats(), g.name) {
			line = append(line, "--"+g.name+"="+g.value)
		}
	}
	return line
}

// parser takes a command line apart. It exists because urfave/cli silently reads every flag after the first positional argument
// as another argument, reports unknown flags on stdout, and cannot say which words were meant.
type parser struct {
	e       *env
	in      invocation
	rest    []string
	ended   bool    // "--" was seen
	pending []typed // flags as they were typed, in step with in.flags
}

// typed is a flag as it stands on the command line.
type typed struct {
	written  string
	isSwitch bool // it was taken to have no value
}

// parse takes the command line apart, or returns a usage error. Flags may stand anywhere up to "--", also before the command.
func parse(e *env, args []string) (*invocation, error) {
	if len(args) > 0 && args[0] == "--version" {
		args = append([]string{"version"}, args[1:]...)
	}
	p := &parser{e: e, rest: args}
	for len(p.rest) > 0 {
		arg := p.rest[0]
		p.rest = p.rest[1:]
		var err error
		switch {
		case p.ended || arg == "-" || !strings.HasPrefix(arg, "-"):
			err = p.positional(arg)
		case arg == "--":
			p.ended = true
		default:
			err = p.flag(arg)
		}
		if err != nil {
			return nil, err
		}
	}
	return &p.in, p.finish()
}

// positional takes a word that is no flag: the name of a command as long as there are any, then an argument.
func (p *parser) positional(arg string) error {
	if !p.ended && len(p.in.args) == 0 {
		if c := child(p.children(), arg); c != nil {
			p.in.spec = c
			return nil
		}
		if arg == "help" && (p.in.spec == nil || p.in.spec.run == nil) {
			p.in.help = true
			return nil
		}
	}
	if p.in.spec == nil || p.in.spec.run == nil {
		return p.unknownCommand(arg)
	}
	p.in.args = append(p.in.args, arg)
	return nil
}

// children returns the commands that may be named next.
func (p *parser) children() []spec {
	if p.in.spec == nil {
		return p.e.root
	}
	return p.in.spec.subcommands
}

func (p *parser) unknownCommand(arg string) error {
	if p.in.spec == nil {
		return usagef("unknown command %q%s", arg, didYouMean(arg, names(p.e.root), "dibber "))
	}
	full := p.in.spec.fullName()
	return usagef("unknown command %q%s", full+" "+arg, didYouMean(arg, names(p.in.spec.subcommands), "dibber "+full+" "))
}

// flag takes one flag and, if it needs one, its value.
func (p *parser) flag(arg string) error {
	if arg == "--help" || arg == "-h" {
		p.in.help = true
		return nil
	}
	written, value, hasValue := strings.Cut(arg, "=")
	f := p.meant(written, hasValue)
	if f == nil {
		return p.unknownFlag(written)
	}
	if !hasValue {
		if kindOf(f) == kindBool {
			value = "true"
		} else if value, hasValue = p.nextValue(); !hasValue {
			return usagef("%s needs a value: %s", written, kindOf(f))
		}
	}
	if err := checkValue(f, value); err != nil {
		return usagef("%s: %w", written, err)
	}
	p.in.flags = append(p.in.flags, given{f.Names()[0], value})
	p.pending = append(p.pending, typed{written, !hasValue})
	return nil
}

// meant returns the flag that is written so. Before the command is known, one name may stand for a switch of one command and for a
// flag with a value of another, as --rendezvous does: then it is the switch if no value follows.
func (p *parser) meant(written string, hasValue bool) cli.Flag {
	flags := p.candidates()
	first := findFlag(flags, written)
	if first == nil {
		return nil
	}
	isSwitch := !hasValue && (len(p.rest) == 0 || strings.HasPrefix(p.rest[0], "-") || child(p.children(), p.rest[0]) != nil)
	for _, f := range flags {
		if (kindOf(f) == kindBool) == isSwitch && findFlag([]cli.Flag{f}, written) != nil {
			return f
		}
	}
	return first
}

// nextValue takes the next word as the value of a flag, unless it is itself a flag of the command or ends the flags.
func (p *parser) nextValue() (string, bool) {
	if len(p.rest) == 0 || p.rest[0] == "--" {
		return "", false
	}
	next := p.rest[0]
	if written, _, _ := strings.Cut(next, "="); findFlag(p.candidates(), written) != nil {
		return "", false
	}
	p.rest = p.rest[1:]
	return next, true
}

// candidates returns the flags that may be meant: those of the command if it is known already, else those of every command that
// may follow; see meant for those of equal names.
func (p *parser) candidates() []cli.Flag {
	if p.in.spec != nil && p.in.spec.run != nil && (len(p.in.spec.subcommands) == 0 || len(p.in.args) > 0) {
		return p.in.spec.allFlags(p.e)
	}
	var flags []cli.Flag
	if p.in.spec != nil {
		flags = p.in.spec.allFlags(p.e)
	}
	walk(p.children(), func(s *spec) { flags = append(flags, s.allFlags(p.e)...) })
	return flags
}

// finish checks what only the whole line can tell.
func (p *parser) finish() error {
	if p.in.help {
		return nil
	}
	if p.in.spec == nil {
		return usagef("no command given; dibber --help lists them")
	}
	if p.in.spec.run == nil {
		return usagef("%s needs a command: %s", p.in.spec.fullName(), strings.Join(names(p.in.spec.subcommands), ", "))
	}
	flags := p.in.spec.allFlags(p.e)
	for i, one := range p.pending {
		f := findFlag(flags, "--"+p.in.flags[i].name)
		switch {
		case f == nil:
			return p.unknownFlag(one.written)
		case one.isSwitch && kindOf(f) != kindBool:
			return usagef("%s needs a value: %s", one.written, kindOf(f))
		}
		if err := checkValue(f, p.in.flags[i].value); err != nil {
			return usagef("%s: %w", one.written, err)
		}
	}
	return nil
}

// unknownFlag says what was probably meant by a flag that nobody declares.
func (p *parser) unknownFlag(written string) error {
	flags := p.candidates()
	if p.in.spec != nil && p.in.spec.run != nil {
		flags = p.in.spec.allFlags(p.e)
	}
	bare := strings.TrimLeft(written, "-")
	message := fmt.Sprintf("unknown flag %s", written)
	if p.in.spec != nil {
		message += " for " + p.in.spec.fullName()
	}
	var spellings []string
	for _, f := range flags {
		for _, name := range f.Names() {
			if name == bare {
				return usagef("%s; write %s", message, dashed(name))
			}
			if len(name) > 1 { // a letter is near to anything short
				spellings = append(spellings, dashed(name))
			}
		}
	}
	if letters, ok := separate(flags, written); ok {
		return usagef("%s; write %s", message, letters)
	}
	if near := didYouMean("--"+bare, spellings, ""); near != "" {
		return usagef("%s%s", message, near)
	}
	return usagef("%s; arguments that start with - go after --", message)
}

// separate spells a cluster of one-letter flags as dibber wants it, if it is one.
func separate(flags []cli.Flag, written string) (string, bool) {
	if strings.HasPrefix(written, "--") {
		return "", false
	}
	var letters []string
	for _, c := range strings.TrimPrefix(written, "-") {
		letter := "-" + string(c)
		if findFlag(flags, letter) == nil {
			return "", false
		}
		letters = append(letters, letter)
	}
	return strings.Join(letters, " "), true
}

// findFlag returns the flag that is written so, with its dashes: two before a name, one before a letter.
func findFlag(flags []cli.Flag, written string) cli.Flag {
	for _, f := range flags {
		if slices.ContainsFunc(f.Names(), func(name string) bool { return dashed(name) == written }) {
			return f
		}
	}
	return nil
}

// dashed returns a flag's name as it is written on the command line.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}
