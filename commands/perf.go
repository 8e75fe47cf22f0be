package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/dial"
	"dibber/netkit/perf"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
)

// perfOptions are the flags and arguments of perf.
type perfOptions struct {
	Host        hostOptions
	Sources     sourceOptions
	Target      []string
	Dir         string
	Duration    time.Duration
	Bytes       uint64
	Trips       int
	Raw         bool
	UntilDirect bool
}

// perfDoc is the document of perf.
type perfDoc struct {
	Peer      *peer.ID     `json:"peer"` // null: not known yet
	Path      *string      `json:"path"` // direct, relayed or punched; null: not connected
	Addr      *string      `json:"addr"`
	Transport *string      `json:"transport"`
	Security  *string      `json:"security"`
	Muxer     *string      `json:"muxer"`
	Limits    *dial.Limits `json:"limits"` // when connected; null: no limits, or not connected
	perf.Result
}

func newPerf(*env) spec {
	o := perfOptions{Dir: "both"}
	return spec{
		name: "perf", usage: "measure what the path to a peer carries, up and down", args: "<target>",
		about: `Speaks /perf/1.0.0 of libp2p; the other side runs dibber serve --perf. Round trips are
measured first, then each way for --duration, with a line a second. An upload counts until the peer has read it all.
Over a relay with limits it stays within nine tenths of what is left of them, and says so.`,
		examples: []string{
			"dibber perf /ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm",
			"dibber perf @home --peers @peers.txt --dir down --bytes 100000000 --raw",
			"dibber perf @home --peers @peers.txt --until-direct --duration 10s --json",
		},
		flags: slices.Concat([]cli.Flag{
			choiceFlag("", "dir", "measure in `DIRECTION`: both, up or down", &o.Dir, "both", "up", "down"),
			&cli.DurationFlag{Name: "duration", Aliases: []string{"d"}, Value: 5 * time.Second, Usage: "measure each way for `DURATION`", Destination: &o.Duration},
			&cli.Uint64Flag{Name: "bytes", Usage: "move `N` bytes each way, however long it takes, instead of measuring for --duration", Destination: &o.Bytes},
			&cli.IntFlag{Name: "trips", Value: 10, Usage: "measure `N` round trips; 0 measures none", Destination: &o.Trips},
			&cli.BoolFlag{Name: "raw", Usage: "measure a plain TCP connection to the same host as well; the peer must be a dibber whose ports can be reached", Destination: &o.Raw},
			&cli.BoolFlag{Name: "until-direct", Usage: "wait for a direct path first, or exit 7 at --timeout", Destination: &o.UntilDirect},
			ownHostFlag(&o.Host.OwnHost),
		}, sourceFlags(&o.Sources), hostFlags(&o.Host)),
		lends:   o.Host.lends("dir", "duration", "bytes", "trips", "until-direct"),
		options: &o, timeout: 30 * time.Second, doc: perfDoc{}, events: append(reachEvents(), event{"path.changed", pathLine{}}, event{"progress", perf.Progress{}}),
		extra:    o.extra,
		validate: o.validate,
		run:      func(ctx context.Context, out *output) (any, error) { return runPerf(ctx, out, o) },
	}
}

// extra is what the measurement itself takes, beyond --timeout.
func (o *perfOptions) extra() time.Duration {
	if o.Bytes > 0 {
		return 0
	}
	ways := len(o.directions())
	if o.Raw {
		ways *= 2
	}
	return time.Duration(ways) * o.Duration
}

func (o *perfOptions) directions() []perf.Direction {
	switch o.Dir {
	case "up":
		return []perf.Direction{perf.Upload}
	case "down":
		return []perf.Direction{perf.Download}
	}
	return []perf.Direction{perf.Upload, perf.Download}
}

func (o *perfOptions) validate(args []string) error {
	o.Target = args
	switch {
	case o.UntilDirect && o.Host.RelayOnly:
		return usagef("--until-direct and --relay-only exclude each other")
	case o.Raw && o.Host.RelayOnly:
		return usagef("--raw and --relay-only exclude each other: no plain connection goes through a relay")
	case o.Duration <= 0:
		return usagef("--duration: %s is no time", o.Duration)
	case o.Trips < 0:
		return usagef("--trips must not be negative")
	}
	if err := o.Sources.validate(); err != nil {
		return err
	}
	return o.Host.needTargets("perf", args, addr.Options{})
}

// perfLine is one second of a transfer.
type perfLine struct{ perf.Progress }

func (p perfLine) line() string {
	over := p.Path
	if p.Raw {
		over = "plain tcp"
	}
	return fmt.Sprintf("%-8s  %5.1f s  %s  %s", p.Direction, p.AtMS/1000, rateText(p.Rate), over)
}

// rateText is a rate in bytes and bits, as people compare it with files and with links.
func rateText(rate float64) string {
	return fmt.Sprintf("%s/s (%s)", sizeText(uint64(rate)), bitsText(8*rate))
}

