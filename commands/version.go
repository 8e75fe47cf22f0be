package commands

import (
	"context"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
)

// Version is the release this source is, or will be.
const Version = "0.1.0"

// Agent is what dibber calls itself in identify.
func Agent() string { return "dibber/" + Version }

// versionDoc says what this binary was made of.
type versionDoc struct {
	Version  string            `json:"version"`
	Agent    string            `json:"agent"` // what identify tells other peers
	Go       string            `json:"go"`
	OS       string            `json:"os"`
	Arch     string            `json:"arch"`
	Revision *string           `json:"revision"` // commit; null if built outside a checkout
	Modified *bool             `json:"modified"` // whether the checkout had changes; null if unknown
	Modules  map[string]string `json:"modules"`  // path → version of everything linked in
}

func newVersion(*env) spec {
	return spec{
		name:  "version",
		usage: "print the version of dibber and of the modules in it",
		examples: []string{
			"dibber version",
			"dibber version --json",
			"dibber version -q",
		},
		doc: versionDoc{},
		run: func(context.Context, *output) (any, error) { return currentVersion(), nil },
	}
}

// currentVersion reads what the toolchain wrote into the binary.
func currentVersion() versionDoc {
	doc := versionDoc{
		Version: Version, Agent: Agent(), Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
		Modules: map[string]string{},
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return doc
	}
	for _, m := range info.Deps {
		for m.Replace != nil {
			m = m.Replace
		}
		doc.Modules[m.Path] = m.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			doc.Revision = &s.Value
		case "vcs.modified":
			modified := s.Value == "true"
			doc.Modified = &modified
		}
	}
	return doc
}

func (d versionDoc) quiet() string { return d.Version }

// principal lists the modules that decide how dibber behaves on the wire.
func principal() []string {
	return []string{
		"github.com/libp2p/go-libp2p", "github.com/quic-go/quic-go", "github.com/multiformats/go-multiaddr",
		"github.com/cockroachdb/pebble/v2",
	}
}

func (d versionDoc) renderText(t *text) {
	t.field("dibber", "%s", d.Version)
	t.field("go", "%s %s/%s", d.Go, d.OS, d.Arch)
	if d.Revision != nil {
		t.field("revision", "%s", *d.Revision)
	}
	paths := slices.DeleteFunc(principal(), func(p string) bool { return d.Modules[p] == "" })
	for _, p := range paths {
		t.field(moduleName(p), "%s", d.Modules[p])
	}
}

// moduleName returns the last part of a module path that says something.
func moduleName(path string) string {
	parts := strings.Split(path, "/")
	last := parts[len(parts)-1]
	if strings.HasPrefix(last, "v") && len(last) == 2 {
		return parts[len(parts)-2]
	}
	return last
}
