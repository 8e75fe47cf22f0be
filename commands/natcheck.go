package commands

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/nat"
	"dibber/netkit/natcheck"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
)

// natcheckOptions are the flags of natcheck.
type natcheckOptions struct {
	Host      hostOptions
	Servers   []string
	Sources   networkSource // where servers are looked for
	Assert    string
	Diff      string
	Every     time.Duration
	Redact    bool
	NoPortMap bool
	NoHistory bool
	Lifetime  time.Duration
}

// natcheckDoc is the document of natcheck.
type natcheckDoc struct {
	natcheck.Result
	Asserts []assertion  `json:"asserts"` // the terms of --assert
	Diff    []difference `json:"diff"`    // to the document of --diff
	Looks   int          `json:"looks"`   // with --every, how many there were
	History *historyDoc  `json:"history"` // what static rests on; null: nothing came of this look
}

func newNatcheck(e *env) spec {
	var o natcheckOptions
	return spec{
		name: "natcheck", usage: "show how this host is seen and reached from outside",
		about: `Looks from the ports that --listen names (any free ones otherwise), over UDP and TCP, IPv4 and IPv6. Any libp2p peer
as --server tells where it sees this host; one that runs "dibber serve --vantage" shows as well how the NAT maps and
filters, best with two addresses. Servers of AutoNAT v2 dial back, relays are asked for a reservation, and a router
with a NAT is asked to forward a port for that long. Without --server, --bootstrap or --public begins a look through the
network of a hash table for three nodes in different networks that dial back. The report comes after 5 s at the latest. What is not known is null.
Whether the address is static is known from the second look on: where this host was seen is kept in the state folder.

--assert compares values of the document, terms joined by &&: 'families.ip4.udp.mapping == EIM && verdict != hard'. The
operators are == != < > <= >= and has (a list contains it). --diff compares with an earlier document what does not change
by itself; what is unknown in one of the two differs from nothing. A comparison that fails is exit 10. With either of
them an inconclusive report is no failure by itself.`,
		examples: []string{
			"dibber natcheck --server /ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm",
			"dibber natcheck --server @home --peers @peers.txt --listen /ip4/0.0.0.0/udp/4001/quic-v1 --assert 'families.ip4.udp.mapping == EIM'",
			"dibber natcheck --server @home --peers @peers.txt --every 1m --ndjson --redact",
		},
		flags: slices.Concat([]cli.Flag{
			listFlag("", "server", "ask `SERVER`, an address or @name (repeatable)", &o.Servers),
			&cli.StringFlag{Name: "assert", Usage: "exit 10 unless `'PATH OP VALUE && ...'` holds for the document", Destination: &o.Assert},
			&cli.StringFlag{Name: "diff", Usage: "exit 10 if anything differs from the document in `FILE`", Destination: &o.Diff},
			&cli.DurationFlag{Name: "every", Usage: "look again after `DURATION`, until interrupted", Destination: &o.Every},
			&cli.DurationFlag{Name: "lifetime", Usage: "find out for how long the NAT keeps a UDP mapping that is not used, up to `DURATION`, which the report takes longer", Destination: &o.Lifetime},
			&cli.BoolFlag{Name: "no-history", Usage: "neither use nor keep the looks of other runs, which tell whether the address is static", Destination: &o.NoHistory},
			&cli.BoolFlag{Name: "no-portmap", Usage: "do not ask the router to forward a port while the check lasts", Destination: &o.NoPortMap},
			&cli.BoolFlag{Name: "redact", Usage: "replace IP addresses, names and peer ids, the same always by the same", Destination: &o.Redact},
		}, networkFlags(&o.Sources.Network), hostFlags(&o.Host)),
		options: &o, timeout: 30 * time.Second, doc: natcheckDoc{}, events: []event{
			{"evidence", natcheck.Sight{}},
			{"path", natcheck.PathEvent{}},
			{"address", natcheck.Address{}},
			{"relay", natcheck.Relay{}},
			{"report", natcheckDoc{}},
		},
		longLived: func() bool { return o.Every > 0 },
		extra: func() time.Duration {
			if o.Every > 0 {
				return -1
			}
			return o.Lifetime
		},
		validate: func(args []string) error { return o.validate(e, args) },
		run:      func(ctx context.Context, out *output) (any, error) { return runNatcheck(ctx, out, o) },
	}
}