func bitsText(rate float64) string {
	for _, u := range []struct {
		of   float64
		name string
	}{{1e9, "Gbit/s"}, {1e6, "Mbit/s"}, {1e3, "kbit/s"}} {
		if rate >= u.of {
			return fmt.Sprintf("%.2f %s", rate/u.of, u.name)
		}
	}
	return fmt.Sprintf("%.0f bit/s", rate)
}

func runPerf(ctx context.Context, out *output, o perfOptions) (doc any, err error) {
	targets, err := o.Host.oneTarget(out, "perf", o.Target, addr.Options{})
	if err != nil {
		return nil, err
	}
	find, err := o.Sources.finder(out, &o.Host, targets)
	if err != nil {
		return nil, err
	}
	t := targets[0]
	d := perfDoc{Peer: &t.ID}
	n, err := o.Host.open(ctx, out, hostDefaults{})
	if err != nil {
		return nil, err
	}
	defer closing(&err, o.Host.used(out, n))
	if err := find.complete(ctx, n, &t); err != nil {
		return d, err
	}
	reached, err := dial.Do(ctx, n, t.ID, t.Addrs, dial.Config{
		UntilDirect: o.UntilDirect, RelayOnly: o.Host.RelayOnly, On: func(e dial.Event) { tellDial(out, t, e, false) },
	})
	d.Path, d.Addr, d.Transport, d.Security, d.Muxer, d.Limits = reached.Path, reached.Addr, reached.Transport, reached.Security, reached.Muxer, reached.Limits
	if err != nil {
		return d, err
	}
	cfg := perf.Config{Directions: o.directions(), Duration: o.Duration, Bytes: o.Bytes, Trips: o.Trips, Raw: o.Raw, On: func(p perf.Progress) {
		out.event("progress", perfLine{p})
	}}
	if o.Trips == 0 {
		cfg.Trips = -1
	}
	d.Result, err = perf.Do(ctx, n, t.ID, cfg)
	return d, err
}

// perfFailure gives the errors of measuring their class.
func perfFailure(err error) (failure, bool) {
	switch {
	case errors.Is(err, perf.ErrUnsupported):
		return failure{Exit: exitProtocol, Code: "missing_protocol", Phase: "perf", Hint: "the other side needs dibber serve --perf"}, true
	case errors.Is(err, perf.ErrNotConnected):
		return failure{Exit: exitUnreachable, Code: "connection_lost", Phase: "perf", Retryable: true}, true
	case errors.Is(err, perf.ErrWrongCount):
		return failure{Exit: exitProtocol, Code: "wrong_count", Phase: "perf"}, true
	case errors.Is(err, perf.ErrRelayLimit):
		return failure{Exit: exitRefused, Code: "relay_limit", Phase: "perf", Hint: "--until-direct waits for a direct path"}, true
	case errors.Is(err, perf.ErrNoRaw):
		return failure{Exit: exitProtocol, Code: "no_raw", Phase: "perf", Hint: "what was measured over libp2p stands; without --raw nothing else is tried"}, true
	}
	return failure{}, false
}

func (d perfDoc) quiet() string {
	var rates []string
	for _, t := range []*perf.Transfer{d.Upload, d.Download} {
		if t != nil {
			rates = append(rates, fmt.Sprintf("%.0f", t.Rate))
		}
	}
	return strings.Join(rates, " ")
}

func (d perfDoc) renderText(t *text) {
	if d.Path == nil {
		return
	}
	t.gap()
	stack := []string{*d.Transport}
	for _, part := range []*string{d.Security, d.Muxer} {
		if part != nil {
			stack = append(stack, *part)
		}
	}
	t.field("path", "%s via %s", *d.Path, *d.Addr)
	t.field("stack", "%s", strings.Join(stack, "  "))
	if r := d.Trips; r != nil {
		t.field("round trips", "%d  min/p50/max %.2f/%.2f/%.2f ms", r.Count, r.Min, r.P50, r.Max)
	}
	transferField(t, "upload", d.Upload, *d.Path)
	transferField(t, "download", d.Download, *d.Path)
	if d.Raw != nil {
		transferField(t, "plain tcp up", d.Raw.Upload, "")
		transferField(t, "plain tcp down", d.Raw.Download, "")
		for _, r := range []struct {
			name  string
			ratio *float64
		}{{"upload", d.Raw.UploadRatio}, {"download", d.Raw.DownloadRatio}} {
			if r.ratio != nil {
				t.field("to plain tcp", "%s %.0f%%", r.name, *r.ratio*100)
			}
		}
	}
}

// transferField shows one way; with the path only where that is another than the one above.
func transferField(t *text, label string, x *perf.Transfer, path string) {
	if x == nil {
		return
	}
	value := fmt.Sprintf("%s  %s in %.1f s", rateText(x.Rate), sizeText(x.Bytes), x.MS/1000)
	if path == dial.Relayed && x.Path == dial.Direct {
		value += ", on a direct path by then"
	}
	if x.Limited != nil {
		value += ", cut short by what the relay allows (" + *x.Limited + ")"
	}
	t.field(label, "%s", value)
}
