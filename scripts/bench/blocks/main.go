// Command blocks measures how fast a file of 256 KiB blocks comes from another process on loopback, over QUIC, from disk to disk: with
// netkit/blocks on both sides, and with boxo's own Bitswap on both sides over the same hosts and the same store, in the same run.
//
//	go run ./scripts/bench/blocks [-mib N] [-rounds N]
//
// It prints its limit and whether it is met, and exits 1 if it was missed.
package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dibber/netkit/blocks"
	"dibber/netkit/host"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// least is the part of boxo's speed that ours must reach.
const least = 0.85

func main() {
	mib := flag.Int("mib", 256, "MiB of the file")
	rounds := flag.Int("rounds", 5, "how often each is measured; the medians are compared")
	dir := flag.String("serve", "", "be the other process, with the store in a folder")
	with := flag.String("with", "ours", "the exchange of the other process: ours or boxo")
	flag.Parse()
	met := true
	var err error
	if *dir != "" {
		err = serve(*dir, *with)
	} else {
		met, err = run(context.Background(), *mib, *rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "blocks:", err)
	}
	if err != nil || !met {
		os.Exit(1)
	}
}

func newHost() (*host.Node, error) {
	return host.New(host.Config{Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")}})
}

// serve is the other process: it tells its address and ends with its input.
func serve(dir, with string) error {
	store, err := blocks.OpenStore(blocks.StoreConfig{Dir: dir})
	if err != nil {
		return err
	}
	n, err := newHost()
	if err != nil {
		return err
	}
	var stop func() error
	if with == "boxo" {
		stop = bitswap.New(context.Background(), bsnet.NewFromIpfsHost(n), nil, store).Close
	} else {
		s, err := blocks.New(n, store, blocks.Config{Serve: true})
		if err != nil {
			return err
		}
		stop = s.Close
	}
	fmt.Printf("%s/p2p/%s\n", n.ListenAddrs()[0], n.ID())
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return errors.Join(stop(), n.Close(), store.Close())
}

// file is what is fetched.
type file struct {
	root  cid.Cid
	all   []cid.Cid
	bytes int64
}

// prepare puts a file of random bytes into the store that is served.
func prepare(ctx context.Context, dir string, mib int) (f file, err error) {
	store, err := blocks.OpenStore(blocks.StoreConfig{Dir: dir})
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	r := rand.NewChaCha8([32]byte{1})
	a, err := blocks.Add(ctx, store, io.LimitReader(r, int64(mib)<<20), blocks.AddConfig{})
	if err != nil {
		return f, err
	}
	f.root, f.bytes = a.CID, a.Bytes
	return f, f.walk(ctx, store, a.CID)
}

func (f *file) walk(ctx context.Context, store *blocks.Store, c cid.Cid) error {
	f.all = append(f.all, c)
	b, err := store.Get(ctx, c)
	if err != nil {
		return err
	}
	links, err := blocks.Links(b)
	for _, l := range links {
		err = errors.Join(err, f.walk(ctx, store, l.Cid))
	}
	return err
}

// fetch gets the file from another process into a new store and returns how long that took, the last sync included.
func (f *file) fetch(ctx context.Context, dir, with string) (took time.Duration, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, self, "-serve", filepath.Join(dir, "served"), "-with", with)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, in.Close(), cmd.Wait()) }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("start the other process: %w", err)
	}
	at, err := ma.NewMultiaddr(strings.TrimSpace(line))
	if err != nil {
		return 0, err
	}
	info, err := peer.AddrInfoFromP2pAddr(at)
	if err != nil {
		return 0, err
	}
	to := filepath.Join(dir, "to")
	defer func() { err = errors.Join(err, os.RemoveAll(to)) }()
	store, err := blocks.OpenStore(blocks.StoreConfig{Dir: to})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	n, err := newHost()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	get := f.ours
	if with == "boxo" {
		get = f.boxo
	}
	return get(ctx, n, store, *info)
}

func (f *file) ours(ctx context.Context, n *host.Node, store *blocks.Store, from peer.AddrInfo) (took time.Duration, err error) {
	s, err := blocks.New(n, store, blocks.Config{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := n.Connect(ctx, from); err != nil {
		return 0, err
	}
	began := time.Now()
	got, err := blocks.Get(ctx, store, f.root, blocks.GetConfig{Fetch: func(ctx context.Context) (blocks.Fetcher, error) { return s.Session(ctx), nil }})
	if err != nil {
		return 0, err
	}
	if got.Fetched.Bytes != f.bytes {
		return 0, fmt.Errorf("%d bytes came instead of %d", got.Fetched.Bytes, f.bytes)
	}
	err = store.Sync()
	return time.Since(began), err
}

// boxo fetches as boxo's block service does: blocks are put into the store as they come.
func (f *file) boxo(ctx context.Context, n *host.Node, store *blocks.Store, from peer.AddrInfo) (took time.Duration, err error) {
	b := bitswap.New(ctx, bsnet.NewFromIpfsHost(n), nil, store, bitswap.WithServerEnabled(false))
	defer func() { err = errors.Join(err, b.Close()) }()
	if err := n.Connect(ctx, from); err != nil {
		return 0, err
	}
	began := time.Now()
	in, err := b.NewSession(ctx).GetBlocks(ctx, f.all)
	if err != nil {
		return 0, err
	}
	bytes := int64(0)
	for one := range in {
		if err := store.Put(ctx, one); err != nil {
			return 0, err
		}
		bytes += int64(len(one.RawData()))
	}
	if bytes != f.bytes {
		return 0, fmt.Errorf("%d bytes came instead of %d", bytes, f.bytes)
	}
	err = store.Sync()
	return time.Since(began), err
}

func run(ctx context.Context, mib, rounds int) (bool, error) {
	dir, err := os.MkdirTemp("", "bench-blocks-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir) // it is a temporary folder either way
	f, err := prepare(ctx, filepath.Join(dir, "served"), mib)
	if err != nil {
		return false, err
	}
	rates := make(map[string][]float64)
	for range rounds {
		for _, with := range []string{"ours", "boxo"} {
			took, err := f.fetch(ctx, dir, with)
			if err != nil {
				return false, fmt.Errorf("%s: %w", with, err)
			}
			rates[with] = append(rates[with], float64(f.bytes)/took.Seconds()/(1<<20))
		}
	}
	for _, with := range []string{"ours", "boxo"} {
		fmt.Printf("%-6s %8.1f MiB/s  (%d MiB in %d blocks, %d rounds of %s)\n", with, median(rates[with]), mib, len(f.all), rounds, spread(rates[with]))
	}
	ratio := median(rates["ours"]) / median(rates["boxo"])
	verdict := "met"
	if ratio < least {
		verdict = "missed"
	}
	fmt.Printf("%-34s %-22s %-22s %s\n", "256 KiB blocks, against boxo", fmt.Sprintf("%.2f", ratio), fmt.Sprintf("at least %.2f", least), verdict)
	return ratio >= least, nil
}

func median(list []float64) float64 {
	list = slices.SortedFunc(slices.Values(list), cmp.Compare[float64])
	return list[len(list)/2]
}

func spread(list []float64) string {
	return fmt.Sprintf("%.0f to %.0f", slices.Min(list), slices.Max(list))
}
