package commands

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dibber/netkit/blocks"
	"dibber/netkit/gossip"
	"dibber/netkit/host"
	"dibber/netkit/letter"
	"dibber/netkit/pipe"
	"dibber/netkit/route"

	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// far is a peer with which the commands of a test have to do.
type far struct {
	*host.Node
	gossip     *gossip.Service
	target     string
	has        string // the CID of a file that it gives
	handshakes atomic.Int64
}

func newFar(t *testing.T) *far {
	t.Helper()
	n, err := host.New(host.Config{Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")}})
	if err != nil {
		t.Fatal(err)
	}
	f := &far{Node: n, target: fmt.Sprintf("%s/p2p/%s", n.ListenAddrs()[0], n.ID())}
	n.Network().Notify(&network.NotifyBundle{ConnectedF: func(network.Network, network.Conn) { f.handshakes.Add(1) }})
	var open closers
	open.add(n.Close)
	t.Cleanup(func() { _ = open.close() })
	table, err := route.New(n, route.Config{Mode: route.Server, Walk: -1})
	if err != nil {
		t.Fatal(err)
	}
	open.add(table.Close)
	if f.gossip, err = gossip.New(n, gossip.Config{Heartbeat: 50 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	open.add(f.gossip.Close)
	letters := letter.Listen(n, letter.ListenConfig{Take: func(context.Context, letter.Letter) error { return nil }})
	open.add(letters.Close)
	echo := pipe.Listen(n, pipe.ListenConfig{}, func(_ peer.ID, s *pipe.Session) {
		if _, err := io.Copy(s, s); err == nil {
			_ = s.CloseWrite() // returns nil always
			_ = s.Wait()
		}
	})
	open.add(echo.Close)
	files := blockstore.NewBlockstore(datastore.NewMapDatastore())
	file, err := blocks.Add(t.Context(), files, strings.NewReader("what is in the file"), blocks.AddConfig{})
	if err != nil {
		t.Fatal(err)
	}
	given, err := blocks.New(n, files, blocks.Config{Serve: true})
	if err != nil {
		t.Fatal(err)
	}
	open.add(given.Close)
	f.has = file.CID.String()
	return f
}

// topic joins and subscribes to a topic at the far end.
func (f *far) topic(t *testing.T, name string) (*gossip.Topic, *gossip.Subscription) {
	t.Helper()
	topic, err := f.gossip.Join(name, gossip.TopicConfig{})
	if err != nil {
		t.Fatal(err)
	}
	sub, err := topic.Subscribe(gossip.SubscribeConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return topic, sub
}

// TestRolesOfARunningNode: commands of the hash table, of gossip, of blocks and of pipes run on the connections, and by the roles, of the node that
// has the state folder; none of them costs a handshake, and none leaves anything behind.
func TestRolesOfARunningNode(t *testing.T) {
	t.Parallel()
	const exampleKey = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
	f := newFar(t)
	own := filepath.Join(t.TempDir(), "near")
	near := start(t, "serve", "--dht", "--pubsub", "--blocks", "--state-dir", own, "--listen", "/ip4/127.0.0.1/udp/0/quic-v1")
	id := near.ready().Peer
	run := func(stdin string, want exitCode, args ...string) string {
		t.Helper()
		got := (session{stdin: stdin}).run(t.Context(), append(args, "--state-dir", own)...)
		if got.code != int(want) {
			t.Fatalf("%v: exit %d\n%s%s", args, got.code, got.stdout, got.stderr)
		}
		return got.stdout
	}
	contains := func(got, want string) {
		t.Helper()
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
	contains(run("", exitOK, "dht", "table", "--bootstrap", f.target, "--walks", "1", "--json"), f.ID().String())
	// It is in the network now: nobody has to be named.
	contains(run("", exitOK, "dht", "find-peer", f.ID().String(), "--json"), f.target)
	contains(run("", exitOK, "dht", "closest", f.ID().String(), "--json"), f.ID().String())
	contains(run("", exitOK, "dht", "provide", exampleKey, "--json"), id)
	contains(run("", exitOK, "dht", "find-providers", exampleKey, "--json"), id)
	run("", exitOK, "dht", "walk", "--trace")
	run("", exitNotFound, "dht", "get", "/dibber/"+f.ID().String()+"/none")

	_, sub := f.topic(t, "to-far")
	run("", exitOK, "pubsub", "pub", "to-far", "one")
	run("two\nthree\n", exitOK, "pubsub", "pub", "to-far", "-")
	for _, want := range []string{"one", "two", "three"} {
		m, err := sub.Next(t.Context())
		if err != nil || string(m.Data) != want || m.From.String() != id {
			t.Fatalf("%s from %s, %v; want %s from %s", m.Data, m.From, err, want, id)
		}
	}
	contains(run("", exitOK, "pubsub", "peers", "--for", "10ms", "--min", "1", "--json"), f.ID().String())
	contains(run("", exitOK, "pubsub", "mesh", "to-far", "--for", "10ms", "--json"), f.ID().String())
	f.subscribes(t, run)

	contains(run("", exitOK, "pubsub", "send", f.target, "hi"), "acknowledged 1 of 1")
	contains(run("a\nb\n", exitOK, "pubsub", "send", f.target, "-"), "acknowledged 2 of 2")
	long := strings.Repeat("all of it, in order. ", 20000)
	if got := run(long, exitOK, "pipe", f.target); got != long {
		t.Errorf("%d of %d bytes came back through a pipe", len(got), len(long))
	}
	contains(run("", exitOK, "block", "have", f.has, "--peer", f.target, "--json"), `"answer": "HAVE"`)
	contains(run("", exitOK, "block", "get", f.has, "--peer", f.target, "--json"), f.ID().String())
	if n := f.handshakes.Load(); n != 1 {
		t.Errorf("all these commands cost %d handshakes", n)
	}
	// A host of its own for who wants one, for another network, and for what the node has no part in.
	run("", exitOK, "dht", "table", "--bootstrap", f.target, "--walks", "0", "--own-host")
	run("", exitOK, "pipe", f.target, "--own-host")
	file := filepath.Join(t.TempDir(), "file")
	run("", exitOK, "block", "get", f.has, "-o", file)
	if got, err := os.ReadFile(file); err != nil || string(got) != "what is in the file" {
		t.Errorf("the block that the node got: %q, %v", got, err)
	}
	run("", exitOK, "block", "have", f.has, "--peer", f.target, "--own-host")
	run("", exitProtocol, "dht", "table", "--bootstrap", f.target, "--dht-prefix", "/other")
	if n := f.handshakes.Load(); n != 5 {
		t.Errorf("%d handshakes after four commands with hosts of their own", n)
	}
	documentsFit(t, near.stop())
}

// subscribes runs two pubsub sub on the node: both get the message, and when they have ended the node wants nothing of the topic.
func (f *far) subscribes(t *testing.T, run func(stdin string, want exitCode, args ...string) string) {
	t.Helper()
	topic, err := f.gossip.Join("to-near", gossip.TopicConfig{}) // not subscribed: else the node would relay the topic for this end
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 2)
	for range 2 {
		go func() { got <- run("", exitOK, "pubsub", "sub", "to-near", "-c", "1") }()
	}
	patience, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := topic.AwaitPeers(patience, 1); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 2; {
		if _, err := topic.Publish(t.Context(), []byte("to whom it concerns")); err != nil {
			t.Fatal(err)
		}
		again := time.NewTimer(50 * time.Millisecond)
		select {
		case line := <-got: // of the second a message may have come before it was there
			n++
			if !strings.Contains(line, "to whom it concerns") {
				t.Errorf("%q", line)
			}
		case <-again.C:
		case <-patience.Done():
			t.Fatal("no message came")
		}
	}
	if err := topic.Await(patience, func(peers []peer.ID) bool { return len(peers) == 0 }); err != nil {
		t.Errorf("the node is subscribed still: %v", err)
	}
}

// TestLentCommandIsInterrupted: Ctrl-C ends a command that runs elsewhere as it ends one that runs here, also while it waits for stdin;
// and the end of the node ends it with a named cause.
func TestLentCommandIsInterrupted(t *testing.T) {
	t.Parallel()
	f := newFar(t)
	own := filepath.Join(t.TempDir(), "near")
	near := start(t, "serve", "--pubsub", "--state-dir", own, "--listen", "/ip4/127.0.0.1/udp/0/quic-v1")
	near.ready()
	heard, err := f.gossip.Join("news", gossip.TopicConfig{})
	if err != nil {
		t.Fatal(err)
	}
	sub := start(t, "pubsub", "sub", "news", "--state-dir", own)
	ping := (session{}).run(t.Context(), "ping", f.target, "-c", "1", "--state-dir", own)
	if ping.code != 0 {
		t.Fatalf("%+v", ping)
	}
	if err := heard.AwaitPeers(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if out := sub.stop(); len(out) == 0 {
		t.Error("pubsub sub says nothing at its end")
	}
	never, end := io.Pipe()
	defer end.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	var stdout, stderr strings.Builder
	ended := make(chan int, 1)
	go func() {
		ended <- Main(ctx, []string{"pipe", f.target, "--state-dir", own}, Stdio{In: never, Out: &stdout, Err: &stderr, LookupEnv: func(string) (string, bool) { return "", false }})
	}()
	if _, err := end.Write([]byte("said before")); err != nil {
		t.Fatal(err)
	}
	cancel(nil)
	if code := <-ended; code == int(exitOK) {
		t.Errorf("exit %d of a pipe that was interrupted: %s", code, stderr.String())
	}
	near.stop()
}
