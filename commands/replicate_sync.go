package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/dial"
	"dibber/netkit/host"
	"dibber/netkit/p2panda"
	"dibber/netkit/replicate"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
)

// syncOptions are the flags and arguments of replicate sync.
type syncOptions struct {
	Host         hostOptions
	Sources      sourceOptions
	Store        storeOptions
	Admit        admitOptions
	Targets      []string
	Dir          string
	Algo         string
	DryRun       bool
	PrintMissing bool
	VerifyOnly   bool
	UntilDirect  bool
	Stdio        bool
	Panda        pandaOptions
}

// missingDoc is a run of entries that one side has and the other lacks.
type missingDoc struct {
	Author string `json:"author"`
	Log    uint64 `json:"log"`
	From   uint64 `json:"from"`
	To     uint64 `json:"to"`
	Side   string `json:"side"` // here or there: who lacks it
}

func (m missingDoc) line() string {
	return fmt.Sprintf("missing %s  %s/%d  entries %d to %d", m.Side, m.Author, m.Log, m.From, m.To)
}

// relayLimit is what a relay lets through.
type relayLimit struct {
	Bytes uint64 `json:"bytes"` // each way
	Left  uint64 `json:"left"`
}

// syncDoc is the document of replicate sync.
type syncDoc struct {
	Peer  *peer.ID    `json:"peer"` // null: not known, or --stdio
	Path  *string     `json:"path"` // direct or relayed; null: none
	Addr  *string     `json:"addr"`
	Relay *relayLimit `json:"relay"` // null: no limit, or no relay
	replicate.Result
	P2panda *pandaDoc `json:"p2panda"` // null without --p2panda; with it, what is above but the path stays empty
	TookMS  float64   `json:"took_ms"`

	told tellMode
}

// tellMode is what the receipt is about.
type tellMode int

const (
	tellMoved tellMode = iota
	tellMissing
	tellRoots
)

// mode says what the receipt is about.
func (o *syncOptions) mode() tellMode {
	switch {
	case o.DryRun:
		return tellMissing
	case o.VerifyOnly:
		return tellRoots
	}
	return tellMoved
}

// syncManyDoc describes the document of several targets.
type syncManyDoc struct {
	Results []syncDoc `json:"results"`
}

// syncResults is the document: of one target, or of several.
type syncResults struct {
	*syncDoc
	Results []syncDoc `json:"results,omitempty"`
}

func newReplicateSync(*env) spec {
	o := syncOptions{Dir: "both", Algo: "auto"}
	return spec{
		name: "sync", usage: "bring the store in step with those of peers, once", args: "<target>...",
		about: `The other side runs dibber replicate run or dibber serve --replicate. Each side learns what it lacks and gets it, both ways
at once; everything is proven before it is stored, and whatever has come when the connection is cut is kept. The exit code is 10 if
a fork was found or the stores still differ, 6 if either side refused entries. While serve --replicate or replicate run has the store
open, that process holds the session, on its connections and by its rules.`,
		examples: []string{
			"dibber replicate sync /ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm",
			"dibber replicate sync @home @work --peers @peers.txt --dir pull --json",
			"dibber replicate sync @home --peers @peers.txt --dry-run --print-missing",
		},
		flags: slices.Concat([]cli.Flag{
			choiceFlag("", "dir", "transfer in `DIRECTION`: both, push or pull", &o.Dir, "both", "push", "pull"),
			choiceFlag("", "algo", "find out what differs by `ALGORITHM`: auto, cursor, vector or rbsr; a cursor needs an earlier session with the same identities", &o.Algo, "auto", "cursor", "vector", "rbsr"),
			&cli.BoolFlag{Name: "dry-run", Usage: "count what either side lacks and transfer nothing", Destination: &o.DryRun},
			&cli.BoolFlag{Name: "print-missing", Usage: "print every run of entries that either side lacks", Destination: &o.PrintMissing},
			&cli.BoolFlag{Name: "verify-only", Usage: "compare the roots and transfer nothing; exit 10 if they differ", Destination: &o.VerifyOnly},
			&cli.BoolFlag{Name: "until-direct", Usage: "wait for a direct path before anything is sent, or exit 7 at --timeout", Destination: &o.UntilDirect},
			&cli.BoolFlag{Name: "stdio", Usage: "speak over stdin and stdout, to the same command at the other end, instead of with a target", Destination: &o.Stdio},
			storeFlag(&o.Store), ownHostFlag(&o.Host.OwnHost),
		}, pandaFlags(&o.Panda, "exchange entries with nodes of p2panda (aquadoggo) by their own protocol"), admitFlags(&o.Admit), sourceFlags(&o.Sources), hostFlags(&o.Host)),
		lends:   o.lends(),
		options: &o, doc: syncDoc{}, manyDoc: syncManyDoc{},
		events:   append(reachEvents(), event{"path.changed", pathLine{}}, event{"session.path", replicatePath{}}, event{"missing", missingDoc{}}, event{"progress", replicate.Progress{}}),
		validate: o.validate,
		run:      func(ctx context.Context, out *output) (any, error) { return runSync(ctx, out, o) },
	}
}

