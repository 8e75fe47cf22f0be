// Command dht fills a server of the hash table with records and provider entries over real streams on loopback, looks them up,
// and then tries to put more than it may keep. The server is a process of its own, whose memory counts.
//
//	go run ./scripts/bench/dht [-records N] [-providers N]
//
// It prints its figures and limits, and last one line of JSON, and exits 1 if a limit was missed.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/route"
	"dibber/netkit/store"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multihash"
	"golang.org/x/sync/errgroup"
)

const (
	// maxMemoryMiB is what the server may have grown by, in MiB, with all that it keeps.
	maxMemoryMiB = 128
	// maxLookup is the median of a lookup by one client among others.
	maxLookup = 50 * time.Millisecond
	clients   = 8
)

type options struct{ records, providers int }

func main() {
	var o options
	var dir string
	flag.IntVar(&o.records, "records", 10_000, "put `N` records")
	flag.IntVar(&o.providers, "providers", 10_000, "put `N` provider entries")
	flag.StringVar(&dir, "serve", "", "be the server, with its records in a folder; for the program's own use")
	flag.Parse()
	if o.records < clients || o.providers < clients || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	var err error
	if dir != "" {
		err = serve(dir, o)
	} else {
		err = run(context.Background(), o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench dht:", err)
		os.Exit(1)
	}
}

func newHost() (*host.Node, error) {
	return host.New(host.Config{Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")}})
}

// report is what the server tells of itself.
type report struct {
	Records   int                     `json:"records"`
	Providers int                     `json:"providers"`
	Refused   map[route.Reason]uint64 `json:"refused"`
	MiB       float64                 `json:"mib"` // resident
}

// serve is the other process: it tells its address, and what it holds at each line of its input.
func serve(dir string, o options) (err error) {
	db, err := store.Open(dir, store.Config{})
	if err != nil {
		return err
	}
	n, err := newHost()
	if err != nil {
		return err
	}
	r, err := route.New(n, route.Config{Mode: route.Server, Walk: -1, DB: db, Limits: route.Limits{
		Records: o.records, RecordsPerAuthor: o.records, Providers: o.providers, ProvidersPerPeer: o.providers, PerPeer: 1e6, PerPrefix: 1e6,
	}})
	if err != nil {
		return err
	}
	fmt.Printf("%s/p2p/%s\n", n.ListenAddrs()[0], n.ID())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		s := r.Stats()
		line, err := json.Marshal(report{s.Records, s.Providers, s.Refused, residentMiB()})
		if err != nil {
			return err
		}
		fmt.Println(string(line))
	}
	return errors.Join(r.Close(), n.Close(), db.Close())
}

// residentMiB is how much memory this process has now.
func residentMiB() float64 {
	data, err := os.ReadFile("/proc/self/statm")
	var pages, resident int
	if err == nil {
		_, err = fmt.Sscan(string(data), &pages, &resident)
	}
	if err != nil {
		return 0
	}
	return float64(resident*os.Getpagesize()) / (1 << 20)
}

// server is the other process.
type server struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Scanner
	first report
	at    peer.AddrInfo
}

func startServer(ctx context.Context, dir string, o options) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-serve", dir, "-records", fmt.Sprint(o.records), "-providers", fmt.Sprint(o.providers))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd: cmd, in: in, out: bufio.NewScanner(out)}
	if !s.out.Scan() {
		return nil, errors.New("the server did not start")
	}
	info, err := peer.AddrInfoFromString(s.out.Text())
	if err != nil {
		return nil, err
	}
	s.at = *info
	s.first, err = s.report()
	return s, err
}

// report asks what the server holds.
func (s *server) report() (r report, err error) {
	if _, err := io.WriteString(s.in, "\n"); err != nil {
		return r, err
	}
	if !s.out.Scan() {
		return r, errors.New("the server has ended")
	}
	return r, json.Unmarshal(s.out.Bytes(), &r)
}

func (s *server) end() error {
	return errors.Join(s.in.Close(), s.cmd.Wait())
}

// client is one that asks.
type client struct {
	n   *host.Node
	r   *route.Service
	key crypto.PrivKey
}

func newClient(ctx context.Context, at peer.AddrInfo) (*client, error) {
	n, err := newHost()
	if err != nil {
		return nil, err
	}
	r, err := route.New(n, route.Config{Walk: -1, Boot: []peer.AddrInfo{at}, Limits: route.Limits{RecordsPerAuthor: 1 << 20}})
	if err != nil {
		return nil, err
	}
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, err
	}
	return &client{n, r, key}, r.Join(ctx)
}

func (c *client) close() error { return errors.Join(c.r.Close(), c.n.Close()) }

// name and cidOf are what is put by number.
func name(i int) string { return fmt.Sprintf("record %d", i) }

func cidOf(i int) (cid.Cid, error) {
	h, err := multihash.Sum(binary.BigEndian.AppendUint64(nil, uint64(i)), multihash.SHA2_256, -1)
	return cid.NewCidV1(cid.Raw, h), err
}

// part is what one kind of request came to.
type part struct {
	Count     int     `json:"count"`
	PerSecond float64 `json:"per_second"`
	P50MS     float64 `json:"p50_ms"`
	P99MS     float64 `json:"p99_ms"`
}

