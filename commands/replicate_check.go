package commands

import (
	"context"
	"fmt"

	"dibber/netkit/logstore"

	"github.com/urfave/cli/v2"
)

func newReplicateVerify(e *env) spec {
	var o struct {
		Store  storeOptions
		Repair bool
	}
	return spec{
		name: "verify", usage: "read the whole store and compare it with its hashes, links and signatures",
		about: `What follows from the entries is compared with them as well. --repair puts it in order; entries that cannot be proven any
more are taken out, with all after them in their log, and so are payloads that are something else: the next sync with a peer who
has them brings them back. Without it a store that replicate run or serve has open is verified by that process.`,
		examples: []string{"dibber replicate verify", "dibber replicate verify --repair", "dibber replicate verify --json"},
		flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "repair", Usage: "put in order what can be put in order", Destination: &o.Repair},
		}, storeFlags(&o.Store)...),
		options: &o, doc: verifyDoc{},
		run: func(ctx context.Context, out *output) (any, error) {
			var doc verifyDoc
			on := func(entries int) { out.status("%d entries", entries) }
			if !o.Repair {
				err := o.Store.book(ctx, out, func(b logbook) (err error) {
					doc, err = b.verify(ctx, on)
					return err
				})
				return doc.judge(err)
			}
			err := o.Store.with(ctx, e, func(s *logstore.Store) (err error) {
				doc.VerifyReport, err = s.Verify(ctx, logstore.VerifyConfig{Repair: true, On: on})
				return err
			})
			return doc.judge(err)
		},
	}
}

// judge returns the document of a verification that came to its end, and fails if problems were left.
func (d verifyDoc) judge(err error) (any, error) {
	switch {
	case d.Problems == nil: // it did not begin
		return nil, err
	case err == nil && d.Found > 0 && !d.Repaired:
		err = &failure{Exit: exitIdentity, Code: "damaged", Err: fmt.Errorf("problems found: %d", d.Found), Hint: "dibber replicate verify --repair"}
	}
	return d, err
}

// verifyDoc is what was found in a store.
type verifyDoc struct{ logstore.VerifyReport }

func (d verifyDoc) quiet() string { return fmt.Sprint(d.Found) }

func (d verifyDoc) renderText(t *text) {
	t.line("logs %d  entries %d  payload %s  files %d  problems %d", d.Logs, d.Entries, sizeText(d.Bytes), d.Files, d.Found)
	for _, p := range d.Problems {
		t.line("  %s", p)
	}
	if more := d.Found - len(d.Problems); more > 0 {
		t.line("  and %d more", more)
	}
	if d.Repaired {
		t.line("repaired  entries taken out: %d", d.Removed)
	}
}

// forkDoc is the proof of a fork.
type forkDoc struct {
	Author string `json:"author"`
	Log    uint64 `json:"log"`
	Seq    uint64 `json:"seq"`
	Kept   string `json:"kept"`  // id of the entry that is in the log here
	Other  string `json:"other"` // id of the one that is not
	// The entries as they were signed; whoever has both can check the proof.
	KeptEntry  []byte `json:"kept_b64"`
	OtherEntry []byte `json:"other_b64"`
}

// forksDoc lists the forks that are known.
type forksDoc struct {
	Forks []forkDoc `json:"forks"`
}

func newReplicateForks(*env) spec {
	var o struct{ Store storeOptions }
	return spec{
		name: "forks", usage: "list the logs whose author gave one number to two entries",
		about:    "A forked log is not extended any more. The exit code is 10 if there is one.",
		examples: []string{"dibber replicate forks", "dibber replicate forks --json", "dibber replicate forks -q"},
		flags:    storeFlags(&o.Store), options: &o, doc: forksDoc{},
		run: func(ctx context.Context, out *output) (any, error) {
			var doc any
			err := o.Store.book(ctx, out, func(b logbook) error {
				d, err := b.forks(ctx)
				if err == nil {
					doc = d
				}
				if n := len(d.Forks); err == nil && n > 0 {
					err = &failure{Exit: exitFalse, Code: "forked", Err: fmt.Errorf("forks found: %d", n)}
				}
				return err
			})
			return doc, err
		},
	}
}

func (d forksDoc) quiet() string { return fmt.Sprint(len(d.Forks)) }

func (d forksDoc) renderText(t *text) {
	if len(d.Forks) == 0 {
		t.line("no forks")
		return
	}
	var rows [][]string
	for _, f := range d.Forks {
		rows = append(rows, []string{fmt.Sprintf("%s/%d", f.Author, f.Log), fmt.Sprint(f.Seq), f.Kept, f.Other})
	}
	t.table([]string{"LOG", "ENTRY", "KEPT", "OTHER"}, rows)
}

// statsDoc sums up a store.
type statsDoc struct {
	Store    string `json:"store"`
	Logs     int    `json:"logs"`
	Mine     int    `json:"mine"`
	Forked   int    `json:"forked"`
	Entries  int    `json:"entries"`
	Bytes    uint64 `json:"bytes"`    // of all payloads
	Arrivals uint64 `json:"arrivals"` // number of the entry that was stored last
	Root     string `json:"root"`     // equal in stores that hold the same logs
	Guard    bool   `json:"guard_ok"` // false: nothing is signed until recover
}

func newReplicateStats(*env) spec {
	var o struct{ Store storeOptions }
	return spec{
		name: "stats", usage: "sum up the store",
		examples: []string{"dibber replicate stats", "dibber replicate stats --json", "dibber replicate stats -q"},
		flags:    storeFlags(&o.Store), options: &o, doc: statsDoc{},
		run: func(ctx context.Context, out *output) (any, error) {
			var doc any
			err := o.Store.book(ctx, out, func(b logbook) error {
				d, err := b.stats(ctx)
				if err == nil {
					doc = d
				}
				return err
			})
			return doc, err
		},
	}
}

func (d statsDoc) quiet() string { return d.Root }

func (d statsDoc) renderText(t *text) {
	t.field("store", "%s", d.Store)
	t.field("logs", "%d, own %d, forked %d", d.Logs, d.Mine, d.Forked)
	t.field("entries", "%d, payload %s", d.Entries, sizeText(d.Bytes))
	t.field("root", "%s", d.Root)
	if !d.Guard {
		t.field("signing", "stopped until dibber replicate recover")
	}
}
