package serve_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"dibber/netkit/dialback"
	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/reach"
	"dibber/netkit/route"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// member is a host of the experiment.
type member struct {
	*host.Node
	s      *serve.Server
	public bool
}

// crowd is the experiment: hosts of which half are public, and who know the boot nodes and nobody else.
type crowd struct {
	t    *testing.T
	lab  *natlab.Lab
	rng  *rand.Rand
	keys *rand.ChaCha8
	size int
	made int
	boot []member
	all  []member // those that live, boot nodes included
}

// findsOut says whether hosts find out by dial-backs whether they can be reached. In the small network they are told.
func (c *crowd) findsOut() bool { return c.size > 40 }

// fixed is what a host is told of itself.
func (c *crowd) fixed(public bool) reach.State {
	switch {
	case c.findsOut():
		return ""
	case public:
		return reach.Public
	}
	return reach.Private
}

// conns is how many connections a host may have; a number well below that of the hosts.
func (c *crowd) conns() int { return max(20, c.size/8) }

// replication is how many peers a part of a table has room for: two parts of it are connected for good.
func (c *crowd) replication() int { return max(4, c.conns()/6) }

// add starts a host.
func (c *crowd) add(public bool) member {
	c.t.Helper()
	c.made++
	name := fmt.Sprintf("host%d", c.made)
	link := natlab.LinkConfig{Latency: time.Duration(2+c.rng.IntN(20)) * time.Millisecond}
	var m *natlab.Machine
	if public {
		m = c.lab.Internet().Machine(name, natlab.MachineConfig{Link: link})
	} else {
		kinds := natlab.Grid()
		nat := natlab.RouterConfig{NAT: kinds[1+c.rng.IntN(len(kinds)-1)]}
		m = c.lab.Internet().Router(name+"-router", nat).LAN().Machine(name, natlab.MachineConfig{Link: link})
	}
	cfg := serve.Config{
		Full:  &serve.Full{FindRelays: true, Fixed: c.fixed(public)},
		Route: &route.Config{Mode: route.Auto, Replication: c.replication(), Walk: 4 * time.Minute},
	}
	if c.findsOut() {
		cfg.DialBack = &dialback.Config{}
	}
	for _, b := range c.boot {
		cfg.Route.Boot = append(cfg.Route.Boot, info(b.Node))
	}
	key, _, err := crypto.GenerateEd25519Key(c.keys)
	if err != nil {
		c.t.Fatal(err)
	}
	n := m.Host(host.Config{Identity: key, Limits: host.Limits{Conns: c.conns(), ConnsPerIP: c.conns(), Memory: 256 << 20}})
	s, err := serve.New(n, cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	out := member{n, s, public}
	c.all = append(c.all, out)
	if len(c.all)%20 == 0 {
		c.progress("%d of %d hosts", len(c.all), c.size)
	}
	return out
}

// progress tells scripts/bench/network how far the experiment is.
func (c *crowd) progress(format string, args ...any) {
	if c.findsOut() {
		c.t.Logf("progress %s, after %s of its time", fmt.Sprintf(format, args...), c.lab.Elapsed().Round(time.Second))
	}
}

// wait leaves the network alone.
func (c *crowd) wait(d time.Duration) {
	for ; d > 0; d -= time.Minute {
		time.Sleep(min(d, time.Minute))
		c.progress("%d hosts left alone", len(c.all))
	}
}

// leave ends a host without a word to the others.
func (c *crowd) leave(m member) {
	c.t.Helper()
	if err := m.Node.Close(); err != nil {
		c.t.Error(err)
	}
	if err := m.s.Close(); err != nil {
		c.t.Log(err) // it has no connection any more
	}
	c.all = slices.DeleteFunc(c.all, func(o member) bool { return o.ID() == m.ID() })
}

// components are how many hosts each part of the network has that nothing joins with another part: an open connection, or, if
// tables count too, a peer in a table.
func (c *crowd) components(tables bool) (sizes []int) {
	part := make(map[peer.ID]int)
	links := make(map[peer.ID][]peer.ID)
	for _, m := range c.all {
		known := m.Network().Peers()
		if tables {
			for _, e := range m.s.Route().Table() {
				known = append(known, e.Peer)
			}
		}
		for _, p := range known {
			links[m.ID()] = append(links[m.ID()], p)
			links[p] = append(links[p], m.ID())
		}
	}
	for _, m := range c.all {
		if _, seen := part[m.ID()]; seen {
			continue
		}
		sizes = append(sizes, 0)
		queue := []peer.ID{m.ID()}
		part[m.ID()] = len(sizes)
		for len(queue) > 0 {
			p := queue[0]
			queue = queue[1:]
			if slices.ContainsFunc(c.all, func(o member) bool { return o.ID() == p }) {
				sizes[len(sizes)-1]++
			}
			for _, q := range links[p] {
				if _, seen := part[q]; !seen {
					part[q] = len(sizes)
					queue = append(queue, q)
				}
			}
		}
	}
	return sizes
}

// spread is how a figure is spread over hosts.
type spread struct {
	Mean float64 `json:"mean"`
	Max  float64 `json:"max"`
}

func spreadOf(values []float64) (s spread) {
	for _, v := range values {
		s.Mean += v / float64(len(values))
		s.Max = max(s.Max, v)
	}
	return s
}

// look is a checkpoint.
type look struct {
	After        string  `json:"after"`
	Hosts        int     `json:"hosts"`
	Public       int     `json:"public"`
	Parts        int     `json:"parts"`        // of the graph of tables and open connections
	OpenParts    int     `json:"open_parts"`   // of that of open connections alone
	Conns        spread  `json:"conns"`        // of a host
	Table        spread  `json:"table"`        // of a host
	Hops         spread  `json:"hops"`         // of a lookup
	Asked        spread  `json:"asked"`        // of a lookup
	Failed       int     `json:"failed"`       // lookups of 12
	Log2         float64 `json:"log2_servers"` // of the number of servers
	Found        int     `json:"found"`        // private hosts that another one reached by their peer id alone
	Looked       int     `json:"looked"`       // of so many
	Unknown      int     `json:"unknown"`      // of these, those whose addresses were not found
	Relayed      int     `json:"relayed"`      // private hosts with a reservation
	Mistaken     int     `json:"mistaken"`     // private hosts that hold themselves for public: their NAT lets in whom they are connected with
	Reservations spread  `json:"reservations"` // of a public host, as the following
	DialBacks    spread  `json:"dial_backs"`
	Circuits     spread  `json:"circuits"`
}

// look looks at the whole network, and has some hosts look for others.
func (c *crowd) look(after string) look {
	c.t.Helper()
	out := look{After: after, Hosts: len(c.all), Parts: len(c.components(true)), OpenParts: len(c.components(false))}
	var conns, tables []float64
	for _, m := range c.all {
		conns = append(conns, float64(len(m.Network().Conns())))
		tables = append(tables, float64(m.s.Route().Stats().Table))
		if m.public {
			out.Public++
			continue
		}
		if len(m.Circuits()) > 0 {
			out.Relayed++
		} else if m.s.Reachability() == reach.Public {
			out.Mistaken++
		}
	}
	out.Conns, out.Table, out.Log2 = spreadOf(conns), spreadOf(tables), math.Log2(float64(out.Public))
	var hops, asked []float64
	for range 12 {
		_, l, err := c.all[c.rng.IntN(len(c.all))].s.Route().Walk(c.t.Context(), nil)
		if err != nil {
			out.Failed++ // those that it knows may all be full
			continue
		}
		hops, asked = append(hops, float64(l.Hops)), append(asked, float64(l.Asked))
	}
	out.Hops, out.Asked = spreadOf(hops), spreadOf(asked)
	c.meet(&out)
	var reservations, dialBacks, circuits []float64
	for _, m := range c.all {
		if r := m.s.Relayed(); m.public && r != nil {
			reservations, circuits = append(reservations, float64(r.Reservations)), append(circuits, float64(r.Opened))
			if n := m.s.DialBacks(); n != nil {
				dialBacks = append(dialBacks, float64(*n))
			}
		}
	}
	out.Reservations, out.DialBacks, out.Circuits = spreadOf(reservations), spreadOf(dialBacks), spreadOf(circuits)
	return out
}

// hosts is how many there are: DIBBER_NETWORK_HOSTS, or 40.
func hosts(t *testing.T) int {
	t.Helper()
	v := os.Getenv("DIBBER_NETWORK_HOSTS")
	if v == "" {
		return 40
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Hosts that know three boot nodes and nobody else form a network, and keep it when 30 % of them and a boot node are gone at
// once and others come. scripts/bench/network does it with 200.
func TestNetworkForms(t *testing.T) {
	t.Parallel()
	natlab.Config{Seed: 7}.Run(t, func(t *testing.T, lab *natlab.Lab) {
		c := &crowd{t: t, lab: lab, rng: rand.New(rand.NewPCG(7, 7)), keys: rand.NewChaCha8([32]byte{7}), size: hosts(t)}
		defer func() {
			for len(c.all) > 0 {
				c.leave(c.all[0])
			}
			if c.findsOut() {
				time.Sleep(time.Minute) // dial-backs of v1 that are under way
			}
		}()
		for range 3 {
			c.boot = append(c.boot, c.add(true))
		}
		for len(c.all) < c.size {
			c.add(len(c.all)%2 == 0)
			time.Sleep(40 * time.Second / time.Duration(c.size))
		}
		c.wait(patience)
		c.judge(c.look("start"))

		for range c.size * 3 / 10 {
			c.leave(c.all[3+c.rng.IntN(len(c.all)-3)])
		}
		c.leave(c.boot[0])
		c.boot = c.boot[1:]
		c.wait(patience / 2)
		c.judge(c.look("churn"))

		for len(c.all) < c.size {
			c.add(len(c.all)%2 == 0)
			time.Sleep(40 * time.Second / time.Duration(c.size))
		}
		c.wait(patience)
		c.judge(c.look("return"))
	})
}

// reached is how many thirds of the attempts at private hosts must succeed: two, or one where hosts have room for no more than an eighth
// of the others, and relays are often full.
func (c *crowd) reached() int {
	if c.findsOut() {
		return 1
	}
	return 2
}

// patience is how long the network is left alone before a checkpoint, of virtual time.
const patience = 4 * time.Minute

// judge holds the limits: the network is whole, nobody has more connections than allowed or knows everybody, lookups take no
// more hops than the logarithm of the number of servers, private hosts are reached, and no public host carries more than four
// times its part.
func (c *crowd) judge(l look) {
	c.t.Helper()
	line, err := json.Marshal(l)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Logf("checkpoint %s", line)
	switch {
	case l.Parts != 1:
		c.t.Errorf("%s: the network is in %d parts", l.After, l.Parts)
	case l.Conns.Max > float64(c.conns()):
		c.t.Errorf("%s: %g connections of at most %d", l.After, l.Conns.Max, c.conns())
	case l.Table.Max >= float64(l.Hosts-1):
		c.t.Errorf("%s: somebody knows all others", l.After)
	case l.Failed > 2:
		c.t.Errorf("%s: %d of 12 lookups failed", l.After, l.Failed)
	case l.Hops.Mean > l.Log2:
		c.t.Errorf("%s: %.1f hops for a logarithm of %.1f", l.After, l.Hops.Mean, l.Log2)
	case 3*l.Found < c.reached()*l.Looked: // a relay may be full when it is asked to connect them
		c.t.Errorf("%s: %d of %d private hosts were reached", l.After, l.Found, l.Looked)
	case 10*l.Relayed < 9*(l.Hosts-l.Public-l.Mistaken):
		c.t.Errorf("%s: %d of %d private hosts have a relay", l.After, l.Relayed, l.Hosts-l.Public-l.Mistaken)
	}
	for what, s := range map[string]spread{"reservations": l.Reservations, "dial-backs": l.DialBacks, "circuits": l.Circuits} {
		most := 4 * s.Mean
		if what == "circuits" {
			most += 4 * math.Sqrt(most) // of few circuits the busiest has more by chance: four standard deviations of the count
		}
		if s.Max > most {
			c.t.Errorf("%s: %s: the busiest has %.0f, the mean is %.1f", l.After, what, s.Max, s.Mean)
		}
	}
}
