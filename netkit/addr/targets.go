package addr

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrUnknownName says that an @name is neither in the table of peers nor a file.
var ErrUnknownName = errors.New("unknown name")

// ParseTargets reads the positional arguments that name peers. Each is a target as
// ParseTarget reads it, or
//
//   - targets from stdin, one a line
//     @name  the entry of that name in table, or else targets from the file of that name
//
// Blank lines and lines that begin with # are skipped; @name within a list means the
// table only. A bare peer id that is in the table gets the addresses it has there. Targets of
// the same peer are merged. table may be nil. No target at all is not an error.
// Errors in lists are *LineError.
func ParseTargets(args []string, stdin io.Reader, open OpenFunc, table *Table, opts Options) ([]Target, error) {
	p := targetParser{table: table, opts: opts}
	stdinRead := false
	for _, arg := range args {
		var err error
		switch {
		case arg == "-" && stdinRead:
			err = errors.New("- given twice: standard input can be read only once")
		case arg == "-":
			stdinRead = true
			err = eachLine(stdin, "stdin", p.add)
		case strings.HasPrefix(arg, "@"):
			err = p.addNameOrFile(arg[1:], open)
		default:
			err = p.add(arg)
		}
		if err != nil {
			return nil, err
		}
	}
	return Merge(p.found), nil
}

type targetParser struct {
	table *Table
	opts  Options
	found []Target
}

// add reads one target that is not a list.
func (p *targetParser) add(s string) error {
	if name, ok := strings.CutPrefix(s, "@"); ok {
		t, ok := p.table.Lookup(name)
		if !ok {
			return fmt.Errorf("%w @%s: not in the table of peers", ErrUnknownName, name)
		}
		p.found = append(p.found, t)
		return nil
	}
	t, err := ParseTarget(s, p.opts)
	if err != nil {
		return err
	}
	if known, ok := p.table.ByID(t.ID); ok && len(t.Addrs) == 0 {
		t = known
	}
	p.found = append(p.found, t)
	return nil
}

func (p *targetParser) addNameOrFile(name string, open OpenFunc) error {
	if t, ok := p.table.Lookup(name); ok {
		p.found = append(p.found, t)
		return nil
	}
	err := eachLineOf(open, name, p.add)
	var line *LineError
	if err == nil || errors.As(err, &line) {
		return err
	}
	return fmt.Errorf("%w @%s: not in the table of peers, and as a file: %w", ErrUnknownName, name, err)
}
