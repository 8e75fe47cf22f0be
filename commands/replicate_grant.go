package commands

import (
	"context"
	"fmt"
	"math"
	"slices"

	"dibber/netkit/bamboo"
	"dibber/netkit/replicate"

	"github.com/urfave/cli/v2"
)

// grantOptions are the flags and arguments of replicate grant.
type grantOptions struct {
	Store   storeOptions
	Revoke  bool
	Authors []string
}

// grantDoc says who may write in the namespace of the store's author.
type grantDoc struct {
	Namespace string   `json:"namespace"` // the store's author, for --namespace-key
	Log       *logDoc  `json:"log"`       // of the grants; null when there is none
	Allowed   []string `json:"allowed"`
	Revoked   []string `json:"revoked"`
	Added     int      `json:"added"` // entries that it took
}

// grantsName is the name of the log of grants.
const grantsName = "grants"

func newReplicateGrant(e *env) spec {
	var o grantOptions
	return spec{
		name: "grant", usage: "let authors write in the namespace of the store's author", args: "[KEY|@FILE]...",
		about: `Whoever runs with --namespace-key and this store's author takes entries of the authors granted here, once the log
"grants", which replicates like any other, has come to them. --revoke takes it back: what they wrote stays. Without keys it lists.`,
		examples: []string{
			"dibber replicate grant @authors.txt",
			"dibber replicate grant --revoke ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
			"dibber replicate grant --json",
		},
		flags:   append([]cli.Flag{&cli.BoolFlag{Name: "revoke", Usage: "take the leave back", Destination: &o.Revoke}}, storeFlags(&o.Store)...),
		options: &o, doc: grantDoc{},
		validate: func(args []string) error {
			if o.Authors = args; o.Revoke && len(args) == 0 {
				return usagef("replicate grant --revoke needs a KEY or @FILE")
			}
			return checkAuthors("replicate grant", args)
		},
		run: func(ctx context.Context, out *output) (any, error) {
			keys, err := authorsOf("replicate grant", o.Authors)
			if err != nil {
				return nil, err
			}
			key, _, err := o.Store.author(e, false)
			if err != nil {
				return nil, err
			}
			doc := grantDoc{Namespace: authorOf(key).String()}
			if err := o.Store.book(ctx, out, func(b logbook) error { return o.change(ctx, b, keys, &doc) }); err != nil {
				return nil, err
			}
			return doc, nil
		},
	}
}

// change adds what is not said yet to the log of grants, and reads it.
func (o *grantOptions) change(ctx context.Context, b logbook, keys map[bamboo.Author]bool, doc *grantDoc) error {
	said := make(map[bamboo.Author]bool)
	list, err := b.logs(ctx)
	if err != nil {
		return err
	}
	begun := false
	at := slices.IndexFunc(list.Logs, func(l logDoc) bool { return l.Mine && l.Name != nil && *l.Name == grantsName })
	if at >= 0 {
		err := b.read(ctx, entryQuery{Name: grantsName, From: 1, To: math.MaxUint64, Last: math.MaxUint64}, func(d logDoc) error {
			doc.Log = &d
			return nil
		}, func(l entryLine) error {
			data := []byte(nil)
			if l.Data != nil {
				data = *l.Data
			}
			if l.Seq == 1 {
				if begun = replicate.IsGrants(data); !begun {
					return &failure{Exit: exitRefused, Code: "exists", Err: fmt.Errorf("there is a log %q that is none of grants", grantsName)}
				}
			}
			if author, yes, ok := replicate.ParseGrant(data); ok {
				said[author] = yes
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	lines := o.lines(said, keys)
	if len(lines) > 0 {
		if at < 0 {
			if _, err := b.create(ctx, grantsName); err != nil {
				return err
			}
		}
		if !begun {
			lines = slices.Insert(lines, 0, []byte(replicate.GrantsHead))
		}
		added, err := b.appendLines(ctx, grantsName, lines)
		if err != nil {
			return err
		}
		doc.Added = added.Count
	}
	doc.tell(said)
	return o.describe(ctx, b, doc)
}

// lines are the entries that it takes, and what then holds.
func (o *grantOptions) lines(said, keys map[bamboo.Author]bool) (lines [][]byte) {
	word := replicate.GrantAllow
	if o.Revoke {
		word = replicate.GrantRevoke
	}
	var names []string
	for key := range keys {
		if yes, known := said[key]; !known || yes == o.Revoke {
			names = append(names, key.String())
			said[key] = !o.Revoke
		}
	}
	slices.Sort(names)
	for _, name := range names {
		lines = append(lines, []byte(word+" "+name))
	}
	return lines
}

func (d *grantDoc) tell(said map[bamboo.Author]bool) {
	for author, allowed := range said {
		if allowed {
			d.Allowed = append(d.Allowed, author.String())
		} else {
			d.Revoked = append(d.Revoked, author.String())
		}
	}
	slices.Sort(d.Allowed)
	slices.Sort(d.Revoked)
}

// describe fills in the log as it is now.
func (o *grantOptions) describe(ctx context.Context, b logbook, doc *grantDoc) error {
	list, err := b.logs(ctx)
	for i := range list.Logs {
		if l := &list.Logs[i]; l.Mine && l.Name != nil && *l.Name == grantsName {
			doc.Log = l
		}
	}
	return err
}

func (d grantDoc) quiet() string { return d.Namespace }

func (d grantDoc) renderText(t *text) {
	t.field("namespace", "%s", d.Namespace)
	for _, a := range d.Allowed {
		t.field("may write", "%s", a)
	}
	for _, a := range d.Revoked {
		t.field("revoked", "%s", a)
	}
	t.line("on the other side: dibber replicate run --namespace-key %s", d.Namespace)
}