func (o *natcheckOptions) validate(e *env, args []string) error {
	switch {
	case strings.TrimSpace(o.Assert) == "" && e.named("assert"):
		return usagef("--assert: there is nothing to compare; give 'PATH OP VALUE'")
	case o.Diff == "" && e.named("diff"):
		return usagef("--diff: give the file of an earlier document")
	case len(args) > 0:
		return usagef("natcheck takes no arguments, but got %q; name servers by --server", args[0])
	case len(o.Servers) > 0 && o.Sources.Network.knows():
		return usagef("--server names whom to ask: it excludes --bootstrap and --public, by which servers are looked for")
	case len(o.Servers) == 0 && !o.Sources.Network.knows():
		return &failure{
			Exit: exitUsage, Err: errors.New("natcheck needs somebody to look from, and no server is configured"),
			Hint: "dibber natcheck --server /ip4/ADDRESS/udp/4001/quic-v1/p2p/PEERID, where dibber serve --vantage runs; or --bootstrap PEER to look for servers in the network of dibber serve --dht",
		}
	case o.Every < 0:
		return usagef("--every: %s is negative", o.Every)
	case o.Lifetime < 0 || o.Lifetime > natcheck.MaxLifetime || o.Lifetime > 0 && o.Lifetime < time.Second:
		return usagef("--lifetime: %s is not between 1s and %s", o.Lifetime, durationText(natcheck.MaxLifetime))
	}
	if _, err := parseAsserts(o.Assert); err != nil {
		return err
	}
	if err := o.Sources.Network.validate(); err != nil {
		return err
	}
	if err := o.Host.shows("natcheck"); err != nil {
		return err
	}
	return o.Host.validate()
}

func runNatcheck(ctx context.Context, out *output, o natcheckOptions) (any, error) {
	if o.Redact {
		out.mask = newRedactor().redact
	}
	terms, err := parseAsserts(o.Assert)
	if err != nil {
		return nil, err
	}
	var before []byte
	if o.Diff != "" {
		if before, err = readBefore(o.Diff, out.spec.schemaName()); err != nil {
			return nil, err
		}
	}
	servers, err := o.servers(out)
	if err != nil {
		return nil, err
	}
	file, err := o.historyFile(out.e)
	if err != nil {
		return nil, err
	}
	past, err := loadHistory(file, out.e.start)
	if err != nil {
		return nil, err
	}
	cfg := o.config(servers)
	cfg.On = func(e natcheck.Event) { tellNatcheck(out, e) }
	n, err := o.Host.open(ctx, out, hostDefaults{})
	if err != nil {
		return nil, err
	}
	defer n.Close()
	if len(servers) == 0 {
		if cfg.Servers, err = o.findServers(ctx, out, n); err != nil {
			return nil, err
		}
	}
	var doc, last natcheckDoc
	for {
		last, doc = doc, natcheckDoc{Looks: doc.Looks + 1}
		doc.Result, err = natcheck.Do(ctx, n, cfg)
		if ctx.Err() != nil && last.Looks > 0 {
			return last, nil // the look was cut short, and says less than the one before
		}
		if err == nil || errors.Is(err, natcheck.ErrInconclusive) {
			doc.History = new(past.take(time.Now(), &doc.Families))
			if failed := past.save(); failed != nil {
				out.notice("%v", failed)
			}
		}
		if ctx.Err() == nil {
			err = doc.compare(err, terms, before)
		}
		silent := errors.Is(err, natcheck.ErrUnreachable) // for now, perhaps
		if o.Every == 0 || err != nil && !silent && !errors.Is(err, natcheck.ErrInconclusive) {
			return doc, err
		}
		out.event("report", doc)
		if silent {
			out.warn("%v", err)
		}
		host.Pause(ctx, o.Every)
		if ctx.Err() != nil {
			return doc, nil
		}
	}
}

// config is what the options make of a check.
func (o *natcheckOptions) config(servers []peer.AddrInfo) natcheck.Config {
	return natcheck.Config{Servers: servers, PortMap: !o.NoPortMap, Lifetime: o.Lifetime}
}

