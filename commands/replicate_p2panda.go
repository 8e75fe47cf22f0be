package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"dibber/netkit/addr"
	"dibber/netkit/dial"
	"dibber/netkit/host"
	"dibber/netkit/p2panda"
	"dibber/netkit/replicate"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
)

// pandaOptions are the flags of every command that speaks p2panda's replication.
type pandaOptions struct {
	On      bool
	Schemas []string // none means all
}

func pandaFlags(o *pandaOptions, usage string) []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Category: groupStore, Name: "p2panda", Usage: usage, Destination: &o.On},
		listFlag(groupStore, "schema", "with --p2panda, exchange documents of the schema `ID` alone (repeatable)", &o.Schemas),
	}
}

func (o *pandaOptions) validate() error {
	if len(o.Schemas) > 0 && !o.On {
		return usagef("--schema is for --p2panda")
	}
	if _, err := p2panda.SchemaSet(o.Schemas...); err != nil {
		return usagef("--schema: %w", err)
	}
	return nil
}

// config is what is exchanged with whom.
func (o *pandaOptions) config(r *replicate.Replica) p2panda.Config {
	return p2panda.Config{
		Store: p2panda.Logs(r.Store), Schemas: o.Schemas,
		Admit: func(p peer.ID, log p2panda.LogID, size uint64) (func(bool), error) {
			return r.Admit(p, log.Author, log.Log, size)
		},
	}
}

// pandaDoc says what a node of p2panda was sent and what came of it.
type pandaDoc struct {
	Schemas     []string `json:"schemas"`     // of which documents are exchanged
	Unannounced []string `json:"unannounced"` // of which there are documents here that the peer does not want
	Sessions    int      `json:"sessions"`
	Sent        int      `json:"sent"`     // entries
	Received    int      `json:"received"` // entries that were new
	Refused     int      `json:"refused"`  // entries that broke a rule
	Barred      int      `json:"barred"`   // entries that the rules of this side kept out
}

// excludes says which flag --p2panda cannot go with, as the protocol has no means for it.
func (o *syncOptions) pandaExcludes() error {
	if !o.Panda.On {
		return nil
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"--dir", o.Dir != "both"},
		{"--algo", o.Algo != "auto"},
		{"--dry-run", o.DryRun},
		{"--print-missing", o.PrintMissing},
		{"--verify-only", o.VerifyOnly},
		{"--stdio", o.Stdio},
	} {
		if f.set {
			return usagef("p2panda's protocol has no %s: it excludes --p2panda", f.name)
		}
	}
	return nil
}

// syncPanda is the exchange with one node of p2panda.
func (o *syncOptions) syncPanda(ctx context.Context, out *output, n *host.Node, s *p2panda.Service, t addr.Target, d *syncDoc) error {
	reached, err := dial.Do(ctx, n, t.ID, t.Addrs, dial.Config{UntilDirect: o.UntilDirect, On: func(e dial.Event) { tellDial(out, t, e, false) }})
	if err != nil {
		return err
	}
	d.Path, d.Addr = reached.Path, reached.Addr
	out.status("exchanging entries with %s", t.ID)
	r, err := s.Sync(ctx, t.ID)
	d.P2panda = &pandaDoc{
		Schemas: slices.Clone(r.Schemas), Unannounced: slices.Clone(r.Unannounced), Sessions: r.Sessions,
		Sent: r.Sent, Received: r.Received, Refused: r.Refused, Barred: r.Barred,
	}
	if r.Sessions > 0 {
		d.Path = known(addr.PathDirect)
		if r.Relayed {
			d.Path = known(addr.PathRelayed)
		}
	}
	return err
}

func (d *pandaDoc) renderText(t *text) {
	t.line("received %d entries, sent %d  schemas %d, sessions %d", d.Received, d.Sent, len(d.Schemas), d.Sessions)
	if d.Refused+d.Barred > 0 {
		t.line("refused here  %d entries broke a rule, %d were kept out", d.Refused, d.Barred)
	}
	for _, id := range d.Unannounced {
		t.line("not wanted there  %s", id)
	}
}

// pandaSession is a session with a node of p2panda that has ended.
type pandaSession struct {
	Peer  peer.ID `json:"peer"`
	Path  string  `json:"path"`
	Error *string `json:"error"`
	p2panda.Session
}

func (s pandaSession) line() string {
	state := "ended"
	if s.Error != nil {
		state = *s.Error
	}
	return fmt.Sprintf("p2panda session with %s (%s)  received %d  sent %d  %s", s.Peer, s.Path, s.Received, s.Sent, state)
}

// pandaClosed is a connection to a node of p2panda that was given up.
type pandaClosed struct {
	Peer  peer.ID `json:"peer"`
	Path  string  `json:"path"`
	Error string  `json:"error"`
}

func (s pandaClosed) line() string {
	return fmt.Sprintf("p2panda with %s (%s) is over: %s", s.Peer, s.Path, s.Error)
}

func pandaEvents() []event {
	return []event{{"p2panda.session", pandaSession{}}, {"p2panda.closed", pandaClosed{}}}
}

// tellPanda tells what happened; a session that found nothing to do is no news to a person, nor is a peer that speaks something else.
func tellPanda(out *output, e p2panda.Event) {
	path := addr.PathDirect
	if e.Relayed {
		path = addr.PathRelayed
	}
	switch {
	case e.Session != nil:
		s := *e.Session
		out.emit("p2panda.session", pandaSession{Peer: e.Peer, Path: path, Error: errorText(s.Err), Session: s}, s.Err != nil || s.Sent+s.Received > 0)
	case e.Closed != nil && !errors.Is(e.Closed, p2panda.ErrUnsupported):
		out.emit("p2panda.closed", pandaClosed{Peer: e.Peer, Path: path, Error: e.Closed.Error()}, errors.Is(e.Closed, p2panda.ErrStuck))
	}
}

// pandaFailure gives the errors of p2panda's replication their class.
func pandaFailure(err error) (failure, bool) {
	switch {
	case errors.Is(err, p2panda.ErrUnsupported), errors.Is(err, p2panda.ErrSilent):
		return failure{Exit: exitProtocol, Code: "missing_protocol", Phase: "replicate"}, true
	case errors.Is(err, p2panda.ErrNotAdmitted):
		return failure{Exit: exitRefused, Phase: "replicate", Hint: "--allow-author, --accept-any and --quota-… say what is taken"}, true
	case errors.Is(err, p2panda.ErrRefused):
		return failure{Exit: exitIdentity, Code: "unproven", Phase: "replicate"}, true
	case errors.Is(err, p2panda.ErrNotKept):
		return failure{Exit: exitRefused, Code: "not_kept", Phase: "replicate"}, true
	case errors.Is(err, p2panda.ErrStuck), errors.Is(err, p2panda.ErrLost):
		return failure{Exit: exitUnreachable, Code: "connection_lost", Phase: "replicate", Retryable: true, Hint: "what has come is kept; run it again"}, true
	case errors.Is(err, p2panda.ErrAbused):
		return failure{Exit: exitProtocol, Code: "protocol", Phase: "replicate"}, true
	}
	return failure{}, false
}