// lends: on the node of serve --replicate or replicate run that has the store open.
func (o *syncOptions) lends() *lends {
	l := o.Host.lends("dir", "algo", "dry-run", "print-missing", "verify-only", "until-direct", "store")
	l.dirs = func(e *env) []string { return []string{o.Store.dir(e)} }
	return l
}

// replicatePath is the path that a session takes.
type replicatePath struct {
	Peer  peer.ID     `json:"peer"`
	Path  string      `json:"path"`
	Addr  string      `json:"addr"`
	Relay *relayLimit `json:"relay"`
}

func (o *syncOptions) validate(args []string) error {
	o.Targets = args
	o.Store.StateDir = o.Host.StateDir
	switch {
	case o.DryRun && o.VerifyOnly:
		return usagef("--dry-run and --verify-only exclude each other")
	case o.PrintMissing && o.VerifyOnly:
		return usagef("--print-missing and --verify-only exclude each other")
	case o.DryRun && o.Dir != "both":
		return usagef("--dry-run counts both ways: it excludes --dir")
	case o.DryRun && o.Algo == "cursor":
		return usagef("--dry-run looks at all logs: it excludes --algo cursor")
	case o.Stdio && len(args) > 0:
		return usagef("--stdio takes no target, but got %q", args[0])
	case o.Stdio && o.UntilDirect:
		return usagef("--stdio has no path: it excludes --until-direct")
	}
	if err := errors.Join(o.pandaExcludes(), o.Panda.validate(), o.Admit.validate(), o.Sources.validate()); err != nil {
		return err
	}
	if o.Stdio {
		return o.Host.validate()
	}
	return o.Host.needTargets("replicate sync", args, addr.Options{})
}

// progressEvery is how often progress is told at most.
const progressEvery = 100 * time.Millisecond

// session is what a session is to do, over a path that is known when it runs; "" is none.
func (o *syncOptions) session(out *output, path func() string) replicate.SessionConfig {
	cfg := replicate.SessionConfig{
		NoPull: o.Dir == "push", NoPush: o.Dir == "pull", Compare: o.VerifyOnly, List: o.DryRun,
		Algo: map[string]replicate.Algo{"auto": replicate.Auto, "cursor": replicate.Cursor, "vector": replicate.Vector, "rbsr": replicate.Ranges}[o.Algo],
	}
	started, told := time.Now(), time.Time{}
	cfg.On = func(p replicate.Progress) {
		if time.Since(told) < progressEvery {
			return
		}
		told = time.Now()
		out.event("progress", p)
		out.status("%s", progressLine(p, time.Since(started), path()))
	}
	if o.PrintMissing {
		cfg.OnMissing = func(m replicate.Missing) {
			side := "there"
			if m.Here {
				side = "here"
			}
			out.event("missing", missingDoc{Author: m.Author.String(), Log: m.Log, From: m.From, To: m.To, Side: side})
		}
	}
	return cfg
}

// progressLine shows how far a session has come after some time.
func progressLine(p replicate.Progress, passed time.Duration, path string) string {
	done, all := uint64(p.Pulled.Entries+p.Pushed.Entries), p.Have+p.Need
	bytes := p.Pulled.Bytes + p.Pushed.Bytes
	line := fmt.Sprintf("%s %d of %d entries  %s  %s/s", barText(float64(done)/float64(max(all, 1))), done, all,
		sizeText(bytes), sizeText(uint64(float64(bytes)/max(passed.Seconds(), 0.001))))
	if path != "" {
		line += "  " + path
	}
	if done > 0 && all > done {
		line += fmt.Sprintf("  %.0f s left", passed.Seconds()/float64(done)*float64(all-done))
	}
	return line
}

func runSync(ctx context.Context, out *output, o syncOptions) (doc any, err error) {
	if o.Stdio {
		return o.overStdio(ctx, out)
	}
	targets, err := o.Host.targets(out, o.Targets, addr.Options{})
	if err != nil {
		return nil, err
	}
	find, err := o.Sources.finder(out, &o.Host, targets)
	if err != nil {
		return nil, err
	}
	r, closeStore, err := o.Admit.replica(ctx, out, &o.Store, false)
	if err != nil {
		return nil, err
	}
	defer closing(&err, closeStore)
	n, err := o.Host.open(ctx, out, hostDefaults{})
	if err != nil {
		return nil, err
	}
	defer closing(&err, o.Host.used(out, n))
	var panda *p2panda.Service
	if o.Panda.On {
		if panda, err = p2panda.New(n, o.Panda.config(r)); err != nil {
			return nil, err
		}
		defer closing(&err, panda.Close)
	}
	if len(targets) == 1 {
		d, err := o.sync(ctx, out, n, r, panda, find, targets[0])
		return syncResults{syncDoc: &d}, err
	}
	var docs syncResults
	var failed []error
	for _, t := range targets {
		d, err := o.sync(ctx, out, n, r, panda, find, t)
		docs.Results = append(docs.Results, d)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", t.ID, err))
		}
	}
	switch {
	case len(failed) == 0:
		return docs, nil
	case len(failed) == len(targets):
		return docs, errors.Join(failed...)
	}
	return docs, &failure{Exit: exitPartial, Err: fmt.Errorf("%d of %d peers: %w", len(failed), len(targets), errors.Join(failed...))}
}

