package addr

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/peer"
)

// maxName is the longest name of a peer in a table, in bytes.
const maxName = 128

// Table is a list of peers with names and addresses. It does not change once it is
// read, so goroutines may share it, and a nil *Table is an empty one.
type Table struct {
	targets []Target          // one an id and name, in file order
	names   map[string]int    // index into targets
	ids     map[peer.ID][]int // likewise; a peer may have several names
}

// ParseTable reads a table from r: one peer a line, its name and then its addresses, separated by
// blanks; each address is a multiaddr that ends with /p2p/ID, or the bare peer id. Lines with the same name
// add addresses to it. What follows a # at the start of a word is a comment. source names r in
// errors, which are *LineError.
func ParseTable(r io.Reader, source string) (*Table, error) {
	t := &Table{names: make(map[string]int), ids: make(map[peer.ID][]int)}
	if err := eachLine(r, source, t.addLine); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *Table) addLine(line string) error {
	fields := strings.Fields(line)
	if i := slices.IndexFunc(fields, func(f string) bool { return f[0] == '#' }); i >= 0 {
		fields = fields[:i]
	}
	name := fields[0]
	if err := checkName(name); err != nil {
		return err
	}
	if len(fields) == 1 {
		return fmt.Errorf("%s: no address", clip(name))
	}
	for _, field := range fields[1:] {
		one, err := ParseTarget(field, Options{})
		if err != nil {
			return err
		}
		if err := t.add(name, one); err != nil {
			return err
		}
	}
	return nil
}

func checkName(name string) error {
	switch {
	case name[0] == '/':
		return errors.New("the line begins with an address; a name comes first")
	case strings.ContainsRune("@-{", rune(name[0])):
		return fmt.Errorf("name %s: begins with a character that has a meaning in targets", clip(name))
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("name %s: not printable", clip(name))
	case len(name) > maxName:
		return fmt.Errorf("name %s: %w: at most %d bytes", clip(name), ErrTooLong, maxName)
	}
	return nil
}

func (t *Table) add(name string, one Target) error {
	i, known := t.names[name]
	if !known {
		i = len(t.targets)
		t.names[name] = i
		t.ids[one.ID] = append(t.ids[one.ID], i)
		t.targets = append(t.targets, Target{ID: one.ID, Name: name})
	}
	entry := &t.targets[i]
	if entry.ID != one.ID {
		return fmt.Errorf("name %s: stands for two peers, %s and %s", clip(name), entry.ID, one.ID)
	}
	entry.Addrs = appendNew(entry.Addrs, one.Addrs...)
	if len(entry.Addrs) > MaxAddrs {
		return fmt.Errorf("name %s: %w: more than %d addresses", clip(name), ErrTooLong, MaxAddrs)
	}
	return nil
}

// Lookup returns the peer of that name.
func (t *Table) Lookup(name string) (Target, bool) {
	if t == nil {
		return Target{}, false
	}
	i, ok := t.names[name]
	if !ok {
		return Target{}, false
	}
	return t.targets[i].clone(), true
}

// ByID returns the peer with that id, under its first name and with the addresses of all
// its names.
func (t *Table) ByID(id peer.ID) (Target, bool) {
	if t == nil || len(t.ids[id]) == 0 {
		return Target{}, false
	}
	all := make([]Target, 0, 1)
	for _, i := range t.ids[id] {
		all = append(all, t.targets[i])
	}
	return Merge(all)[0], true
}

// Contains reports whether a peer with that id is in the table.
func (t *Table) Contains(id peer.ID) bool { return t != nil && len(t.ids[id]) > 0 }

// IDs returns the peers of the table, each once, in the order of the file.
func (t *Table) IDs() []peer.ID {
	peers := t.Peers()
	ids := make([]peer.ID, len(peers))
	for i, p := range peers {
		ids[i] = p.ID
	}
	return ids
}

// Peers returns the peers of the table as ByID does, each once, in the order of the file.
func (t *Table) Peers() []Target {
	if t == nil {
		return nil
	}
	return Merge(t.targets)
}

func (t Target) clone() Target {
	t.Addrs = slices.Clone(t.Addrs)
	return t
}
