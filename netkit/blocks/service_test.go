package blocks

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"dibber/netkit/host"

	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"
)

// node is a host on loopback.
func node(t testing.TB) *host.Node {
	t.Helper()
	n, err := host.New(host.Config{Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// exchanging is a node that exchanges the blocks of a store.
func exchanging(t testing.TB, s *Store, cfg Config) (*host.Node, *Service) {
	t.Helper()
	n := node(t)
	x, err := New(n, s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return n, x
}

func connect(t testing.TB, from, to *host.Node) network.Conn {
	t.Helper()
	c, err := from.Dial(t.Context(), to.ID(), to.ListenAddrs())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// fetching is how a test gets from peers.
func fetching(x *Service) GetConfig {
	return GetConfig{
		Fetch:      func(ctx context.Context) (Fetcher, error) { return x.Session(ctx), nil },
		StallAfter: 300 * time.Millisecond, Stalled: x.Missing,
	}
}

// log collects messages.
type log struct {
	mu   sync.Mutex
	list []Message
}

func (l *log) add(m Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, m)
}

// kinds counts what was sent to, or received from, a peer.
func (l *log) kinds(n *host.Node, sent bool) map[Kind]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[Kind]int)
	for _, m := range l.list {
		if m.Peer == n.ID() && m.Sent == sent {
			out[m.Kind]++
		}
	}
	return out
}

// A file comes from two peers that were connected before the exchange began, and each gives a part.
func TestBlocksComeFromSeveralPeers(t *testing.T) {
	t.Parallel()
	a, b, to := newStore(t), newStore(t), newStore(t)
	data := filled(t, 2<<20, 1).RawData()
	var root Added
	for _, s := range []*Store{a, b} {
		var err error
		if root, err = Add(t.Context(), s, bytes.NewReader(data), AddConfig{Chunk: 20 << 10}); err != nil {
			t.Fatal(err)
		}
	}
	na, _ := exchanging(t, a, Config{Serve: true})
	nb, _ := exchanging(t, b, Config{Serve: true})
	n := node(t)
	connect(t, n, na)
	connect(t, n, nb)
	var said log
	x, err := New(n, to, Config{On: said.add})
	if err != nil {
		t.Fatal(err)
	}
	got, err := Get(t.Context(), to, root.CID, fetching(x))
	if err != nil || got.Fetched.Blocks != root.Blocks {
		t.Fatalf("%+v, %v; want %d blocks", got, err, root.Blocks)
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	var out bytes.Buffer
	if _, err := WriteFile(t.Context(), &out, to, root.CID); err != nil || !bytes.Equal(out.Bytes(), data) {
		t.Errorf("not the file: %v", err)
	}
	if all, of := said.kinds(na, false), said.kinds(nb, false); all[Block] == 0 || of[Block] == 0 {
		t.Errorf("blocks came from one alone: %v, %v", all, of)
	}
	if x.Counts().BlocksReceived.Load() < uint64(root.Blocks) {
		t.Errorf("%d blocks counted", x.Counts().BlocksReceived.Load())
	}
}

// A peer that goes away in the middle is made up for by the other.
func TestGetSurvivesALoss(t *testing.T) {
	t.Parallel()
	a, b, to := newStore(t), newStore(t), newStore(t)
	data := filled(t, 2<<20, 2).RawData()
	var root Added
	for _, s := range []*Store{a, b} {
		var err error
		if root, err = Add(t.Context(), s, bytes.NewReader(data), AddConfig{Chunk: 20 << 10}); err != nil {
			t.Fatal(err)
		}
	}
	na, _ := exchanging(t, a, Config{Serve: true, Limits: Limits{Rate: 1 << 20}})
	nb, _ := exchanging(t, b, Config{Serve: true})
	n, x := exchanging(t, to, Config{})
	connect(t, n, na)
	cfg := fetching(x)
	lost := false
	cfg.On = func(p Progress) {
		if p.Fetched.Blocks == 20 && !lost {
			lost = true
			connect(t, n, nb)
			if err := n.Network().ClosePeer(na.ID()); err != nil {
				t.Error(err)
			}
		}
	}
	if got, err := Get(t.Context(), to, root.CID, cfg); err != nil || got.Fetched.Blocks != root.Blocks || !lost {
		t.Errorf("%+v, %v", got, err)
	}
}

// What nobody has is found out, of the root and of a part; so is it when nobody is left, or nobody exchanges blocks.
func TestMissing(t *testing.T) {
	t.Parallel()
	a, to := newStore(t), newStore(t)
	root, _ := put(t, a, 100)
	links, err := Links(must(a.Get(t.Context(), root.CID)))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.DeleteBlock(t.Context(), links[3].Cid); err != nil {
		t.Fatal(err)
	}
	na, _ := exchanging(t, a, Config{Serve: true})
	n, x := exchanging(t, to, Config{})
	if _, err := Get(t.Context(), to, root.CID, fetching(x)); !errors.Is(err, ErrNoPeers) {
		t.Errorf("nobody: %v", err)
	}
	connect(t, n, na)
	var missing *NotFoundError
	if got, err := Get(t.Context(), to, root.CID, fetching(x)); !errors.As(err, &missing) || missing.CID != links[3].Cid || missing.Asked != 1 || got.Fetched.Blocks == 0 {
		t.Errorf("a part: %+v, %v", got, err)
	}
	plain := node(t)
	other, y := exchanging(t, newStore(t), Config{})
	connect(t, other, plain)
	if _, err := Get(t.Context(), to, filled(t, 10, 9).Cid(), fetching(y)); !host.NotSupported(err) {
		t.Errorf("no Bitswap: %v", err)
	}
}

func TestAsk(t *testing.T) {
	t.Parallel()
	a := newStore(t)
	small, large, huge := filled(t, 10, 1), filled(t, 20<<10, 2), filled(t, 200<<10, 3)
	if err := a.PutMany(t.Context(), []block.Block{small, large, huge}); err != nil {
		t.Fatal(err)
	}
	na, _ := exchanging(t, a, Config{Serve: true, Limits: Limits{Block: 100 << 10}})
	n, x := exchanging(t, newStore(t), Config{})
	connect(t, n, na)
	said, err := x.Ask(t.Context(), na.ID(), []cid.Cid{small.Cid(), large.Cid(), huge.Cid(), filled(t, 10, 4).Cid()})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []Kind{Have, Have, DontHave, DontHave} {
		if said[i].Kind != want {
			t.Errorf("%d: %s, want %s", i, said[i].Kind, want)
		}
	}
	if _, err := x.Ask(t.Context(), na.ID(), make([]cid.Cid, maxAsk+1)); err == nil {
		t.Error("a list that is too long")
	}
	// One that does not answer: it takes streams and is silent.
	silent := node(t)
	silent.SetStreamHandler(Protocol, func(network.Stream) {})
	connect(t, n, silent)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	said, err = x.Ask(ctx, silent.ID(), []cid.Cid{small.Cid()})
	if !errors.Is(err, context.DeadlineExceeded) || said[0].Kind != "" {
		t.Errorf("silent: %v, %v", said, err)
	}
}

// A block that has rotted is not given out: it is taken out of the store.
func TestRotIsNotServed(t *testing.T) {
	t.Parallel()
	a := newStore(t)
	b := filled(t, InlineMax+1, 1)
	if err := errors.Join(a.Put(t.Context(), b), a.Sync(), a.fs.Remove(a.file(b.Cid()))); err != nil {
		t.Fatal(err)
	}
	told := make(chan *CorruptError, 10)
	na, _ := exchanging(t, a, Config{Serve: true, Corrupt: func(e *CorruptError) { told <- e }})
	to := newStore(t)
	n, x := exchanging(t, to, Config{})
	connect(t, n, na)
	var missing *NotFoundError
	if _, err := Get(t.Context(), to, b.Cid(), fetching(x)); !errors.As(err, &missing) {
		t.Errorf("got %v", err)
	}
	if e := <-told; e.CID != b.Cid() {
		t.Errorf("told of %s", e.CID)
	}
}

func TestNegativeLimits(t *testing.T) {
	t.Parallel()
	if _, err := New(node(t), Nothing{}, Config{Limits: Limits{Rate: -1}}); err == nil {
		t.Error("a negative limit")
	}
}

// Nothing is left running by an exchange that was in the middle of something.
func TestCloseLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	a, to := openStore(t, t.TempDir()), openStore(t, t.TempDir())
	root, _ := put(t, a, 5000)
	n, m := must(host.New(host.Config{Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")}})), must(host.New(host.Config{}))
	x, y := must(New(n, a, Config{Serve: true})), must(New(m, to, Config{}))
	connect(t, m, n)
	ctx, cancel := context.WithCancel(t.Context())
	cfg := fetching(y)
	cfg.On = func(p Progress) {
		if p.Fetched.Blocks == 3 {
			cancel()
		}
	}
	if _, err := Get(ctx, to, root.CID, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := errors.Join(y.Close(), x.Close(), m.Close(), n.Close(), a.Close(), to.Close()); err != nil {
		t.Error(err)
	}
	goleak.VerifyNone(t, before)
}
