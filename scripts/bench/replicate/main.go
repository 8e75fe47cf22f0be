// Command replicate measures replication between two processes on loopback, from disk to disk, over QUIC, against what bounds it in
// the same run: a bare stream over the same connection, and signatures checked one by one.
//
//	go run ./scripts/bench/replicate [-entries N] [-file-mib N] [-turns N]
//
// It prints its limits and whether they are met, and exits 1 if one was missed.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/logstore"
	"dibber/netkit/replicate"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
)

// sink writes a stream to disk and answers with one byte.
const sink protocol.ID = "/bench/sink/1.0.0"

func main() {
	entries := flag.Int("entries", 1_000_000, "entries of 256 bytes; 0 leaves them out")
	mib := flag.Int("file-mib", 256, "MiB of payloads that are files, in each turn; 0 leaves them out")
	turns := flag.Int("turns", 5, "how often they and the bare stream are measured, in turns")
	dir := flag.String("serve", "", "be the other process, with a store in a folder")
	flag.Parse()
	var met bool
	var err error
	if *dir != "" {
		err, met = serve(*dir), true
	} else {
		met, err = run(context.Background(), *entries, *mib, *turns)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "replicate:", err)
	}
	if err != nil || !met {
		os.Exit(1)
	}
}

// openStore makes a store in a folder, and its guard beside it.
func openStore(dir string) (*logstore.Store, error) {
	return logstore.Open(logstore.Config{Dir: filepath.Join(dir, "store"), Guard: filepath.Join(dir, "guard", "own-heads")})
}

func newHost() (*host.Node, error) {
	return host.New(host.Config{Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")}})
}

// serve is the other process: it tells its address, and at the end of its input the most memory it ever had.
func serve(dir string) error {
	store, err := openStore(dir)
	if err != nil {
		return err
	}
	n, err := newHost()
	if err != nil {
		return err
	}
	g, err := newGossip(n)
	if err != nil {
		return err
	}
	var came journal
	s, err := replicate.New(n, replicate.NewReplica(store, replicate.Rules{}), replicate.Config{Every: -1, Rate: 1000, Burst: 1000, Gossip: g, OnLive: came.note})
	if err != nil {
		return err
	}
	n.SetStreamHandler(arrivals, came.answer)
	n.SetStreamHandler(echo, answerEcho)
	n.SetStreamHandler(sink, func(st network.Stream) {
		if err := land(st, filepath.Join(dir, "bare")); err != nil {
			_ = st.Reset() // the other side learns that it failed
		}
	})
	fmt.Printf("%s/p2p/%s\n", n.ListenAddrs()[0], n.ID())
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	fmt.Println(peakMiB())
	if err := errors.Join(s.Close(), g.Close()); err != nil {
		return err
	}
	if err := n.Close(); err != nil {
		return err
	}
	return store.Close()
}

// peakMiB is the most memory that this process ever had, in MiB.
func peakMiB() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return -1
	}
	return u.Maxrss / 1024
}

// cpu is the processor time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// other is the other process.
type other struct {
	cmd  *exec.Cmd
	in   io.Closer
	out  *bufio.Reader
	info peer.AddrInfo
}

func start(ctx context.Context, dir string) (*other, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	o := &other{cmd: exec.CommandContext(ctx, self, "-serve", dir)}
	o.cmd.Stderr = os.Stderr
	in, err := o.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := o.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	o.in, o.out = in, bufio.NewReader(out)
	if err := o.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := o.out.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("start the other process: %w", err)
	}
	a, err := ma.NewMultiaddr(strings.TrimSpace(line))
	if err != nil {
		return nil, err
	}
	info, err := peer.AddrInfoFromP2pAddr(a)
	if err != nil {
		return nil, err
	}
	o.info = *info
	return o, nil
}

// stop ends the other process and returns the most memory it ever had, in MiB.
func (o *other) stop() (peak int64, err error) {
	if err := o.in.Close(); err != nil {
		return 0, err
	}
	if _, err := fmt.Fscan(o.out, &peak); err != nil {
		return 0, err
	}
	return peak, o.cmd.Wait()
}

// limit is a figure, what it must keep and whether it does.
type limit struct {
	name, figure, want string
	met                bool
}

func run(ctx context.Context, entries, mib, turns int) (bool, error) {
	dir, err := os.MkdirTemp("", "bench-replicate-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir) // it is a temporary folder either way
	var all []limit
	parts := []func() ([]limit, error){
		verification,
		func() ([]limit, error) { return pushed(ctx, filepath.Join(dir, "live")) },
	}
	if mib > 0 {
		parts = append(parts,
			func() ([]limit, error) { return files(ctx, filepath.Join(dir, "64k"), 64<<10, mib, turns) },
			func() ([]limit, error) { return files(ctx, filepath.Join(dir, "4m"), 4<<20, mib, turns) })
	}
	if entries > 0 {
		parts = append(parts, func() ([]limit, error) { return small(ctx, filepath.Join(dir, "small"), entries) })
	}
	for _, part := range parts {
		limits, err := part()
		if err != nil {
			return false, err
		}
		all = append(all, limits...)
	}
	met := true
	for _, l := range all {
		verdict := "met"
		if !l.met {
			verdict, met = "missed", false
		}
		fmt.Printf("%-34s %-34s %-22s %s\n", l.name, l.figure, l.want, verdict)
	}
	return met, nil
}
