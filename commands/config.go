package commands

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
	"github.com/urfave/cli/v2"
)

// maxConfig bounds what is read as a configuration file: every key of every command with room for long lists of peers.
const maxConfig = 1 << 20

// configFile is a configuration file that was checked against the flags of every command.
type configFile struct {
	path    string                 // empty if there is none
	entries map[string]configEntry // "listen" at the top, "serve.drain" in a command's table
}

// configEntry is one key of a configuration file, its values written as they would be on the command line.
type configEntry struct {
	values []string
	line   int
}

// lookup returns the entry for a flag of a command and where in the file it stands; fromDefault means nowhere.
func (c *configFile) lookup(s *spec, f cli.Flag) (configEntry, origin) {
	name := f.Names()[0]
	if entry, ok := c.entries[strings.Join(s.path, ".")+"."+name]; ok {
		return entry, fromTable
	}
	if entry, ok := c.entries[name]; ok && shared(f) {
		return entry, fromFile
	}
	return configEntry{}, fromDefault
}

// loadConfig reads the file named by --config or its variable, else the one in the user's configuration folder, which may be
// missing. Whatever is wrong with it is a usage error that names file and line.
func (e *env) loadConfig() (*configFile, error) {
	path, named := e.shared.Config, true
	if path == "" {
		path, named = e.defaultConfig(), false
	}
	if path == "" {
		return &configFile{}, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return &configFile{}, nil
	}
	if err != nil {
		return nil, usagef("read the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, usagef("read the configuration: %w", err)
	}
	if len(data) > maxConfig {
		return nil, usagef("%s: larger than %d bytes", path, maxConfig)
	}
	return parseConfig(e, path, data)
}

// defaultConfig returns where the configuration is looked for when no file is named, by the XDG base directory specification.
func (e *env) defaultConfig() string {
	if dir, ok := e.lookup("XDG_CONFIG_HOME"); ok && filepath.IsAbs(dir) {
		return filepath.Join(dir, "dibber", "config.toml")
	}
	if home, ok := e.lookup("HOME"); ok {
		return filepath.Join(home, ".config", "dibber", "config.toml")
	}
	return ""
}

// configParser checks the content of a file against the commands.
type configParser struct {
	e     *env
	file  *configFile
	lines map[string]int
}

// parseConfig reads TOML: shared flags at the top, one table a command.
func parseConfig(e *env, path string, data []byte) (*configFile, error) {
	tree := map[string]any{}
	if err := toml.Unmarshal(data, &tree); err != nil {
		return nil, usagef("%s:%d: %w", path, faultLine(data, err), err)
	}
	p := &configParser{e: e, file: &configFile{path: path, entries: map[string]configEntry{}}, lines: keyLines(data)}
	var flags []cli.Flag
	walk(e.root, func(s *spec) {
		flags = append(flags, slices.DeleteFunc(s.allFlags(e), func(f cli.Flag) bool { return !shared(f) })...)
	})
	if err := p.table("", tree, e.root, flags); err != nil {
		return nil, err
	}
	return p.file, nil
}

// faultLine returns the line where TOML is wrong. An error that says nothing of its place, such as a key that is defined twice, is at
// the end of the shortest part of the file that has it.
func faultLine(data []byte, err error) int {
	var syntax *toml.DecodeError
	if errors.As(err, &syntax) {
		line, _ := syntax.Position()
		return line
	}
	ends := []int{}
	for i, c := range data {
		if c == '\n' {
			ends = append(ends, i)
		}
	}
	return 1 + sort.Search(len(ends), func(n int) bool {
		err := toml.Unmarshal(data[:ends[n]], &map[string]any{})
		return err != nil && !errors.As(err, &syntax)
	})
}

// table checks one table: its keys are flags or, for the commands below it, tables.
func (p *configParser) table(prefix string, tree map[string]any, below []spec, flags []cli.Flag) error {
	for _, key := range slices.Sorted(maps.Keys(tree)) {
		full := prefix + key
		inner, isTable := tree[key].(map[string]any)
		// A flag may be called like a command below, as --listen of holepunch is.
		if s := child(below, key); s != nil && (isTable || findFlag(flags, "--"+key) == nil) {
			if !isTable {
				return p.errorf(full, "%q is a command: write [%s] above its keys", full, full)
			}
			if err := p.table(full+".", inner, s.subcommands, s.allFlags(p.e)); err != nil {
				return err
			}
			continue
		}
		f := findFlag(flags, "--"+key)
		if f == nil || key == "config" || f.Names()[0] != key {
			return p.errorf(full, "unknown key %q%s", full, didYouMean(key, configKeys(below, flags), prefix))
		}
		values, err := configValues(f, tree[key])
		if err != nil {
			return p.errorf(full, "%s: %w", full, err)
		}
		p.file.entries[full] = configEntry{values, p.lines[full]}
	}
	return nil
}

func (p *configParser) errorf(key, format string, args ...any) error {
	return usagef("%s:%d: %w", p.file.path, p.lines[key], fmt.Errorf(format, args...))
}

// configKeys lists what a table may contain.
func configKeys(below []spec, flags []cli.Flag) []string {
	keys := names(below)
	for _, f := range flags {
		if name := f.Names()[0]; name != "config" {
			keys = append(keys, name)
		}
	}
	return keys
}

// configValues turns a TOML value into what would be written on the command line, if its type is the one that the flag wants.
func configValues(f cli.Flag, value any) ([]string, error) {
	kind := kindOf(f)
	list, isList := value.([]any)
	if !isList {
		list = []any{value}
	} else if kind != kindList {
		return nil, fmt.Errorf("a list is not %s", kind)
	}
	var values []string
	for _, v := range list {
		s, ok := scalar(kind, v)
		if !ok {
			return nil, fmt.Errorf("%v is not %s", v, kind)
		}
		if err := checkValue(f, s); err != nil {
			return nil, err
		}
		values = append(values, s)
	}
	return values, nil
}

// scalar writes a TOML value as text, if its type fits the kind: numbers are not quoted and strings are.
func scalar(kind flagKind, value any) (string, bool) {
	switch v := value.(type) {
	case bool:
		return strconv.FormatBool(v), kind == kindBool
	case int64:
		return strconv.FormatInt(v, 10), kind == kindInt || kind == kindUint || kind == kindFloat
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), kind == kindFloat
	case string:
		return v, kind == kindString || kind == kindDuration || kind == kindList
	default:
		return "", false
	}
}

