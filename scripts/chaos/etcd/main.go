//go:build linux

// Command etcd runs three dibber serve --rendezvous with one registry on a real etcd of three members, lets clients register and
// discover through them, and meanwhile kills a server, kills a member, and cuts a member off from the others. After each of these it
// compares what every server shows with what any of them acknowledged. Then it measures rates with one, two and three servers, and with
// the registry in the state folder.
//
//	go run ./scripts/chaos/etcd [-phase DURATION] [-clients N] [-rate DURATION]
//
// It needs root, ip, nft and etcd (Debian: etcd-server): everything takes place in a network namespace of its own. It prints a table
// and, last, one line of JSON, and exits 1 if anything acknowledged is lost, anything expired is shown, or a client is stuck.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"time"

	"dibber/scripts/node"
)

type options struct {
	phase, rate time.Duration
	clients     int
}

// inside is set in the environment of the process that is in the namespace.
const inside = "DIBBER_CHAOS_ETCD"

func main() {
	var o options
	flag.DurationVar(&o.phase, "phase", 20*time.Second, "let each fault last `DURATION`")
	flag.DurationVar(&o.rate, "rate", 5*time.Second, "measure each rate for `DURATION`; 0 measures none")
	flag.IntVar(&o.clients, "clients", 48, "let `N` clients register")
	flag.Parse()
	if o.phase < time.Second || o.clients < 1 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := enter(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos etcd:", err)
		os.Exit(1)
	}
}

// enter runs in a network namespace of its own, by itself once more.
func enter(ctx context.Context, o options) error {
	if os.Getenv(inside) != "" {
		if err := exec.CommandContext(ctx, "ip", "link", "set", "lo", "up").Run(); err != nil {
			return fmt.Errorf("set up the namespace: %w", err)
		}
		r, err := run(ctx, o)
		if err != nil {
			return err
		}
		return r.print()
	}
	if os.Getuid() != 0 {
		return errors.New("it needs root, for a network namespace")
	}
	for _, tool := range []string{"ip", "nft", "etcd"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("it needs %s (Debian: iproute2, nftables, etcd-server)", tool)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	again := exec.CommandContext(ctx, self, os.Args[1:]...)
	again.Env = append(os.Environ(), inside+"=1")
	again.Stdout, again.Stderr = os.Stdout, os.Stderr
	again.SysProcAttr = ownNetwork()
	again.Cancel = func() error { return again.Process.Signal(os.Interrupt) }
	if err := again.Run(); err != nil {
		return fmt.Errorf("in the namespace: %w", err)
	}
	return nil
}

// result is the line of JSON.
type result struct {
	Chaos   string `json:"chaos"`
	Clients int    `json:"clients"`
	// Acknowledged are REGISTERs answered with OK, Refused those with another status, Unanswered those cut off or too late.
	Acknowledged int `json:"acknowledged"`
	Refused      int `json:"refused"`
	Unanswered   int `json:"unanswered"`
	// Checked is how many registrations were looked for at a server; the next two are what was wrong.
	Checked int `json:"checked"`
	Lost    int `json:"lost"`    // acknowledged, not expired, and not there
	Expired int `json:"expired"` // over for more than a second, and there
	// Over is how many of those checked were over for more than a second.
	Over int `json:"over"`
	// StuckS is the longest that a client was without an answer of OK, in seconds.
	StuckS float64 `json:"longest_without_answer_s"`
	Rates  []rate  `json:"rates"`
}

// most is how long a client may be without an answer of OK while two members of three are there.
const most = 30 * time.Second

func run(ctx context.Context, o options) (r result, err error) {
	r = result{Chaos: "etcd", Clients: o.clients}
	dir, err := os.MkdirTemp("", "dibber-chaos-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { // members run as users of their own
		return r, err
	}
	program, err := node.Build(ctx, dir)
	if err != nil {
		return r, err
	}
	m, err := newMembers(ctx, dir)
	if err != nil {
		return r, err
	}
	defer m.close()
	if err := r.faults(ctx, o, m, program, dir); err != nil {
		return r, err
	}
	if o.rate > 0 {
		r.Rates, err = rates(ctx, o, m, program, dir)
	}
	return r, err
}

// faults has the clients work through each fault, and checks after each.
func (r *result) faults(ctx context.Context, o options, m *members, program, dir string) (err error) {
	servers, err := startServers(ctx, program, dir, "faults", 3, m.registry("faults"))
	if err != nil {
		return err
	}
	defer killServers(servers)
	c := &crowd{servers: servers}
	defer func() { err = errors.Join(err, c.Close()) }()
	reader, err := c.Join()
	if err != nil {
		return err
	}
	if err := c.gather(o.clients); err != nil {
		return err
	}
	for _, w := range c.clients {
		c.Go(ctx, workEvery, w.work)
	}
	for _, phase := range []struct {
		name       string
		begin, end func() error
	}{
		{"calm", nothing, nothing},
		{"a server is killed", func() error { servers[1].Kill(); return nil }, func() error { return start(ctx, servers[1]) }},
		{"a member is killed", func() error { m.list[0].kill(); return nil }, func() error { return m.list[0].start(ctx) }},
		{"a member is cut off", func() error { return m.cut(ctx, 1) }, func() error { return m.heal(ctx) }},
		{"another server is killed, and the first member", func() error { servers[2].Kill(); m.list[0].kill(); return nil }, func() error {
			return errors.Join(m.list[0].start(ctx), start(ctx, servers[2]))
		}},
	} {
		if err := phase.begin(); err != nil {
			return fmt.Errorf("%s: %w", phase.name, err)
		}
		if err := pause(ctx, o.phase); err != nil {
			return err
		}
		if err := phase.end(); err != nil {
			return fmt.Errorf("after %s: %w", phase.name, err)
		}
		before := *r
		if err := c.check(ctx, reader, r); err != nil {
			return fmt.Errorf("after %s: %w", phase.name, err)
		}
		fmt.Fprintf(os.Stderr, "%-48s checked %d, lost %d, expired %d\n", phase.name, r.Checked-before.Checked, r.Lost-before.Lost, r.Expired-before.Expired)
	}
	c.count(r)
	return nil
}

func nothing() error { return nil }

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r result) print() error {
	type row struct {
		name   string
		figure any
	}
	table := []row{
		{"registrations acknowledged", r.Acknowledged},
		{"refused", r.Refused},
		{"cut off", r.Unanswered},
		{"looked for, at all servers", r.Checked},
		{"of them over", r.Over},
		{"acknowledged and lost", r.Lost},
		{"expired and shown", r.Expired},
		{"longest that a client had no answer", fmt.Sprintf("%.1f s", r.StuckS)},
	}
	for _, one := range r.Rates {
		table = append(table, row{one.Registry, fmt.Sprintf("%.0f registers, %.0f discovers a second", one.Registers, one.Discovers)})
	}
	for _, one := range table {
		fmt.Printf("%-44s%v\n", one.name, one.figure)
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	switch {
	case r.Lost+r.Expired > 0:
		return fmt.Errorf("%d registrations lost, %d shown that had expired", r.Lost, r.Expired)
	case r.Acknowledged == 0 || r.Checked == 0:
		return errors.New("nothing was tried")
	case r.StuckS > most.Seconds():
		return fmt.Errorf("a client had no answer for %.0f s, more than %s", r.StuckS, most)
	}
	return nil
}
