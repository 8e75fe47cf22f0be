package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"dibber/netkit/bans"
	"dibber/netkit/control"
	"dibber/netkit/host"
	"dibber/netkit/serve"

	"github.com/urfave/cli/v2"
)

// bansFile is the book of bans in the state folder.
const bansFile = "bans.json"

// bansDoc lists whom the node keeps out.
type bansDoc struct {
	Count *int        `json:"count"` // null: not known, as the list
	Bans  *[]bans.Ban `json:"bans"`  // the oldest first

	shownAlready
}

// banDoc is a ban that was made, and what whom it is for lost.
type banDoc struct {
	Ban *bans.Ban `json:"ban"` // null: none was
	serve.Kicked
}

// unbanDoc is a ban that was lifted, as it was.
type unbanDoc struct {
	Ban *bans.Ban `json:"ban"` // null: none was
}

// banRequest is what POST /bans takes.
type banRequest struct {
	Subject string `json:"subject"`
	For     string `json:"for,omitempty"` // a duration; empty: for good
	Reason  string `json:"reason,omitempty"`
}

// maxBanReason bounds the operator's words, in bytes.
const maxBanReason = 256

func newCtlBans(*env) spec {
	o := new(ctlOptions)
	return ctlList(o, spec{
		name: "bans", usage: "list whom the node keeps out by dibber ctl ban", doc: bansDoc{},
		examples: []string{"dibber ctl bans", "dibber ctl bans --watch -i 5s", "dibber ctl bans --json"},
	}, func() lister { return new(bansDoc) }, func() string { return "/bans" })
}

func newCtlBan(*env) spec {
	o := new(ctlOptions)
	return ctlAct(o, spec{
		name: "ban", usage: "keep out a peer or a network", args: "<peer|IP|CIDR>", doc: banDoc{},
		about: `Its connections are closed, a peer's reservation and circuits on this node's relay end, and until the ban is over neither
side of it connects to the other. What it has registered stays until that expires. Bans are kept in bans.json of the state folder
and hold after a restart; a further ban of the same replaces the one before. They go before --allow-peer and --allow-cidr.`,
		examples: []string{
			"dibber ctl ban 12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm",
			"dibber ctl ban 192.0.2.0/24 --for 24h --reason 'floods the rendezvous point'",
			"dibber ctl ban 2001:db8::7 --json",
		},
		flags: []cli.Flag{
			&cli.DurationFlag{Name: "for", Usage: "lift it by itself after `DURATION`; 0 means never", Destination: &o.For},
			&cli.StringFlag{Name: "reason", Usage: "note `TEXT`, for those who list the bans", Destination: &o.Reason},
		},
	}, func(args []string) error {
		if o.For < 0 {
			return usagef("--for: %s is less than nothing", o.For)
		}
		if len(o.Reason) > maxBanReason {
			return usagef("--reason: %d bytes are more than %d", len(o.Reason), maxBanReason)
		}
		return oneSubject("ban", args)
	}, func(ctx context.Context, out *output) (any, error) {
		r := banRequest{Subject: o.args[0], Reason: o.Reason}
		if o.For > 0 {
			r.For = o.For.String()
		}
		var doc banDoc
		err := o.ask(ctx, out, http.MethodPost, "/bans", r, &doc)
		return doc, err
	})
}

func newCtlUnban(*env) spec {
	o := new(ctlOptions)
	return ctlAct(o, spec{
		name: "unban", usage: "let a peer or a network in again", args: "<peer|IP|CIDR>", doc: unbanDoc{},
		about: `It is named as it was for dibber ctl ban. Part of a network that is banned cannot be let in by itself.`,
		examples: []string{
			"dibber ctl unban 12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm",
			"dibber ctl unban 192.0.2.0/24",
			"dibber ctl unban 192.0.2.0/24 --state-dir /var/lib/dibber --json",
		},
	}, func(args []string) error { return oneSubject("unban", args) },
		func(ctx context.Context, out *output) (any, error) {
			var doc unbanDoc
			err := o.ask(ctx, out, http.MethodDelete, "/bans?"+url.Values{"subject": {o.args[0]}}.Encode(), nil, &doc)
			return doc, err
		})
}

// oneSubject checks the argument of ctl ban and unban.
func oneSubject(verb string, args []string) error {
	if len(args) != 1 {
		return usagef("ctl %s takes one peer id, IP address or network, but got %d", verb, len(args))
	}
	if _, err := bans.Of(args[0]); err != nil {
		return usagef("%w", err)
	}
	return nil
}

// openBans reads the book of bans and has the host go by it.
func openBans(dir string, n *host.Node) (*bans.Book, error) {
	book, err := bans.Open(filepath.Join(dir, bansFile))
	if err != nil {
		return nil, &failure{Code: "bans_unreadable", Phase: "start", Hint: "mend the file, or move it away if nobody is to be kept out", Err: err}
	}
	goByBans(book, n)
	return book, nil
}

