package netkit_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	module = "dibber"
	netkit = module + "/netkit/"
	natlab = netkit + "natlab"
	netns  = netkit + "netns"
	clock  = netkit + "clock"
	libp2p = "github.com/libp2p/go-libp2p"
)

// rows is the map of doc.go, lowest row first. A package imports only what stands in rows below its own; only those of the
// first row may also import each other.
func rows() [][]string {
	return [][]string{
		{"addr", "identity", "wire", "store", "retry", "nat", "negentropy", "control", "bamboo", "logstore", "pchain", "bans", "backup", "invite"},
		{"host"},
		{"rendezvous", "relay", "dialback", "reach", "mdns", "ping", "pipe", "perf", "vantage", "portmap", "p2panda", "blocks", "route", "gossip", "letter", "join"},
		{"etcd"},
		{"natcheck"},
		{"punch"},
		{"discover"},
		{"dial"},
		{"replicate"},
		{"peering"},
		{"chain"},
		{"serve"},
		{"cockpit"},
	}
}

// listed is what the rule wants to know of a package; the fields are named as go list names them.
type listed struct {
	ImportPath   string
	Imports      []string // of its code
	TestImports  []string // of its tests
	XTestImports []string
	Deps         []string // all that its code needs, however far away
}

// violations names every way in which a package breaks the rule of doc.go.
func violations(p listed) []string {
	v := verdict{of: p.ImportPath}
	switch {
	case p.ImportPath == module:
		v.forbid(p.Imports, "imports", "main calls commands and nothing else", func(path string) bool {
			return !standard(path) && path != module+"/commands"
		})
	case within(p.ImportPath, module+"/scripts"):
		return nil // programs of their own
	case strings.HasPrefix(p.ImportPath, netkit):
		v.library(p)
		v.order(p)
	}
	if !testBed(p.ImportPath) {
		v.forbid(p.Deps, "needs", "the test beds are for tests", testBed)
		// By itself: go-libp2p-kad-dht has an option for its own tests among its code.
		v.forbid(p.Imports, "imports", "package testing is for tests", func(path string) bool { return path == "testing" })
	}
	return v.found
}

// verdict collects what one package does wrong.
type verdict struct {
	of    string
	found []string
}

func (v *verdict) forbid(paths []string, verb, why string, banned func(path string) bool) {
	for _, path := range paths {
		if banned(path) {
			v.found = append(v.found, fmt.Sprintf("%s %s %s: %s", v.of, verb, path, why))
		}
	}
}

// library holds what is true of all of netkit.
func (v *verdict) library(p listed) {
	v.forbid(slices.Concat(p.Deps, p.TestImports, p.XTestImports), "needs", "only commands knows the command line", func(path string) bool {
		return within(path, module+"/commands") || within(path, "github.com/urfave/cli") || within(path, "github.com/olekukonko/tablewriter")
	})
	v.forbid(p.Imports, "imports", "a library neither reads flags nor prints", func(path string) bool {
		return path == "flag" || path == "log"
	})
	if p.ImportPath != natlab && p.ImportPath != netkit+"host" {
		v.forbid(p.Imports, "imports", "only host and natlab build hosts", func(path string) bool { return path == libp2p })
	}
}

// order holds the order of the rows.
func (v *verdict) order(p listed) {
	own := row(p.ImportPath)
	switch {
	case p.ImportPath == natlab:
		v.forbid(p.Imports, "imports", "natlab stands on host", func(path string) bool { return row(path) > row(netkit+"host") || path == netns })
		return
	case p.ImportPath == netns:
		v.forbid(p.Imports, "imports", "netns stands on natlab", func(path string) bool { return row(path) >= 0 })
		return
	case p.ImportPath == clock:
		v.forbid(p.Imports, "imports", "clock stands on nothing", func(path string) bool { return !standard(path) })
		return
	case own < 0:
		v.found = append(v.found, p.ImportPath+" is not in the map of netkit/doc.go")
		return
	case own == 0:
		v.forbid(p.Deps, "needs", "the lowest row needs no implementation of libp2p", func(path string) bool {
			return path == libp2p || within(path, libp2p+"/p2p")
		})
	}
	v.forbid(p.Imports, "imports", "it stands beside or above", func(path string) bool {
		other := row(path)
		return other > own || other == own && own > 0 && !within(path, p.ImportPath)
	})
}