// each has the clients do something count times, and measures it.
func each(ctx context.Context, all []*client, count int, do func(ctx context.Context, c *client, i int) error) (part, error) {
	took := make([]time.Duration, count)
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for w, c := range all {
		g.Go(func() error {
			for i := w; i < count; i += len(all) {
				at := time.Now()
				if err := do(ctx, c, i); err != nil {
					return fmt.Errorf("number %d: %w", i, err)
				}
				took[i] = time.Since(at)
			}
			return nil
		})
	}
	err := g.Wait()
	total := time.Since(began)
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return part{count, float64(count) / total.Seconds(), ms(took[count/2]), ms(took[count*99/100])}, err
}

// result is the line of JSON.
type result struct {
	Bench    string   `json:"bench"`
	Puts     part     `json:"puts"`
	Gets     part     `json:"gets"`
	Provides part     `json:"provides"`
	Finds    part     `json:"finds"`
	Held     report   `json:"held"`
	GrewMiB  float64  `json:"grew_mib"`
	TooMany  int      `json:"too_many"`         // puts beyond the limits
	Refused  int      `json:"too_many_refused"` // of them
	Fails    []string `json:"fails"`
}

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "dibber-bench-dht")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := startServer(ctx, dir, o)
	if err != nil {
		return err
	}
	var all []*client
	for range clients {
		c, err := newClient(ctx, s.at)
		if err != nil {
			return err
		}
		all = append(all, c)
	}
	r, err := measure(ctx, s, all, o)
	for _, c := range all {
		err = errors.Join(err, c.close())
	}
	if err = errors.Join(err, s.end()); err != nil {
		return err
	}
	return r.print()
}

// measure fills the server, looks everything up, and asks for more than it keeps.
func measure(ctx context.Context, s *server, all []*client, o options) (r result, err error) {
	r = result{Bench: "dht", Fails: []string{}}
	until := time.Now().Add(time.Hour)
	put := func(ctx context.Context, c *client, i int) error {
		key, signed, err := route.Record{Name: name(i), Seq: 1, Expires: until, Value: make([]byte, 256)}.Seal(c.key)
		if err != nil {
			return err
		}
		_, _, err = c.r.Put(ctx, key, signed, nil)
		return err
	}
	provide := func(ctx context.Context, c *client, i int) error {
		k, err := cidOf(i)
		if err == nil {
			_, _, err = c.r.Provide(ctx, k, nil)
		}
		return err
	}
	author := func(i int) (peer.ID, error) { return peer.IDFromPrivateKey(all[i%len(all)].key) }
	steps := []struct {
		to    *part
		count int
		do    func(ctx context.Context, c *client, i int) error
	}{
		{&r.Puts, o.records, put},
		{&r.Provides, o.providers, provide},
		{&r.Gets, o.records, func(ctx context.Context, _ *client, i int) error {
			id, err := author(i)
			if err != nil {
				return err
			}
			// By another one than has put it, who keeps a copy.
			_, _, err = all[(i+1)%len(all)].r.Get(ctx, route.RecordKey(id, name(i)), nil)
			return err
		}},
		{&r.Finds, o.providers, func(ctx context.Context, _ *client, i int) error {
			k, err := cidOf(i)
			if err == nil {
				_, _, err = all[(i+1)%len(all)].r.FindProviders(ctx, k, 1, nil, nil)
			}
			return err
		}},
	}
	for _, step := range steps {
		if *step.to, err = each(ctx, all, step.count, step.do); err != nil {
			return r, err
		}
	}
	if r.Held, err = s.report(); err != nil {
		return r, err
	}
	r.GrewMiB = r.Held.MiB - s.first.MiB
	for i := range 20 {
		r.TooMany += 2
		for _, err := range []error{put(ctx, all[0], o.records+i), provide(ctx, all[0], o.providers+i)} {
			if errors.Is(err, route.ErrRefused) {
				r.Refused++
			}
		}
	}
	after, err := s.report()
	r.Held.Refused = after.Refused
	r.judge(o, after)
	return r, err
}

func (r *result) judge(o options, after report) {
	for _, limit := range []struct {
		name string
		met  bool
	}{
		{"all are kept", r.Held.Records == o.records && r.Held.Providers == o.providers},
		{"no more are kept than allowed", after.Records == o.records && after.Providers == o.providers && r.Refused == r.TooMany},
		{fmt.Sprintf("grown by at most %d MiB", maxMemoryMiB), r.GrewMiB <= maxMemoryMiB},
		{fmt.Sprintf("median lookup at most %s", maxLookup), max(r.Gets.P50MS, r.Finds.P50MS) <= float64(maxLookup.Milliseconds())},
	} {
		verdict := "met"
		if !limit.met {
			verdict = "missed"
			r.Fails = append(r.Fails, limit.name)
		}
		fmt.Printf("%-40s %s\n", limit.name, verdict)
	}
}

func (r *result) print() error {
	for _, row := range []struct {
		name string
		p    part
	}{{"put", r.Puts}, {"get", r.Gets}, {"provide", r.Provides}, {"find-providers", r.Finds}} {
		fmt.Printf("%-16s %7d  %7.0f a second, median %.1f ms, 99th %.1f ms, %d clients at once\n", row.name, row.p.Count, row.p.PerSecond, row.p.P50MS, row.p.P99MS, clients)
	}
	fmt.Printf("memory of the server grew by %.1f MiB to %.1f MiB; refused beyond the limits: %d of %d\n", r.GrewMiB, r.Held.MiB, r.Refused, r.TooMany)
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	if len(r.Fails) > 0 {
		return errors.New("a limit is exceeded: " + strings.Join(r.Fails, ", "))
	}
	return nil
}
