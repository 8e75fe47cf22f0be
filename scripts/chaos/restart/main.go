// Command restart kills `dibber serve --relay --rendezvous` again and again while many clients register, refresh and unregister, and
// checks after every restart that what it acknowledged is there: REGISTER with OK, UNREGISTER with the end of its stream.
//
//	go run ./scripts/chaos/restart [-restarts N] [-clients N] [-seed N]
//
// The kill is SIGKILL at a random moment, every fifth time while the server starts. It is started again with the same command
// line and nothing else is done for it. Registrations last longer than the run: none expires. A SIGKILL leaves the operating
// system and what it was given to write; the loss of power is tested on a simulated file system (netkit/rendezvous). It prints a
// table and, last, one line of JSON, and exits 1 if anything acknowledged is lost.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"dibber/scripts/node"
)

const (
	longestLife = 900 * time.Millisecond // from ready to the kill
	longestDawn = 200 * time.Millisecond // from the start to the kill of a server that starts
	dawnEvery   = 5
	maxStart    = 2 * time.Minute // after which a server counts as not coming up by itself
)

type options struct {
	restarts, clients int
	seed              uint64
}

func main() {
	var o options
	flag.IntVar(&o.restarts, "restarts", 200, "kill and start the server `N` times")
	flag.IntVar(&o.clients, "clients", 32, "let `N` clients register")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "choose moments and requests by the seed `N`")
	flag.Parse()
	if o.restarts < 1 || o.clients < 1 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	r, err := run(context.Background(), o)
	if err == nil {
		err = r.print()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos restart:", err)
		os.Exit(1)
	}
}

// result is the line of JSON.
type result struct {
	Chaos    string `json:"chaos"`
	Seed     uint64 `json:"seed"`
	Restarts int    `json:"restarts"`
	// Dawns is how many of the kills met a server that was still starting.
	Dawns int `json:"killed_while_starting"`
	// Registers and Unregisters were acknowledged, Refused were answered with another status, Unanswered were cut off.
	Registers   int `json:"registers_acknowledged"`
	Unregisters int `json:"unregisters_acknowledged"`
	Refused     int `json:"refused"`
	Unanswered  int `json:"unanswered"`
	// Checked is how many registrations, there or removed, were compared after restarts; the next three are what was wrong.
	Checked int `json:"checked"`
	Lost    int `json:"lost"`    // acknowledged, and not there
	Stale   int `json:"stale"`   // there with an older record than was acknowledged, or one that nobody sent
	Undead  int `json:"undead"`  // unregistered, and there
	ByHand  int `json:"by_hand"` // starts that failed
	// OtherPeer is how often the server came back as another peer.
	OtherPeer     int     `json:"identity_changes"`
	SlowestStartS float64 `json:"slowest_start_s"`
	TookS         float64 `json:"took_s"`
}

func run(ctx context.Context, o options) (r result, err error) {
	r = result{Chaos: "restart", Seed: o.seed}
	begun := time.Now()
	dir, err := os.MkdirTemp("", "dibber-chaos-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program, err := node.Build(ctx, dir)
	if err != nil {
		return r, err
	}
	ports, err := node.FreePorts(1)
	if err != nil {
		return r, err
	}
	s := node.New(program, filepath.Join(dir, "ready"), "--relay", "--rendezvous", "--state-dir", filepath.Join(dir, "state"),
		"--listen", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", ports[0]))
	defer s.Kill()
	if err := s.Start(ctx); err != nil {
		return r, err
	}
	c := &crowd{server: s.Info}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.gather(ctx, o); err != nil {
		return r, err
	}
	chance := rand.New(rand.NewPCG(o.seed, 0))
	for r.Restarts < o.restarts && err == nil {
		err = r.restart(ctx, s, c, chance)
	}
	c.count(&r)
	r.TookS = time.Since(begun).Seconds()
	return r, err
}

// restart kills the server, starts it again, and checks what it has.
func (r *result) restart(ctx context.Context, s *node.Node, c *crowd, chance *rand.Rand) error {
	time.Sleep(time.Duration(chance.Int64N(int64(longestLife))))
	c.dying.Store(true)
	s.Kill()
	r.Restarts++
	if err := s.Begin(ctx); err != nil {
		return err
	}
	if r.Restarts%dawnEvery == 0 {
		time.Sleep(time.Duration(chance.Int64N(int64(longestDawn))))
		if !s.Ready() {
			r.Dawns++
		}
		s.Kill()
		r.Restarts++
		if err := s.Begin(ctx); err != nil {
			return err
		}
	}
	waiting, cancel := context.WithTimeout(ctx, maxStart)
	defer cancel()
	if err := s.Await(waiting); err != nil {
		r.ByHand++
		return err
	}
	r.SlowestStartS = max(r.SlowestStartS, s.Took.Seconds())
	if s.Info.ID != c.server.ID {
		r.OtherPeer++
		return fmt.Errorf("the server came back as %s", s.Info.ID)
	}
	c.dying.Store(false)
	return c.check(ctx, r)
}

func (r result) print() error {
	for _, row := range []struct {
		name   string
		figure any
	}{
		{"restarts by SIGKILL", r.Restarts},
		{"of them killed while starting", r.Dawns},
		{"registrations and refreshes acknowledged", r.Registers},
		{"removals acknowledged", r.Unregisters},
		{"requests refused", r.Refused},
		{"requests cut off", r.Unanswered},
		{"checked after restarts", r.Checked},
		{"acknowledged and lost", r.Lost},
		{"acknowledged and stale", r.Stale},
		{"removed and there", r.Undead},
		{"starts that needed a hand", r.ByHand},
		{"changes of identity", r.OtherPeer},
		{"slowest start", fmt.Sprintf("%.2f s", r.SlowestStartS)},
	} {
		fmt.Printf("%-44s%v\n", row.name, row.figure)
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	if wrong := r.Lost + r.Stale + r.Undead + r.ByHand + r.OtherPeer; wrong > 0 {
		return fmt.Errorf("%d things were not as acknowledged (seed %d)", wrong, r.Seed)
	}
	return nil
}
