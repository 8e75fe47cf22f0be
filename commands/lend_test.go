package commands

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"dibber/netkit/host"
	"dibber/netkit/perf"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

// TestOneShotsOnARunningNode: commands run on the connections of the node that has the state folder, so that all but the first cost no
// handshake.
func TestOneShotsOnARunningNode(t *testing.T) {
	t.Parallel()
	const quic = "/ip4/127.0.0.1/udp/0/quic-v1"
	dir := t.TempDir()
	far, err := host.New(host.Config{Listen: []ma.Multiaddr{ma.StringCast(quic)}})
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	measured := perf.New(far, perf.ServerConfig{})
	defer measured.Close()
	var handshakes atomic.Int64
	far.Network().Notify(&network.NotifyBundle{ConnectedF: func(network.Network, network.Conn) { handshakes.Add(1) }})
	target := fmt.Sprintf("%s/p2p/%s", far.ListenAddrs()[0], far.ID())
	own := filepath.Join(dir, "near")
	near := start(t, "serve", "--state-dir", own, "--listen", quic)
	self := near.ready().Addrs[0]
	run := func(want exitCode, args ...string) outcome {
		t.Helper()
		got := (session{}).run(t.Context(), args...)
		if got.code != int(want) {
			t.Fatalf("%v: exit %d\n%s%s", args, got.code, got.stdout, got.stderr)
		}
		return got
	}
	for range 2 {
		run(exitOK, "ping", target, "-c", "1", "--state-dir", own)
		run(exitOK, "perf", target, "--bytes", "1000", "--trips", "2", "--state-dir", own, "--json")
	}
	if n := handshakes.Load(); n != 1 {
		t.Errorf("four commands cost %d handshakes", n)
	}
	// What asks for another host than that node gets one, and so does who has to do with that node itself.
	for i, args := range [][]string{{"--own-host"}, {"--transport", "quic"}, {"-4"}} {
		run(exitOK, append([]string{"ping", target, "-c", "1", "--state-dir", own}, args...)...)
		if n := handshakes.Load(); n != int64(2+i) {
			t.Errorf("%v: %d handshakes", args, n)
		}
	}
	run(exitOK, "ping", self, "-c", "1", "--state-dir", own)
	// Its failures are those of the command, also as documents.
	nobody := "/ip4/127.0.0.1/udp/9/quic-v1/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm"
	got := run(exitUnreachable, "ping", nobody, "-c", "1", "--timeout", "20s", "--state-dir", own, "--json")
	if !strings.Contains(got.stdout, `"ok": false`) {
		t.Errorf("a failure: %s", got.stdout)
	}
	documentsFit(t, near.stop())
	// Nobody has the folder any more: the command has a host of its own again.
	before := handshakes.Load()
	run(exitOK, "ping", target, "-c", "1", "--state-dir", own)
	if n := handshakes.Load() - before; n != 1 {
		t.Errorf("without the node: %d handshakes", n)
	}
}

// TestLentOnlyAsFarAsItGoes: a node runs nothing but the commands that are made for it.
func TestLentOnlyAsFarAsItGoes(t *testing.T) {
	n, err := host.New(host.Config{Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	l := &lending{n: n}
	for _, args := range [][]string{{"serve"}, {"ctl", "status"}, {"ping", "--help"}, {"no-such-command"}, {"ping", "/p2p/" + l.n.ID().String()}, {}} {
		if err := l.admits(lentCommand{Args: args}); err == nil {
			t.Errorf("%v runs", args)
		}
	}
	if err := l.admits(lentCommand{Args: []string{"ping", "/ip4/192.0.2.1/tcp/1/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm"}}); err != nil {
		t.Error(err)
	}
}