// row is the index in rows of the package of netkit that a path lies in, -1 if there is none.
func row(path string) int {
	name, inside := strings.CutPrefix(path, netkit)
	name, _, _ = strings.Cut(name, "/")
	return slices.IndexFunc(rows(), func(row []string) bool { return inside && slices.Contains(row, name) })
}

// testBed says whether a package is one of those that only tests import.
func testBed(path string) bool { return path == natlab || path == netns || path == clock }

// within says whether a path is that of a package or lies below it.
func within(path, parent string) bool {
	return path == parent || strings.HasPrefix(path, parent+"/")
}

// standard says whether a path is of the standard library: the first element has no dot, and it is not this module.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return first != module && !strings.Contains(first, ".")
}

// invented is a package that does not exist, and what the rule says about it.
type invented struct {
	name string
	p    listed
	want []string
}

func judge(t *testing.T, cases []invented) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, violations(c.p)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTheTopKeepsOut(t *testing.T) {
	judge(t, []invented{
		{"main calls commands", listed{ImportPath: "dibber", Imports: []string{"os", "dibber/commands"}}, nil},
		{
			"main does work",
			listed{ImportPath: "dibber", Imports: []string{"dibber/netkit/dial", "github.com/urfave/cli/v2"}},
			[]string{
				"dibber imports dibber/netkit/dial: main calls commands and nothing else",
				"dibber imports github.com/urfave/cli/v2: main calls commands and nothing else",
			},
		},
		{"commands know all", listed{
			ImportPath: "dibber/commands", Imports: []string{"github.com/urfave/cli/v2", "dibber/netkit/serve", "dibber/netkit/addr"},
			TestImports: []string{"dibber/netkit/natlab", "dibber/netkit/netns", "testing"},
		}, nil},
		{
			"the test beds in the binary",
			listed{ImportPath: "dibber/commands", Imports: []string{"testing"}, Deps: []string{"dibber/netkit/natlab", "dibber/netkit/netns", "testing"}},
			[]string{
				"dibber/commands needs dibber/netkit/natlab: the test beds are for tests",
				"dibber/commands needs dibber/netkit/netns: the test beds are for tests",
				"dibber/commands imports testing: package testing is for tests",
			},
		},
		{"a script", listed{ImportPath: "dibber/scripts/bench/dial", Imports: []string{"flag", libp2p}, Deps: []string{"testing"}}, nil},
	})
}

func TestRowsLookDownOnly(t *testing.T) {
	judge(t, []invented{
		{"the lowest row mixes", listed{ImportPath: "dibber/netkit/wire", Imports: []string{"dibber/netkit/addr"}}, nil},
		{
			"the lowest row looks up",
			listed{ImportPath: "dibber/netkit/wire", Imports: []string{"dibber/netkit/host"}},
			[]string{"dibber/netkit/wire imports dibber/netkit/host: it stands beside or above"},
		},
		{
			"the lowest row needs a swarm",
			listed{ImportPath: "dibber/netkit/addr", Deps: []string{libp2p + "/core/peer", libp2p + "/p2p/net/swarm"}},
			[]string{"dibber/netkit/addr needs github.com/libp2p/go-libp2p/p2p/net/swarm: the lowest row needs no implementation of libp2p"},
		},
		{"host", listed{ImportPath: "dibber/netkit/host", Imports: []string{libp2p, "dibber/netkit/addr"}}, nil},
		{
			"host knows a protocol",
			listed{ImportPath: "dibber/netkit/host", Imports: []string{"dibber/netkit/relay"}},
			[]string{"dibber/netkit/host imports dibber/netkit/relay: it stands beside or above"},
		},
		{"a protocol", listed{ImportPath: "dibber/netkit/relay", Imports: []string{"dibber/netkit/host", "dibber/netkit/wire", "dibber/netkit/relay/words"}}, nil},
		{
			"a protocol knows another",
			listed{ImportPath: "dibber/netkit/relay", Imports: []string{"dibber/netkit/rendezvous"}},
			[]string{"dibber/netkit/relay imports dibber/netkit/rendezvous: it stands beside or above"},
		},
		{
			"a part of a protocol knows another",
			listed{ImportPath: "dibber/netkit/relay/words", Imports: []string{"dibber/netkit/mdns"}},
			[]string{"dibber/netkit/relay/words imports dibber/netkit/mdns: it stands beside or above"},
		},
		{"composition", listed{ImportPath: "dibber/netkit/serve", Imports: []string{"dibber/netkit/dial", "dibber/netkit/relay", "dibber/netkit/store"}}, nil},
		{
			"composition to the right",
			listed{ImportPath: "dibber/netkit/discover", Imports: []string{"dibber/netkit/dial"}},
			[]string{"dibber/netkit/discover imports dibber/netkit/dial: it stands beside or above"},
		},
		{"the test bed", listed{ImportPath: natlab, Imports: []string{"testing", libp2p, "dibber/netkit/host"}, Deps: []string{"testing"}}, nil},
		{
			"the test bed knows a protocol",
			listed{ImportPath: natlab, Imports: []string{"dibber/netkit/relay"}},
			[]string{"dibber/netkit/natlab imports dibber/netkit/relay: natlab stands on host"},
		},
		{"the other test bed", listed{ImportPath: netns, Imports: []string{"testing", natlab}, Deps: []string{"testing", natlab}}, nil},
		{
			"the test beds the wrong way round",
			listed{ImportPath: natlab, Imports: []string{netns}},
			[]string{"dibber/netkit/natlab imports dibber/netkit/netns: natlab stands on host"},
		},
		{
			"the other test bed knows a protocol",
			listed{ImportPath: netns, Imports: []string{"dibber/netkit/host", "dibber/netkit/relay"}},
			[]string{
				"dibber/netkit/netns imports dibber/netkit/host: netns stands on natlab",
				"dibber/netkit/netns imports dibber/netkit/relay: netns stands on natlab",
			},
		},
		{
			"a package that nobody placed",
			listed{ImportPath: "dibber/netkit/util"},
			[]string{"dibber/netkit/util is not in the map of netkit/doc.go"},
		},
	})
}

