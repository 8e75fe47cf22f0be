package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"dibber/netkit/addr"
	"dibber/netkit/bamboo"
	"dibber/netkit/dial"
	"dibber/netkit/host"
	"dibber/netkit/logstore"
	"dibber/netkit/replicate"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
)

// recoverOptions are the flags and arguments of replicate recover.
type recoverOptions struct {
	Host       hostOptions
	Sources    sourceOptions
	Store      storeOptions
	Peers      []string
	AcceptLoss bool
}

// recoverDoc says that signing goes on.
type recoverDoc struct {
	Entries uint64           `json:"entries"` // in the store
	Logs    int              `json:"logs"`    // of one's own
	Named   []logDoc         `json:"named"`   // own logs that the store had lost, under the names that they got
	Pulled  *replicate.Count `json:"pulled"`  // null where no peer was asked
	Peers   []recoverPeer    `json:"peers"`

	stopped bool
}

// recoverPeer is what a peer gave back.
type recoverPeer struct {
	Peer   peer.ID         `json:"peer"`
	Pulled replicate.Count `json:"pulled"`
	Error  *string         `json:"error"`
}

func (p recoverPeer) line() string {
	if p.Error != nil {
		return fmt.Sprintf("peer %s  failed: %s", p.Peer, *p.Error)
	}
	return fmt.Sprintf("peer %s  gave back %d entries (%s)", p.Peer, p.Pulled.Entries, sizeText(p.Pulled.Bytes))
}

func newReplicateRecover(*env) spec {
	var o recoverOptions
	return spec{
		name: "recover", usage: "let a store sign again that may have lost entries of its own", args: "[<target>...]",
		about: `A store signs no entry with a number that it may have used before: after its files, or the record of what it published,
were lost or replaced by older ones, it waits until its logs have come back to where they were. With targets, or --peer, it takes
them from those peers first, and goes on only if it then has all that it is known to have published; where nothing is known of
that, only if every one of them answered. Without any, run it when everybody who may hold entries of this store's author has given
them back.`,
		examples: []string{"dibber replicate recover @home @work --peers @peers.txt", "dibber replicate recover", "dibber replicate recover --accept-loss --json"},
		flags: slices.Concat([]cli.Flag{
			listFlag("", "peer", "take back from `PEER`, as from a target (repeatable)", &o.Peers),
			&cli.BoolFlag{Name: "accept-loss", Usage: "without targets, go on with a store that has lost entries which it had acknowledged", Destination: &o.AcceptLoss},
			storeFlag(&o.Store),
		}, sourceFlags(&o.Sources), hostFlags(&o.Host)),
		options: &o, doc: recoverDoc{}, events: append(reachEvents(), event{"path.changed", pathLine{}}, event{"peer", recoverPeer{}}),
		validate: func(args []string) error {
			o.Store.StateDir = o.Host.StateDir
			if o.Peers = append(slices.Clone(args), o.Peers...); len(o.Peers) == 0 {
				return o.Host.validate()
			}
			if o.AcceptLoss {
				return usagef("--accept-loss goes on without what was lost: it excludes targets")
			}
			return errors.Join(o.Sources.validate(), o.Host.needTargets("replicate recover", o.Peers, addr.Options{}))
		},
		run: func(ctx context.Context, out *output) (any, error) {
			if len(o.Peers) == 0 {
				return o.alone(ctx, out)
			}
			return o.fromPeers(ctx, out)
		},
	}
}