// sync is the session, or the sessions, with one peer; by p2panda's protocol if panda is not nil.
func (o *syncOptions) sync(ctx context.Context, out *output, n *host.Node, r *replicate.Replica, panda *p2panda.Service, find finder, t addr.Target) (d syncDoc, err error) {
	d.Peer, d.told = &t.ID, o.mode()
	d.Forks, d.Reconcile.Algo = []replicate.Fork{}, "none"
	started := time.Now()
	defer func() { d.TookMS = millis(time.Since(started)) }()
	if err := find.complete(ctx, n, &t); err != nil {
		return d, err
	}
	out.status("connecting with %s", t.ID)
	if panda != nil {
		err = o.syncPanda(ctx, out, n, panda, t, &d)
		return d, err
	}
	reached, err := dial.Do(ctx, n, t.ID, t.Addrs, dial.Config{UntilDirect: o.UntilDirect, On: func(e dial.Event) { tellDial(out, t, e, false) }})
	if err != nil {
		return d, err
	}
	d.Path, d.Addr = reached.Path, reached.Addr
	d.Result, err = replicate.Do(ctx, n, t.ID, r, replicate.SyncConfig{SessionConfig: o.session(out, func() string { return *d.Path }), OnPath: func(p replicate.Path) {
		d.took(out, t.ID, p)
	}})
	if err == nil {
		err = o.verdict(&d.Result)
	}
	return d, cutShort(err)
}

// took notes a path and tells what a relay lets through.
func (d *syncDoc) took(out *output, id peer.ID, p replicate.Path) {
	d.Path, d.Addr, d.Relay = &p.Path, &p.Addr, nil
	if p.Limit > 0 {
		d.Relay = &relayLimit{Bytes: p.Limit, Left: p.Left}
		out.notice("the path is relayed, and the relay lets %s through each way, of which %s are left: --until-direct waits for a direct path",
			sizeText(p.Limit), sizeText(p.Left))
	}
	out.event("session.path", replicatePath{Peer: id, Path: p.Path, Addr: p.Addr, Relay: d.Relay})
}

func (d syncResults) quiet() string {
	if d.syncDoc == nil || d.RootLocal == nil {
		return ""
	}
	return *d.RootLocal
}

func (d syncResults) renderText(t *text) {
	if d.syncDoc != nil {
		d.syncDoc.renderText(t)
	}
	for i := range d.Results {
		if i > 0 {
			t.gap()
		}
		t.line("%s", *d.Results[i].Peer)
		d.Results[i].renderText(t)
	}
}

// renderText is the receipt.
func (d *syncDoc) renderText(t *text) {
	if d.P2panda != nil {
		d.P2panda.renderText(t)
	}
	if d.RootLocal == nil {
		return
	}
	state := "not converged"
	if d.Converged {
		state = "converged"
	}
	t.line("%s  root=%s in %.1f s", state, *d.RootLocal, d.TookMS/1000)
	if !d.Converged {
		t.line("root there  %s", *d.RootRemote)
	}
	switch d.told {
	case tellMissing:
		t.line("entries missing here %d, there %d", d.Reconcile.Need, d.Reconcile.Have)
	case tellMoved:
		t.line("pulled %d entries (%s), pushed %d entries (%s)", d.Pulled.Entries, sizeText(d.Pulled.Bytes), d.Pushed.Entries, sizeText(d.Pushed.Bytes))
	case tellRoots:
	}
	overhead := ""
	if d.Reconcile.Overhead != nil {
		overhead = fmt.Sprintf(", %.2f times the least possible", *d.Reconcile.Overhead)
	}
	path := ""
	if d.Path != nil {
		path = "  path " + *d.Path
	}
	t.line("reconcile %s, rounds %d, %s%s  verify %.0f ms%s", d.Reconcile.Algo, d.Reconcile.Rounds,
		sizeText(d.Reconcile.BytesSent+d.Reconcile.BytesReceived), overhead, d.VerifyMS, path)
	for _, f := range d.Forks {
		t.line("forked  %s/%d at entry %d", f.Author, f.Log, f.Seq)
	}
	if d.Refused > 0 {
		t.line("refused here  logs %d: %s", d.Refused, d.Reason)
	}
	if d.RefusedThere > 0 {
		t.line("refused there  logs %d", d.RefusedThere)
	}
}
