package commands

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// completeWord is the hidden first word by which the completion scripts ask for candidates. What follows are the words of the
// command line after the program's name; the last one, which may be empty, is to be completed. It reads no configuration, so that
// a broken file does not take completion away.
const completeWord = "__complete"

// candidate is one word that may stand at the cursor.
type candidate struct{ word, about string }

// printCandidates answers a completion script: one candidate a line, then a tab and what it is.
func (e *env) printCandidates(line []string) int {
	if len(line) == 0 {
		line = []string{""}
	}
	var b bytes.Buffer
	for _, c := range complete(e, line) {
		fmt.Fprintf(&b, "%s\t%s\n", c.word, c.about)
	}
	_, _ = e.stdio.Out.Write(b.Bytes())
	return int(exitOK)
}

// complete returns what may stand where the last word of line is.
func complete(e *env, line []string) []candidate {
	at, prior := line[len(line)-1], line[:len(line)-1]
	if at == "=" { // bash makes "=" a word of its own
		at, prior = "", append(slices.Clone(prior), "=")
	}
	p := &parser{e: e}
	var wanting cli.Flag // a flag whose value comes next
	for _, word := range prior {
		wanting = p.follow(word, wanting)
	}
	switch {
	case wanting != nil:
		return matching(flagWords(wanting, at), at)
	case p.ended || !strings.HasPrefix(at, "-"):
		return matching(p.nextWords(), at)
	default:
		return matching(p.nextFlags(at), at)
	}
}

// follow takes a word that stands before the cursor, and returns the flag whose value must come next, nil if none must.
func (p *parser) follow(word string, wanting cli.Flag) cli.Flag {
	switch {
	case word == "=":
		return wanting
	case wanting != nil:
	case word == "--" && !p.ended:
		p.ended = true
	case p.ended || word == "-" || !strings.HasPrefix(word, "-"):
		// An unknown word completes to nothing; there is nobody to tell.
		_ = p.positional(word)
	default:
		written, _, hasValue := strings.Cut(word, "=")
		if f := findFlag(p.candidates(), written); f != nil && !hasValue && kindOf(f) != kindBool {
			return f
		}
	}
	return nil
}

// nextWords returns the commands, or the words that the command at hand takes as its next argument.
func (p *parser) nextWords() []candidate {
	var list []candidate
	if !p.ended && len(p.in.args) == 0 {
		below := p.children()
		for i := range below {
			if !below[i].hidden {
				list = append(list, candidate{below[i].name, below[i].usage})
			}
		}
	}
	if s := p.in.spec; s != nil && s.complete != nil {
		for _, w := range s.complete(p.in.args) {
			list = append(list, candidate{word: w})
		}
	}
	if p.in.spec == nil {
		list = append(list, candidate{"help", "explain a command"})
	}
	return list
}

// nextFlags returns the flags of the command at hand, or the values of the one that is being written as --flag=value.
func (p *parser) nextFlags(at string) []candidate {
	if written, value, found := strings.Cut(at, "="); found {
		f := findFlag(p.candidates(), written)
		if f == nil {
			return nil
		}
		list := flagWords(f, value)
		for i := range list {
			list[i].word = written + "=" + list[i].word
		}
		return list
	}
	list := []candidate{{"--help", "explain the command"}}
	if p.in.spec == nil {
		return list
	}
	for _, f := range p.in.spec.allFlags(p.e) {
		_, usage := describeFlag(f)
		list = append(list, candidate{dashed(f.Names()[0]), usage})
	}
	return list
}

// flagWords returns the values that a flag may have. Those of a list continue what stands before the last comma.
func flagWords(f cli.Flag, at string) []candidate {
	before := ""
	if i := strings.LastIndex(at, ","); i >= 0 && kindOf(f) == kindList {
		before = at[:i+1]
	}
	var list []candidate
	for _, w := range words(f) {
		list = append(list, candidate{word: before + w})
	}
	return list
}

// matching keeps the candidates that begin with what was typed.
func matching(list []candidate, at string) []candidate {
	return slices.DeleteFunc(list, func(c candidate) bool { return !strings.HasPrefix(c.word, at) })
}

// runnable lists the commands that can be run, as arguments for the commands that describe others.
func runnable(e *env) []string {
	var list []string
	walk(e.root, func(s *spec) { list = append(list, s.path[0]) })
	return slices.Compact(list)
}