// goByBans hands the bans in force to the host, and returns how many connections that closed.
func goByBans(book *bans.Book, n *host.Node) (closed int) {
	var list []host.Ban
	for _, b := range book.List(time.Now()) {
		var h host.Ban
		if b.Peer != nil {
			h.Peer = *b.Peer
		} else {
			h.Network = *b.Network
		}
		if b.Until != nil {
			h.Until = *b.Until
		}
		list = append(list, h)
	}
	return n.SetBans(list)
}

func (op *operator) listBans(control.Call) (any, error) {
	list := op.bans.List(time.Now())
	return bansDoc{Count: new(len(list)), Bans: &list}, nil
}

// ban keeps somebody out.
func (op *operator) ban(c control.Call) (any, error) {
	var r banRequest
	dec := json.NewDecoder(bytes.NewReader(c.Body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil || dec.More() {
		return nil, usagef(`the body is not a ban, as in {"subject": "192.0.2.0/24", "for": "24h", "reason": "floods"}`)
	}
	b, err := bans.Of(r.Subject)
	if err != nil {
		return nil, usagef("%w", err)
	}
	if b.Peer != nil && *b.Peer == op.n.ID() {
		return nil, usagef("%s is this node itself", b.Peer)
	}
	if len(r.Reason) > maxBanReason {
		return nil, usagef("reason: %d bytes are more than %d", len(r.Reason), maxBanReason)
	}
	b.Since = time.Now().UTC().Round(0)
	if r.Reason != "" {
		b.Reason = &r.Reason
	}
	if r.For != "" {
		d, err := time.ParseDuration(r.For)
		if err != nil || d < 0 {
			return nil, usagef("for: %q is not %s", r.For, kindDuration)
		}
		if d > 0 {
			b.Until = new(b.Since.Add(d))
		}
	}
	if err := op.bans.Add(b, b.Since); err != nil {
		return nil, banFailure(err)
	}
	doc := banDoc{Ban: &b}
	if b.Peer != nil {
		doc.Kicked = op.s.Kick(*b.Peer)
	}
	doc.Connections += goByBans(op.bans, op.n)
	op.out.event("ban.added", banAdded{b})
	return doc, nil
}

func (op *operator) unban(c control.Call) (any, error) {
	b, err := bans.Of(c.Value("subject"))
	if err != nil {
		return nil, usagef("%w", err)
	}
	gone, ok, err := op.bans.Remove(b.Subject(), time.Now())
	switch {
	case err != nil:
		return nil, banFailure(err)
	case !ok:
		return nil, &failure{Exit: exitNotFound, Phase: "control", Hint: "dibber ctl bans lists those that are", Err: fmt.Errorf("%s is not banned", b.Subject())}
	}
	goByBans(op.bans, op.n)
	op.out.event("ban.removed", banRemoved{gone})
	return unbanDoc{&gone}, nil
}

// banFailure is why a book could not be changed.
func banFailure(err error) error {
	if errors.Is(err, bans.ErrFull) {
		return &failure{Exit: exitRefused, Code: "full", Phase: "control", Hint: "ban networks, or lift some: dibber ctl bans", Err: err}
	}
	return &failure{Code: "store_failed", Phase: "control", Hint: "what was in force before still is", Err: err}
}

// banAdded tells of a ban that an operator made.
type banAdded struct {
	Ban bans.Ban `json:"ban"`
}

func (e banAdded) line() string { return "banned  " + plainText(banText(e.Ban)) }

// banRemoved tells of a ban that an operator lifted.
type banRemoved banAdded

func (e banRemoved) line() string { return "no longer banned  " + e.Ban.Subject() }

// banText is a ban in a few words.
func banText(b bans.Ban) string {
	text := b.Subject() + ", for good"
	if b.Until != nil {
		text = b.Subject() + ", until " + b.Until.Local().Format(time.DateTime)
	}
	if b.Reason != nil {
		text += ": " + *b.Reason
	}
	return text
}

func (d *bansDoc) renderText(t *text) {
	if d.yes || d.Bans == nil {
		return
	}
	var rows [][]string
	for _, b := range *d.Bans {
		until := "for good"
		if b.Until != nil {
			until = b.Until.Local().Format(time.DateTime)
		}
		reason := "–"
		if b.Reason != nil {
			reason = plainText(*b.Reason)
		}
		rows = append(rows, []string{b.Subject(), b.Since.Local().Format(time.DateTime), until, reason})
	}
	t.table([]string{"BANNED", "SINCE", "UNTIL", "REASON"}, rows)
}

func (d *bansDoc) line() string { return listLines(d) }

func (d bansDoc) quiet() string { return tokens(d.Bans, bans.Ban.Subject) }

func (d banDoc) renderText(t *text) {
	if d.Ban == nil {
		return
	}
	t.line("banned  %s", plainText(banText(*d.Ban)))
	if d.Connections > 0 || d.Reservation {
		t.line("closed  %d connections, %d circuits", d.Connections, d.Kicked.Circuits)
	}
}

func (d unbanDoc) renderText(t *text) {
	if d.Ban != nil {
		t.line("no longer banned  %s", d.Ban.Subject())
	}
}
