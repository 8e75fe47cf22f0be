package commands

import (
	"context"
	"fmt"
	"strings"
)

// manOptions are the arguments of man.
type manOptions struct{ Command []string }

// manDoc is a manual page.
type manDoc struct {
	Page string `json:"page"` // roff with the man macros
}

func newMan(e *env) spec {
	var o manOptions
	return spec{
		name: "man", usage: "print the manual page of dibber or of one command", args: "[command]",
		examples: []string{
			"dibber man | man -l -",
			"dibber man version | man -l -",
			"dibber man > dibber.1",
		},
		options: &o, doc: manDoc{}, complete: func([]string) []string { return runnable(e) },
		validate: func(args []string) error {
			o.Command = args
			if len(args) > 0 && find(e.root, args) == nil {
				return usagef("unknown command %q%s", strings.Join(args, " "), didYouMean(args[0], names(e.root), ""))
			}
			return nil
		},
		run: func(context.Context, *output) (any, error) { return manDoc{Page: manPage(e, o.Command)}, nil },
	}
}

func (d manDoc) renderText(t *text) { t.line("%s", strings.TrimSpace(d.Page)) }

func (d manDoc) quiet() string { return strings.TrimSpace(d.Page) }

// roff writes a manual page.
type roff struct{ strings.Builder }

// macro writes a request with its arguments, each quoted.
func (r *roff) macro(name string, args ...string) {
	r.WriteString("." + name)
	for _, a := range args {
		r.WriteString(` "` + strings.ReplaceAll(roffText(a), `"`, `\(dq`) + `"`)
	}
	r.WriteByte('\n')
}

// line writes a line of text.
func (r *roff) line(format string, args ...any) {
	for s := range strings.SplitSeq(fmt.Sprintf(format, args...), "\n") {
		s = roffText(s)
		if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
			s = `\&` + s
		}
		r.WriteString(s + "\n")
	}
}

// roffText keeps roff from reading text as requests, and hyphens as something that may not be copied.
func roffText(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
}

// entry writes one line of a definition list.
func (r *roff) entry(term, meaning string) {
	r.macro("TP")
	r.macro("B", term)
	r.line("%s", meaning)
}

// manPage returns the page of a command, or of dibber with all its commands.
func manPage(e *env, command []string) string {
	var r roff
	name, usage, list := "dibber", "make peers find and reach each other over libp2p", e.root
	synopsis := "dibber COMMAND [FLAGS] [ARGUMENTS]"
	if len(command) > 0 {
		s := find(e.root, command)
		name, usage, list, synopsis = "dibber-"+strings.Join(command, "-"), s.usage, []spec{*s}, synopsisOf(s)
	}
	r.macro("TH", strings.ToUpper(name), "1", "", "dibber "+Version, "dibber manual")
	r.macro("SH", "NAME")
	r.line("%s - %s", name, usage)
	r.macro("SH", "SYNOPSIS")
	r.macro("B", synopsis)
	r.macro("SH", "COMMANDS")
	walkAll(list, func(s *spec) { r.command(e, s) })
	r.macro("SH", "FILES")
	r.entry("$XDG_CONFIG_HOME/dibber/config.toml", "settings: shared flags at the top, one table a command")
	r.macro("SH", "EXIT STATUS")
	for _, m := range exitTable() {
		r.entry(fmt.Sprint(m.code), m.text)
	}
	return r.String()
}

// command writes what there is to say about one command.
func (r *roff) command(e *env, s *spec) {
	r.macro("SS", synopsisOf(s))
	r.line("%s", s.usage)
	for paragraph := range strings.SplitSeq(strings.TrimSpace(s.about), "\n\n") {
		if paragraph != "" {
			r.macro("PP")
			r.line("%s", paragraph)
		}
	}
	for _, f := range s.allFlags(e) {
		label, usage := describeFlag(f)
		r.entry(label, usage+" ["+envName(s, f)+"]")
	}
	if len(s.examples) == 0 {
		return
	}
	r.macro("PP")
	r.line("Examples:")
	r.macro("PP")
	r.macro("nf")
	for _, x := range s.examples {
		r.line("%s", x)
	}
	r.macro("fi")
}

// walkAll calls f for every command that is shown, also for those that only have commands below them.
func walkAll(list []spec, f func(*spec)) {
	for i := range list {
		if list[i].hidden {
			continue
		}
		f(&list[i])
		walkAll(list[i].subcommands, f)
	}
}
