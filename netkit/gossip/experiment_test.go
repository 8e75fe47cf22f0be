package gossip

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natlab"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
)

// How large the experiments are; scripts/bench/gossip runs them larger than the tests do.
var (
	expHosts    = flag.Int("gossip.hosts", 12, "hosts of the experiments")
	expMessages = flag.Int("gossip.messages", 4, "messages of the experiments")
	expReport   = flag.String("gossip.report", "", "write what was measured to this `FILE`, as JSON")
	expSeed     = flag.Uint64("gossip.seed", 1, "seed of topology and publishers")
)

const (
	expLatency = 20 * time.Millisecond // between any two hosts, one way
	expDegree  = 4                     // hosts that each one dials
)

// trial is what an experiment measured.
type trial struct {
	Name       string  `json:"name"`
	Hosts      int     `json:"hosts"`
	Hostile    int     `json:"hostile"`
	Scores     bool    `json:"scores"`
	Messages   int     `json:"messages"`
	Delivery   float64 `json:"delivery"`        // of honest messages to honest hosts, 1 is all
	MedianMS   float64 `json:"median_ms"`       // until delivered
	P99MS      float64 `json:"p99_ms"`          //
	ShortestMS float64 `json:"shortest_ms"`     // median of the shortest paths
	Stretch    float64 `json:"stretch"`         // median over median
	Duplicates float64 `json:"duplicates"`      // copies beyond the first, a message and host
	Junk       int     `json:"junk"`            // messages of hostile hosts and replays that honest ones were given
	Graylisted float64 `json:"graylisted"`      // share of hostile neighbours of which nothing is read any more
	Lazy       float64 `json:"lazy"`            // share of first copies that were fetched
	WallS      float64 `json:"wall_s,omitzero"` // real time of the run
}

// swarm is a network of honest hosts, some hostile ones among them, on one topic.
type swarm struct {
	lab
	rng    *rand.Rand
	honest []node
	rogues []*rogue
	boxes  []*inbox
	edges  map[peer.ID][]int
}

// build connects every honest host with some others at random, and every hostile one with all.
func build(l lab, hosts, hostile int, cfg Config) *swarm {
	n := &swarm{lab: l, rng: rand.New(rand.NewPCG(*expSeed, 7)), edges: make(map[peer.ID][]int)}
	link := natlab.MachineConfig{Link: natlab.LinkConfig{Latency: expLatency / 2}}
	cfg.Trace = true
	for i := range hosts - hostile {
		h := l.lab.Internet().Machine(fmt.Sprint("honest", i), link).Host(host.Config{})
		log := &events{}
		own := cfg
		own.On = func(e Event) {
			if e.Kind == Copied {
				log.add(e)
			}
		}
		s, err := New(h, own)
		if err != nil {
			l.Fatal(err)
		}
		l.Cleanup(func() { _ = s.Close() })
		n.honest = append(n.honest, node{s, h, log})
	}
	for i, a := range n.honest {
		for _, j := range n.rng.Perm(len(n.honest))[:expDegree] {
			if i != j {
				l.connect(a, n.honest[j])
				n.edges[a.host.ID()] = append(n.edges[a.host.ID()], j)
				n.edges[n.honest[j].host.ID()] = append(n.edges[n.honest[j].host.ID()], i)
			}
		}
	}
	for i := range hostile {
		n.rogues = append(n.rogues, l.rogue(l.lab.Internet().Machine(fmt.Sprint("hostile", i), link)))
	}
	for _, a := range n.honest {
		for _, r := range n.rogues { // before the others: whoever comes first is in the mesh
			r.meet(peer.AddrInfo{ID: a.host.ID(), Addrs: a.host.Addrs()}, "news")
		}
		n.boxes = append(n.boxes, l.subscribe(a, "news"))
	}
	l.settle(5)
	return n
}

