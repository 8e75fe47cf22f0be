package commands

import (
	"flag"
	"path/filepath"
	"slices"
	"testing"

	"dibber/netkit/route"

	"github.com/libp2p/go-libp2p/core/peer"
)

// TestPublicNetwork shows what --public does, which no test may do: the prefix of the public network and the peers that it names,
// besides those of --bootstrap.
func TestPublicNetwork(t *testing.T) {
	t.Parallel()
	var o networkOptions
	set := flag.NewFlagSet("", flag.ContinueOnError)
	for _, f := range networkFlags(&o) {
		if err := f.Apply(set); err != nil {
			t.Fatal(err)
		}
	}
	const own = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm"
	if err := set.Parse([]string{"--public", "--bootstrap", own}); err != nil {
		t.Fatal(err)
	}
	cfg, err := o.config(&output{e: newEnv(Stdio{})}, &hostOptions{}, "")
	if err != nil {
		t.Fatal(err)
	}
	named := slices.ContainsFunc(cfg.Boot, func(p peer.AddrInfo) bool { return p.ID.String() == "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN" })
	if cfg.Prefix != route.PublicPrefix || len(cfg.Boot) < 3 || !named || cfg.Boot[0].ID.String() != own[len(own)-52:] {
		t.Errorf("prefix %s, peers %v", cfg.Prefix, cfg.Boot)
	}
	o.Replication = 5
	if o.validate() == nil {
		t.Error("another replication is taken for the public network")
	}
}

// TestDocumentsOfDHT pins the documents of the verbs, asked of one server.
func TestDocumentsOfDHT(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const quic = "/ip4/127.0.0.1/udp/0/quic-v1"
	const content = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
	server := start(t, "serve", "--dht", "--dht-mode", "server", "--state-dir", filepath.Join(dir, "server"), "--listen", quic)
	at := server.ready()
	key := filepath.Join(dir, "me.key")
	in := func(verb string, args ...string) string {
		return succeeds(t, append([]string{"dht", verb, "--bootstrap", at.Addrs[0], "--listen", quic}, args...)...)
	}
	goldenDocument(t, "dht.put.json", in("put", "motd", "hello", "--identity", key, "--seq", "1", "--trace"))
	author := (session{}).run(t.Context(), "key", "show", key, "-q").stdout
	goldenDocument(t, "dht.get.json", in("get", "/dibber/"+author[:len(author)-1]+"/motd"))
	goldenDocument(t, "dht.provide.json", in("provide", content, "--identity", key))
	goldenDocument(t, "dht.find-providers.json", in("find-providers", content))
	goldenDocument(t, "dht.find-peer.json", in("find-peer", at.Peer))
	goldenDocument(t, "dht.closest.json", in("closest", content))
	goldenDocument(t, "dht.walk.json", in("walk"))
	goldenDocument(t, "dht.table.json", in("table", "--walks", "1"))
	documentsFit(t, (session{}).run(t.Context(), "dht", "walk", "--bootstrap", at.Addrs[0], "--listen", quic, "--trace", "--ndjson").stdout)
	documentsFit(t, server.stop())
}