// keyLines returns the line on which each key of a TOML document stands, the parts of a key joined by dots.
func keyLines(data []byte) map[string]int {
	lines := map[string]int{}
	var p unstable.Parser
	p.Reset(data)
	var table []string
	for p.NextExpression() {
		n := p.Expression()
		switch n.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = recordKey(&p, lines, nil, n)
		case unstable.KeyValue:
			recordKeys(&p, lines, table, n)
		default:
		}
	}
	return lines
}

// recordKeys notes the line of a key and of those in its inline table.
func recordKeys(p *unstable.Parser, lines map[string]int, table []string, n *unstable.Node) {
	key := recordKey(p, lines, table, n)
	if n.Value().Kind != unstable.InlineTable {
		return
	}
	for it := n.Value().Children(); it.Next(); {
		recordKeys(p, lines, key, it.Node())
	}
}

// recordKey notes the line of every prefix of a key and returns the key in full.
func recordKey(p *unstable.Parser, lines map[string]int, table []string, n *unstable.Node) []string {
	key := slices.Clone(table)
	for it := n.Key(); it.Next(); {
		key = append(key, string(it.Node().Data))
		full := strings.Join(key, ".")
		if _, seen := lines[full]; !seen {
			lines[full] = p.Shape(it.Node().Raw).Start.Line
		}
	}
	return key
}