// hops are the lengths of the shortest paths from one honest host to all.
func (n *swarm) hops(from int) []int {
	out := make([]int, len(n.honest))
	for i := range out {
		out[i] = -1
	}
	out[from] = 0
	for queue := []int{from}; len(queue) > 0; queue = queue[1:] {
		for _, next := range n.edges[n.honest[queue[0]].host.ID()] {
			if out[next] < 0 {
				out[next] = out[queue[0]] + 1
				queue = append(queue, next)
			}
		}
	}
	return out
}

// run publishes messages from honest hosts chosen at random, one every gap, and measures.
func (n *swarm) run(name string, messages int, gap time.Duration) trial {
	t := trial{Name: name, Hosts: len(n.honest) + len(n.rogues), Hostile: len(n.rogues), Scores: !n.honest[0].cfg.NoScore, Messages: messages}
	sent := make(map[string]time.Time)
	var shortest []float64
	for i := range messages {
		from := n.rng.IntN(len(n.honest))
		data := fmt.Sprint("honest ", i)
		topic := n.join(n.honest[from], "news")
		sent[data] = time.Now()
		n.publish(topic, data)
		for _, hops := range n.hops(from) {
			if hops > 0 {
				shortest = append(shortest, float64(hops)*float64(expLatency/time.Millisecond))
			}
		}
		time.Sleep(gap)
	}
	n.settle(8)
	var took []float64
	for i, box := range n.boxes {
		seen := make(map[string]bool)
		for _, m := range box.messages() {
			at, honest := sent[string(m.Data)]
			switch {
			case !honest || seen[string(m.Data)]:
				t.Junk++
			case m.From != n.honest[i].host.ID():
				took = append(took, float64(m.At.Sub(at).Microseconds())/1000)
			}
			seen[string(m.Data)] = true
		}
	}
	t.Delivery = float64(len(took)) / float64(messages*(len(n.honest)-1))
	t.MedianMS, t.P99MS, t.ShortestMS = quantile(took, 0.5), quantile(took, 0.99), quantile(shortest, 0.5)
	t.Stretch = t.MedianMS / t.ShortestMS
	n.copies(&t)
	return t
}

// copies counts copies of honest messages, and what became of the hostile neighbours.
func (n *swarm) copies(t *trial) {
	authors := make(map[peer.ID]bool)
	for _, a := range n.honest {
		authors[a.host.ID()] = true
	}
	duplicates, firsts, lazy, gray, neighbours := 0, 0, 0, 0, 0
	for _, a := range n.honest {
		for _, e := range a.log.of(Copied) {
			switch {
			case !authors[e.Copy.From]:
			case !e.Copy.First:
				duplicates++
			default:
				firsts++
				if e.Copy.How == Lazy {
					lazy++
				}
			}
		}
		for _, r := range n.rogues {
			neighbours++
			if s := a.scoreOf(r.host.ID()); s != nil && s.Total < thresholds(false).GraylistThreshold {
				gray++
			}
		}
	}
	if firsts > 0 {
		t.Duplicates, t.Lazy = float64(duplicates)/float64(firsts), float64(lazy)/float64(firsts)
	}
	if neighbours > 0 {
		t.Graylisted = float64(gray) / float64(neighbours)
	}
}

