package commands

import (
	"context"
	"net/http"
	"strings"

	"dibber/netkit/relay"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/peer"
)

// limitsGetDoc are the limits that can be changed.
type limitsGetDoc struct {
	Limits *[]limitRow `json:"limits"` // null: not known
}

// limitsSetDoc is what was changed.
type limitsSetDoc struct {
	Changed *[]limitChange `json:"changed"` // null: the node has not said
}

// kickDoc is a peer that was disconnected, and what it lost.
type kickDoc struct {
	Peer *peer.ID `json:"peer"` // null: none was
	serve.Kicked
}

// endDoc is a circuit that was ended, as it was a moment before.
type endDoc struct {
	Circuit *relay.Circuit `json:"circuit"` // null: none was
}

// drainDoc is a node that is about to end.
type drainDoc struct {
	Circuits *int     `json:"circuits"`  // it waits for; null: not known, or it is no relay
	WithinMS *float64 `json:"within_ms"` // null: it does not drain
}

func newCtlLimits(e *env) spec {
	return spec{
		name: "limits", usage: "show and change the limits of relay and rendezvous point",
		about: `Limits have the names that they have as flags of serve and in its configuration. What is set lasts until the node
ends, or reads its configuration again at SIGHUP.`,
		examples:    []string{"dibber ctl limits get", "dibber ctl limits set relay-circuits=8", "dibber ctl limits set rendezvous-max-ttl=24h relay-rate=0"},
		subcommands: []spec{newCtlLimitsGet(e), newCtlLimitsSet(e)},
	}
}

func newCtlLimitsGet(*env) spec {
	o := new(ctlOptions)
	return ctlAct(o, spec{
		name: "get", usage: "show the limits that can be changed", doc: limitsGetDoc{},
		about:    "They are those of --relay and --rendezvous; none otherwise. A full node's relay has limits that stay: see dibber ctl status.",
		examples: []string{"dibber ctl limits get", "dibber ctl limits get -q", "dibber ctl limits get --json"},
	}, func(args []string) error {
		if len(args) > 0 {
			return usagef("ctl limits get takes no arguments, but got %q", args[0])
		}
		return nil
	}, func(ctx context.Context, out *output) (any, error) {
		var doc limitsGetDoc
		err := o.ask(ctx, out, http.MethodGet, "/limits", nil, &doc)
		return doc, err
	})
}

func newCtlLimitsSet(*env) spec {
	o := new(ctlOptions)
	return ctlAct(o, spec{
		name: "set", usage: "change limits, all that are given or none", args: "<key>=<value>...", doc: limitsSetDoc{},
		about: `0 restores a default, as it does for the flag. What stands stays: reservations and circuits are not cut, and what is
registered goes only when the total sinks below it.`,
		examples: []string{
			"dibber ctl limits set relay-circuits=8",
			"dibber ctl limits set relay-duration=10m relay-bytes=10485760",
			"dibber ctl limits set relay-unlimited=true --json",
		},
	}, func(args []string) error {
		values, err := limitValues(args)
		if err != nil {
			return err
		}
		return checkLimits(values)
	}, func(ctx context.Context, out *output) (any, error) {
		values, err := limitValues(o.args)
		if err != nil {
			return nil, err
		}
		var doc limitsSetDoc
		err = o.ask(ctx, out, http.MethodPost, "/limits", values, &doc)
		return doc, err
	})
}

// limitValues reads arguments of the form key=value.
func limitValues(args []string) (map[string]string, error) {
	if len(args) == 0 {
		return nil, usagef("ctl limits set needs a limit, as in relay-circuits=8")
	}
	values := make(map[string]string, len(args))
	for _, a := range args {
		key, value, ok := strings.Cut(a, "=")
		if !ok {
			return nil, usagef("%q is not of the form KEY=VALUE", a)
		}
		if _, twice := values[key]; twice {
			return nil, usagef("%s is given twice", key)
		}
		values[key] = value
	}
	return values, nil
}

func (d limitsGetDoc) renderText(t *text) {
	if d.Limits == nil {
		return
	}
	var rows [][]string
	for _, r := range *d.Limits {
		rows = append(rows, []string{r.Key, limitText(r.Value)})
	}
	t.table([]string{"LIMIT", "VALUE"}, rows)
}

func (d limitsGetDoc) quiet() string {
	if d.Limits == nil {
		return ""
	}
	var lines []string
	for _, r := range *d.Limits {
		if r.Value != nil {
			lines = append(lines, r.Key+"="+*r.Value)
		}
	}
	return strings.Join(lines, "\n")
}

func (d limitsSetDoc) renderText(t *text) {
	if d.Changed == nil {
		return
	}
	if len(*d.Changed) == 0 {
		t.line("nothing changed")
	}
	for _, c := range *d.Changed {
		t.line("%s", c)
	}
}

func (d kickDoc) renderText(t *text) {
	if d.Peer == nil {
		return
	}
	reservation := "no reservation"
	if d.Reservation {
		reservation = "its reservation"
	}
	t.line("%s lost %d connections, %d circuits and %s", *d.Peer, d.Connections, d.Kicked.Circuits, reservation)
}

func (d endDoc) renderText(t *text) {
	if c := d.Circuit; c != nil {
		t.line("circuit %d from %s to %s ended after %s, with %s sent and %s received", c.ID, c.Source, c.Destination, ageText(c.AgeMS), bytesText(c.Sent), bytesText(c.Received))
	}
}

func (d drainDoc) renderText(t *text) {
	if d.WithinMS == nil {
		return
	}
	circuits := 0
	if d.Circuits != nil {
		circuits = *d.Circuits
	}
	t.line("draining: circuits to end %d, within %s", circuits, ageText(*d.WithinMS))
}
