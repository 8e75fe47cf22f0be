package commands

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentsOfPubsub pins the documents of messages between nodes of this process, and every event that they print on the way.
func TestDocumentsOfPubsub(t *testing.T) {
	t.Parallel()
	const tcp = "/ip4/127.0.0.1/tcp/0"
	dir := t.TempDir()
	hub := start(t, "serve", "--pubsub", "--state-dir", dir, "--listen", tcp)
	at := hub.ready().Addrs[0]
	sub := start(t, "pubsub", "sub", "news", "--direct", "--trace", "--peer", at, "--listen", tcp)
	own := sub.ready().Addrs[0]
	hub.event("topic.relay.started")
	// What differs from run to run: sequence numbers, scores, which are taken once a second, and whether the mesh is there yet.
	seq, score := regexp.MustCompile(`"seq": ?\d+`), regexp.MustCompile(`(?s)"score":\s*(null|\{.*?\]\s*\})`)
	role := regexp.MustCompile(`"role": ?"(mesh|outside)",\s*"for_ms": ?[^,]+`)
	pin := func(name, doc string) {
		t.Helper()
		doc = role.ReplaceAllString(doc, `"role": "mesh", "for_ms": 1`)
		doc = score.ReplaceAllString(seq.ReplaceAllString(doc, `"seq": 1`), `"score": null`)
		goldenDocument(t, name+".json", doc)
	}
	published := (session{}).run(t.Context(), "pubsub", "pub", "news", "hello", "--peer", at, "--listen", tcp, "--ndjson")
	documentsFit(t, published.stdout)
	pin("pubsub.pub", lastDocument(published.stdout))
	pin("pubsub.sub.message", sub.event("message"))
	pin("pubsub.sub.copy", sub.event("copy"))
	sent := (session{}).run(t.Context(), "pubsub", "send", own, "for you", "--listen", tcp, "--ndjson")
	documentsFit(t, sent.stdout)
	pin("pubsub.send", lastDocument(sent.stdout))
	listed := ""
	// How a peer speaks and what it is subscribed to may be known one before the other.
	for !strings.Contains(listed, "/meshsub/") || !strings.Contains(listed, `"news"`) {
		listed = succeeds(t, "pubsub", "peers", "--peer", at, "--min", "1", "--listen", tcp)
	}
	pin("pubsub.peers", listed)
	mesh := (session{}).run(t.Context(), "pubsub", "mesh", "news", "--peer", own, "--for", "1s", "--listen", tcp, "--ndjson")
	documentsFit(t, mesh.stdout)
	pin("pubsub.mesh", lastDocument(mesh.stdout))
	pin("ctl.topics", succeeds(t, "ctl", "topics", "--admin", filepath.Join(dir, "control.sock")))
	told := sub.stop()
	documentsFit(t, told)
	pin("pubsub.sub", lastDocument(told))
	documentsFit(t, hub.stop())
}