func TestLibrariesStayLibraries(t *testing.T) {
	judge(t, []invented{
		{
			"a protocol builds a host",
			listed{ImportPath: "dibber/netkit/mdns", Imports: []string{libp2p, libp2p + "/core/host"}},
			[]string{"dibber/netkit/mdns imports github.com/libp2p/go-libp2p: only host and natlab build hosts"},
		},
		{
			"a library with flags and prints",
			listed{ImportPath: "dibber/netkit/ping", Imports: []string{"flag", "log", "log/slog"}},
			[]string{
				"dibber/netkit/ping imports flag: a library neither reads flags nor prints",
				"dibber/netkit/ping imports log: a library neither reads flags nor prints",
			},
		},
		{
			"a library that knows the command line",
			listed{
				ImportPath: "dibber/netkit/dial", Deps: []string{"github.com/urfave/cli/v2"},
				XTestImports: []string{"dibber/commands"},
			},
			[]string{
				"dibber/netkit/dial needs github.com/urfave/cli/v2: only commands knows the command line",
				"dibber/netkit/dial needs dibber/commands: only commands knows the command line",
			},
		},
	})
}

func TestPackagesKeepTheRule(t *testing.T) {
	for _, p := range list(t) {
		for _, v := range violations(p) {
			t.Error(v)
		}
	}
}

// The map is written in three places: for people, for this test and for the linter.
func TestPackagesAreOnTheMap(t *testing.T) {
	doc := read(t, "doc.go")
	linter := read(t, "../scripts/golangci.yml")
	for _, p := range list(t) {
		name, inside := strings.CutPrefix(p.ImportPath, netkit)
		if !inside || strings.Contains(name, "/") {
			continue
		}
		if !slices.Contains(strings.Fields(doc), name) {
			t.Errorf("the map in doc.go does not name %s", name)
		}
		if row(p.ImportPath) < len(rows())-1 && !strings.Contains(linter, "netkit/"+name+"/*.go") { // above the last there is nothing
			t.Errorf("no depguard rule of scripts/golangci.yml is for %s", name)
		}
	}
}

// list describes every package of the module.
func list(t *testing.T) []listed {
	t.Helper()
	const root = ".."
	lookAt(t, root)
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,TestImports,XTestImports,Deps", "./...")
	cmd.Dir, cmd.Stderr = root, t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		if p.ImportPath != strings.TrimSuffix(netkit, "/") {
			packages = append(packages, p)
		}
	}
	if len(packages) < 3 {
		t.Fatalf("go list names only %d packages", len(packages))
	}
	return packages
}

// lookAt reads every folder of source. The go command reuses a test's result while the files that the test itself looked at stay
// as they were, and it does not see what a child process reads.
func lookAt(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && path != root && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