// alone goes on with what the store has.
func (o *recoverOptions) alone(ctx context.Context, out *output) (doc any, err error) {
	cfg, err := o.Store.config(out.e)
	if err != nil {
		return nil, err
	}
	cfg.AcceptLoss = o.AcceptLoss
	s, err := openStore(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer closing(&err, s.Close)
	var d recoverDoc
	if err := errors.Join(s.Recover(), d.count(s)); err != nil {
		return nil, err
	}
	return d, nil
}

// fromPeers takes back from peers what they have. The store is opened, whatever it has lost, when one of them is there.
func (o *recoverOptions) fromPeers(ctx context.Context, out *output) (doc any, err error) {
	targets, err := o.Host.targets(out, o.Peers, addr.Options{})
	if err != nil {
		return nil, err
	}
	find, err := o.Sources.finder(out, &o.Host, targets)
	if err != nil {
		return nil, err
	}
	key, _, err := o.Store.author(out.e, false)
	if err != nil {
		return nil, err
	}
	author := authorOf(key)
	n, err := o.Host.open(ctx, out, hostDefaults{})
	if err != nil {
		return nil, err
	}
	defer closing(&err, n.Close)
	defer o.Host.punching(n)()
	d := recoverDoc{Pulled: &replicate.Count{}}
	reached, failed := o.dial(ctx, out, n, find, targets, &d)
	if len(reached) == 0 {
		d.stopped = true
		return d, errors.Join(failed...)
	}
	cfg, err := o.Store.config(out.e)
	if err != nil {
		return nil, err
	}
	cfg.AcceptLoss = true
	s, err := openStore(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer closing(&err, s.Close)
	r := replicate.NewReplica(s, replicate.Rules{Authors: map[bamboo.Author]bool{author: true}})
	for _, id := range reached {
		out.status("taking back from %s", id)
		res, err := replicate.Do(ctx, n, id, r, replicate.SyncConfig{SessionConfig: replicate.SessionConfig{NoPush: true}})
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", id, err))
		}
		d.add(out, id, res, err)
	}
	if d.Named, err = nameOwn(s, author); err != nil {
		return d, err
	}
	err = errors.Join(settle(s, failed), d.count(s))
	d.stopped = err != nil
	return d, err
}

// dial reaches the targets that can be reached.
func (o *recoverOptions) dial(ctx context.Context, out *output, n *host.Node, find finder, targets []addr.Target, d *recoverDoc) (reached []peer.ID, failed []error) {
	for _, t := range targets {
		err := find.complete(ctx, n, &t)
		if err == nil {
			out.status("connecting with %s", t.ID)
			_, err = dial.Do(ctx, n, t.ID, t.Addrs, dial.Config{On: func(e dial.Event) { tellDial(out, t, e, false) }})
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", t.ID, err))
			d.add(out, t.ID, replicate.Result{}, err)
			continue
		}
		reached = append(reached, t.ID)
	}
	return reached, failed
}

func (d *recoverDoc) add(out *output, id peer.ID, res replicate.Result, err error) {
	p := recoverPeer{Peer: id, Pulled: res.Pulled, Error: errorText(err)}
	d.Peers = append(d.Peers, p)
	d.Pulled.Entries += res.Pulled.Entries
	d.Pulled.Bytes += res.Pulled.Bytes
	out.event("peer", p)
}

// settle lets the store sign, if it may by what it got.
func settle(s *logstore.Store, failed []error) error {
	var behind *logstore.GuardError
	if errors.As(s.Guarded(), &behind) && behind.Missing && len(failed) > 0 {
		return &failure{
			Exit: exitPartial, Phase: "replicate", Retryable: true, Hint: "run it again when they answer, or without them",
			Err: fmt.Errorf("nothing is known of what was published, and not every peer answered: %w", errors.Join(failed...)),
		}
	}
	if err := s.Recover(); err != nil {
		return errors.Join(err, errors.Join(failed...))
	}
	return nil
}

// nameOwn makes logs that came back one's own.
func nameOwn(s *logstore.Store, author bamboo.Author) (named []logDoc, err error) {
	v, err := s.View()
	if err != nil {
		return nil, err
	}
	defer closing(&err, v.Close)
	var lost []logstore.Head
	names := make(map[string]bool)
	err = v.HeadsOf(author, func(h logstore.Head) error {
		if names[h.Name] = true; !h.Mine {
			lost = append(lost, h)
		}
		return nil
	})
	for _, h := range lost {
		h.Name, h.Mine = fmt.Sprintf("recovered-%d", h.Log), true
		for names[h.Name] {
			h.Name += "x"
		}
		names[h.Name] = true
		if err := s.NameLog(h.Author, h.Log, h.Name); err != nil {
			return named, err
		}
		named = append(named, describeLog(h))
	}
	return named, err
}

// count tells what the store holds.
func (d *recoverDoc) count(s *logstore.Store) (err error) {
	v, err := s.View()
	if err != nil {
		return err
	}
	defer closing(&err, v.Close)
	d.Entries, d.Logs = uint64(v.Len()), 0
	return v.Heads(func(h logstore.Head) error {
		if h.Mine {
			d.Logs++
		}
		return nil
	})
}

func (d recoverDoc) renderText(t *text) {
	for _, l := range d.Named {
		t.line("log %s is back as %s", l.quiet(), *l.Name)
	}
	if d.Pulled != nil {
		t.line("taken back  %d entries (%s)", d.Pulled.Entries, sizeText(d.Pulled.Bytes))
	}
	state := "recovered"
	if d.stopped {
		state = "not recovered"
	}
	t.line("%s  own logs %d  entries %d", state, d.Logs, d.Entries)
}
