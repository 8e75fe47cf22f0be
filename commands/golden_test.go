package commands

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// changing matches what differs from run to run at the head of a document.
var changing = regexp.MustCompile(`(?m)^  "(time|elapsed_ms)": .*$`)

// TestGoldenDocuments pins the documents of the commands that need no network.
func TestGoldenDocuments(t *testing.T) {
	t.Parallel()
	key, err := os.ReadFile("../netkit/identity/testdata/ed25519-pkcs8.pem")
	if err != nil {
		t.Fatal(err)
	}
	rsa, err := os.ReadFile("../netkit/identity/testdata/rsa-pkcs1.pem")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	tests := []struct {
		name, stdin, line string
		masked            string // fields whose values depend on the build
	}{
		{"version", "", "version", "version|agent|go|os|arch|revision|modified|modules"},
		{"key.show", string(key), "key show -", ""},
		{"key.show.rsa", string(rsa), "key show -", ""},
		{"key.convert", string(key), "key convert - --format hex -o DIR/converted.key", ""},
		{"psk.new", "", "psk new -o DIR/swarm.key", ""},
		{"config.show", "", "config show key new", ""},
		{"completion.bash", "", "completion bash", "script"},
		{"man", "", "man key", "page"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, path := configured(t, "timeout = \"5s\"\n[key.new]\ntype = \"rsa\"\n", "DIBBER_VERBOSE=true")
			s.stdin = tt.stdin
			got := s.run(t.Context(), append(strings.Fields(strings.ReplaceAll(tt.line, "DIR", dir)), "--json")...)
			if got.code != 0 {
				t.Fatalf("exit %d: %s", got.code, got.stderr)
			}
			doc := changing.ReplaceAllString(got.stdout, `  "$1": "*",`)
			if tt.masked != "" {
				value := regexp.MustCompile(`(?m)^  "(` + tt.masked + `)": (?:\{(?:.|\n)*?^  \}|.*?),$`)
				doc = value.ReplaceAllString(doc, `  "$1": "*",`)
			}
			doc = strings.NewReplacer(dir, "DIR", filepath.Dir(filepath.Dir(path)), "CONFIG").Replace(doc)
			golden(t, tt.name+".json", doc)
		})
	}
}