// historyFile is where looks are kept; empty where they are not.
func (o *natcheckOptions) historyFile(e *env) (string, error) {
	if o.NoHistory {
		return "", nil
	}
	dir, err := o.Host.openState(e, false)
	return filepath.Join(dir, historyFile), err
}

// servers reads --server; each needs an address.
func (o *natcheckOptions) servers(out *output) ([]peer.AddrInfo, error) {
	if len(o.Servers) == 0 {
		return nil, nil
	}
	targets, err := o.Host.targets(out, o.Servers, addr.Options{})
	if err != nil {
		return nil, fmt.Errorf("--server: %w", err)
	}
	var infos []peer.AddrInfo
	for _, t := range targets {
		if len(t.Addrs) == 0 {
			return nil, usagef("--server: %s has no address", t.ID)
		}
		infos = append(infos, t.AddrInfo())
	}
	return infos, nil
}

// compare fills in what --assert and --diff find and makes an error of what is false.
func (d *natcheckDoc) compare(err error, terms []assertion, before []byte) error {
	if err != nil && !errors.Is(err, natcheck.ErrInconclusive) {
		return err
	}
	var wrong error
	if len(terms) > 0 {
		d.Asserts, wrong = checkAsserts(terms, *d)
	}
	if before != nil {
		var differ error
		if d.Diff, differ = differences(before, *d); wrong == nil {
			wrong = differ
		}
	}
	switch {
	case wrong != nil:
		return wrong
	case len(terms) > 0 || before != nil:
		return nil
	}
	return err
}

// tellNatcheck turns what came in into an event.
func tellNatcheck(out *output, e natcheck.Event) {
	switch {
	case e.Sight != nil:
		out.event("evidence", *e.Sight)
		out.status("%s sees %s", e.Sight.Server, e.Sight.Observed)
	case e.Path != nil:
		out.event("path", *e.Path)
	case e.Address != nil:
		out.event("address", *e.Address)
	case e.Relay != nil:
		out.event("relay", *e.Relay)
	}
}

// line is one report of several.
func (d natcheckDoc) line() string {
	parts := []string{time.Now().Format(time.TimeOnly), string(d.Verdict)}
	for _, p := range d.paths() {
		if len(p.path.Observed) > 0 {
			parts = append(parts, p.name+" "+p.path.Observed[0].String())
		}
	}
	return strings.Join(parts, "  ")
}

// natcheckFailure gives the errors of looking from outside their class.
func natcheckFailure(err error) (failure, bool) {
	var family *natcheck.FamilyError
	switch {
	case errors.As(err, &family):
		hint := "name a --server by an IPv4 address, and leave out -6"
		if family.Family == natcheck.IP4 {
			hint = "name a --server by an IPv6 address, and leave out -4"
		}
		return failure{Exit: exitUnreachable, Code: "no_" + family.Family, Phase: "dial", Hint: hint}, true
	case errors.Is(err, natcheck.ErrNoAddress):
		return failure{
			Exit: exitUnreachable, Code: "no_address", Phase: "dial",
			Hint: "give another address of the --server, or let more be used: -4, -6 and --transport leave out the rest",
		}, true
	case errors.Is(err, natcheck.ErrUnreachable):
		return failure{Exit: exitUnreachable, Phase: "dial", Retryable: true, Hint: "see why: dibber dial SERVER; where UDP is blocked only its TCP address answers"}, true
	case errors.Is(err, natcheck.ErrInconclusive):
		return failure{Exit: exitInconclusive, Phase: "natcheck", Hint: "name more --server, best one that runs dibber serve --vantage at two addresses"}, true
	}
	return failure{}, false
}

func (d natcheckDoc) quiet() string { return string(d.Verdict) }

// pathOf is one path with its name.
type pathOf struct {
	name string
	path nat.Path
}

func (d natcheckDoc) paths() []pathOf {
	f := d.Families
	return []pathOf{{"ip4 udp", f.IP4.UDP}, {"ip4 tcp", f.IP4.TCP}, {"ip6 udp", f.IP6.UDP}, {"ip6 tcp", f.IP6.TCP}}
}