func quantile(all []float64, q float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// attack has every hostile host do what do says to each honest one, ten times a second, until stop is called.
func (n *swarm) attack(do func(r *rogue, to peer.ID, turn int)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, r := range n.rogues {
		running.Go(func() {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for turn := 0; ; turn++ {
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
				for _, a := range n.honest {
					if !r.cut(a.host.ID()) {
						do(r, a.host.ID(), turn)
					}
				}
			}
		})
	}
	return func() { cancel(); running.Wait() }
}

// attacks are the ways of being hostile. All of them also pass nothing on.
func attacks() map[string]func(n *swarm) func(r *rogue, to peer.ID, turn int) {
	return map[string]func(n *swarm) func(r *rogue, to peer.ID, turn int){
		"spam": func(*swarm) func(*rogue, peer.ID, int) {
			return func(r *rogue, to peer.ID, _ int) {
				r.send(to, &pb.RPC{Publish: []*pb.Message{r.message("news", []byte("buy"), true)}})
			}
		},
		"wrong signatures": func(*swarm) func(*rogue, peer.ID, int) {
			return func(r *rogue, to peer.ID, _ int) {
				r.send(to, &pb.RPC{Publish: []*pb.Message{r.message("news", []byte("forged"), false)}})
			}
		},
		"replay": func(*swarm) func(*rogue, peer.ID, int) {
			return func(r *rogue, to peer.ID, turn int) {
				if heard := r.captured(); len(heard) > 0 {
					r.send(to, &pb.RPC{Publish: []*pb.Message{heard[turn%len(heard)]}})
				}
			}
		},
		"eclipse": func(*swarm) func(*rogue, peer.ID, int) { return func(*rogue, peer.ID, int) {} },
	}
}

// report keeps trials for scripts/bench/gossip.
func report(t *testing.T, trials []trial) {
	t.Helper()
	trials = slices.DeleteFunc(trials, func(r trial) bool { return r.Name == "" }) // one that was not made
	for _, r := range trials {
		t.Logf("%+v", r)
	}
	if *expReport == "" {
		return
	}
	f, err := os.OpenFile(*expReport, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range trials {
		if err := json.NewEncoder(f).Encode(r); err != nil {
			t.Error(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// expRun is one experiment in a lab of its own.
func expRun(t *testing.T, name string, hostile int, cfg Config, do func(n *swarm) func(r *rogue, to peer.ID, turn int)) (r trial) {
	t.Helper()
	began := time.Now()
	bubble(t, func(l lab) {
		n := build(l, *expHosts, hostile, cfg)
		if do != nil {
			stop := n.attack(do(n))
			defer stop()
			l.settle(5)
		}
		r = n.run(name, *expMessages, 700*time.Millisecond)
	})
	r.WallS = time.Since(began).Seconds()
	return r
}

// In a network where each host knows a few others, everybody gets everything, the median in at most twice the time that the shortest
// path takes.
func TestSpeedOfANetwork(t *testing.T) {
	r := expRun(t, "quiet", 0, Config{}, nil)
	report(t, []trial{r})
	if r.Delivery != 1 || r.Junk > 0 {
		t.Errorf("delivered %v, junk %d", r.Delivery, r.Junk)
	}
	if r.Stretch > 2 {
		t.Errorf("median %v ms, shortest paths %v ms", r.MedianMS, r.ShortestMS)
	}
}

// With a tenth of the hosts hostile and connected with everybody, honest messages get to all honest hosts; with scores, hardly
// anything of the hostile ones is read.
func TestATenthIsHostile(t *testing.T) {
	names := []string{"spam", "wrong signatures", "replay", "eclipse"}
	for _, name := range names {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			hostile := max(*expHosts/10, 1)
			cfg := Config{Rate: 5, Burst: 10, Seen: 5 * time.Second}
			with := expRun(t, name, hostile, cfg, attacks()[name])
			var without trial
			if cfg.NoScore = true; *expReport != "" || name == "spam" {
				without = expRun(t, name, hostile, cfg, attacks()[name])
			}
			report(t, []trial{with, without})
			if with.Delivery < 0.999 {
				t.Errorf("delivered with scores: %v", with.Delivery)
			}
			switch name {
			case "spam":
				if with.Graylisted < 0.9 || with.Junk*2 > without.Junk {
					t.Errorf("spam is read: %+v, %+v", with, without)
				}
			case "wrong signatures":
				if with.Graylisted < 0.9 || with.Junk > 0 || without.Junk > 0 {
					t.Errorf("who forges is read: %+v, %+v", with, without)
				}
			case "replay":
				if with.Junk > 0 || without.Junk > 0 {
					t.Errorf("old messages were delivered: %+v, %+v", with, without)
				}
			}
		})
	}
}
