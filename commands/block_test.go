package commands

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentsOfBlocks pins the documents of block.
func TestDocumentsOfBlocks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	if err := os.WriteFile(name, []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// How many CANCELs go out before the end is a matter of time, and so is whether a peer that is slow is asked again, and answers twice.
	cancels, again := regexp.MustCompile(`"cancel": \d+`), regexp.MustCompile(`"(want_have|block)": [2-9]`)
	size := regexp.MustCompile(`"bytes": (12|18|24)`)
	pin := func(name, doc string) {
		t.Helper()
		doc = size.ReplaceAllString(again.ReplaceAllString(cancels.ReplaceAllString(doc, `"cancel": 0`), `"$1": 1`), `"bytes": 6`)
		goldenDocument(t, "block."+name+".json", strings.ReplaceAll(doc, dir, "<dir>"))
	}
	in := func(state string) []string { return []string{"--state-dir", filepath.Join(dir, state)} }
	pin("put", succeeds(t, append([]string{"block", "put", name}, in("a")...)...))
	const quic = "/ip4/127.0.0.1/udp/0/quic-v1"
	at := start(t, append([]string{"serve", "--blocks", "--autonat", "--listen", quic}, in("a")...)...).ready()
	pin("get", succeeds(t, append([]string{"block", "get", exampleCID, "-o", filepath.Join(dir, "out"), "--peer", at.Addrs[0], "--listen", quic}, in("b")...)...))
	pin("have", succeeds(t, "block", "have", exampleCID, "--peer", at.Addrs[0], "--listen", quic))
}
