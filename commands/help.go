package commands

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// printHelp prints the help of a command, or of dibber itself, on stdout, because it was asked for.
func (e *env) printHelp(s *spec) int {
	t := newText(e)
	if s == nil {
		e.programHelp(t)
	} else {
		e.commandHelp(t, s)
	}
	_, _ = e.stdio.Out.Write(t.bytes()) // a reader that went away is not worth a word
	return int(exitOK)
}

func (e *env) programHelp(t *text) {
	t.line("dibber makes peers find and reach each other over libp2p")
	t.gap()
	t.line("usage: dibber COMMAND [FLAGS] [ARGUMENTS]")
	t.gap()
	t.line("commands")
	listCommands(t, e.root)
	t.gap()
	t.line("dibber COMMAND --help tells more, with examples")
	exitHelp(t)
}

func (e *env) commandHelp(t *text, s *spec) {
	t.line("dibber %s: %s", s.fullName(), s.usage)
	t.gap()
	t.line("usage: %s", synopsisOf(s))
	for paragraph := range strings.SplitSeq(strings.TrimSpace(s.about), "\n\n") {
		if paragraph != "" {
			t.gap()
			t.line("%s", paragraph)
		}
	}
	if len(s.subcommands) > 0 {
		t.gap()
		t.line("commands")
		listCommands(t, s.subcommands)
	}
	e.flagHelp(t, s)
	if len(s.examples) > 0 {
		t.gap()
		t.line("examples")
		for _, x := range s.examples {
			t.line("  %s", x)
		}
	}
	exitHelp(t)
}

// synopsisOf returns the shape of a command line.
func synopsisOf(s *spec) string {
	line := "dibber " + s.fullName()
	if s.run == nil {
		return line + " COMMAND"
	}
	return strings.TrimSpace(line + " [FLAGS] " + s.args)
}

func listCommands(t *text, specs []spec) {
	for i := range specs {
		if !specs[i].hidden {
			t.field("  "+specs[i].name, "%s", specs[i].usage)
		}
	}
}

// flagHelp lists the flags of a command under their headings, each with its default and environment variable.
func (e *env) flagHelp(t *text, s *spec) {
	for _, group := range []string{"", groupLookup, groupStore, groupChain, groupSources, groupHost, groupOutput} {
		first := true
		for _, f := range s.allFlags(e) {
			if f.(cli.CategorizableFlag).GetCategory() != group {
				continue
			}
			if first {
				t.gap()
				t.line("%s", strings.TrimSpace(group+" flags"))
				first = false
			}
			label, usage := describeFlag(f)
			t.field("  "+label, "%s [$%s]", usage, envName(s, f))
		}
	}
}

// describeFlag returns how a flag is written and what it does, with its default.
func describeFlag(f cli.Flag) (label, usage string) {
	doc := f.(cli.DocGenerationFlag)
	placeholder, usage := placeholder(doc.GetUsage())
	var spellings []string
	for _, name := range f.Names() {
		spellings = append(spellings, dashed(name))
	}
	label = strings.Join(spellings, ", ")
	if kindOf(f) != kindBool {
		if placeholder == "" {
			placeholder = "VALUE"
		}
		label += " " + placeholder
	}
	if w := words(f); len(w) > 0 && !strings.Contains(usage, w[0]) {
		usage += ": " + strings.Join(w, ", ")
	}
	if d := defaultText(f); d != "" {
		usage += " (default: " + d + ")"
	}
	return label, usage
}

// placeholder takes the backquoted word out of a usage line: it stands for the flag's value.
func placeholder(usage string) (word, plain string) {
	before, rest, found := strings.Cut(usage, "`")
	if !found {
		return "", usage
	}
	word, after, _ := strings.Cut(rest, "`")
	return word, before + word + after
}

// defaultText returns the default of a flag as it would be typed, nothing if it is empty, zero or false.
func defaultText(f cli.Flag) string {
	switch d := strings.Trim(f.(cli.DocGenerationFlag).GetValue(), `"`); d {
	case "0", "0s", "false", "":
		return ""
	default:
		return d
	}
}

func exitHelp(t *text) {
	t.gap()
	t.line("exit codes")
	for _, m := range exitTable() {
		t.field(fmt.Sprintf("  %3d", m.code), "%s", m.text)
	}
}
