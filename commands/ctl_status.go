package commands

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"
	"dibber/netkit/route"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/peer"
)

// statusDoc is a node in short. All of it is null when the node has not answered.
type statusDoc struct {
	Peer     *peer.ID       `json:"peer"`
	Agent    *string        `json:"agent"`
	PID      *int           `json:"pid"`
	Started  *time.Time     `json:"started"`
	UptimeS  *float64       `json:"uptime_s"`
	StateDir *string        `json:"state_dir"`
	Admin    *string        `json:"admin"` // control socket
	Roles    *[]string      `json:"roles"`
	Pending  *[]pendingRole `json:"pending"` // roles that it takes once it knows what it is
	// Draining says that it takes nothing new and is about to end.
	Draining     *bool            `json:"draining"`
	Reachability *string          `json:"reachability"` // public or private; null: not known, or not a matter for its roles
	Addresses    *[]serve.Address `json:"addresses"`
	Limits       *limitsDoc       `json:"limits"`
	Use          *useDoc          `json:"use"`
	Counters     *countersDoc     `json:"counters"`
	Registry     *registryDoc     `json:"registry"` // shared with other rendezvous points; null: none is
}

// fill is how full a limit is.
type fill struct {
	Used  int `json:"used"`
	Limit int `json:"limit"`
}

func (f fill) String() string { return fmt.Sprintf("%d of %d", f.Used, f.Limit) }

// useDoc is how full the limits are; null where a role is off.
type useDoc struct {
	Connections   fill  `json:"connections"`
	Reservations  *fill `json:"reservations"`
	Circuits      *fill `json:"circuits"`
	Registrations *fill `json:"registrations"`
}

// countersDoc is what was done since the start; null for a role that never was taken.
type countersDoc struct {
	Relay      *relayTotals      `json:"relay"`
	Rendezvous *rendezvousTotals `json:"rendezvous"`
	DHT        *route.Stats      `json:"dht"`
}

// relayTotals are what the relay did since the start.
type relayTotals struct {
	Reservations uint64 `json:"reservations"` // given, renewals not counted
	Renewals     uint64 `json:"renewals"`
	Circuits     uint64 `json:"circuits"` // opened
	Bytes        int64  `json:"bytes"`    // carried, both ways together
	// Refused counts requests by the reason why they were refused, Closed circuits by
	// the reason why they ended.
	Refused map[relay.Reason]uint64 `json:"refused"`
	Closed  map[relay.Reason]uint64 `json:"closed"`
}

// relayTotalsOf is nil for a node that never was a relay.
func relayTotalsOf(s *relay.Stats) *relayTotals {
	if s == nil {
		return nil
	}
	return &relayTotals{s.Reserved, s.Renewed, s.Opened, s.Bytes, s.Refused, s.Closed}
}

// fields shows what a relay did.
func (r relayTotals) fields(t *text) {
	t.field(serve.RoleRelay, "%d reservations, %d renewals, %d circuits, %s", r.Reservations, r.Renewals, r.Circuits, bytesText(r.Bytes))
	refusedField(t, r.Refused)
	if len(r.Closed) > 0 {
		t.field("", "circuits ended: %s", countsText(r.Closed))
	}
}

// rendezvousTotals are what the rendezvous point did since the start.
type rendezvousTotals struct {
	// Requests counts those answered by type and status.
	Requests map[string]map[string]uint64 `json:"requests"`
	// Refused counts those refused by the reason.
	Refused map[string]uint64 `json:"refused"`
	Expired uint64            `json:"expired"` // registrations whose TTL ran out
	Evicted uint64            `json:"evicted"` // those that had to make room
}

// rendezvousTotalsOf is nil for a node that is no rendezvous point.
func rendezvousTotalsOf(s *rendezvous.Stats) *rendezvousTotals {
	if s == nil {
		return nil
	}
	return &rendezvousTotals{s.Requests, s.Refusals, s.Expired, s.Evicted}
}

// refusedField shows refusals by their reason, under the field before.
func refusedField[K ~string](t *text, counts map[K]uint64) {
	if len(counts) > 0 {
		t.field("", "refused: %s", countsText(counts))
	}
}

// countsText is counters by their names.
func countsText[K ~string](counts map[K]uint64) string {
	var parts []string
	for _, word := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", word, counts[word]))
	}
	return strings.Join(parts, ", ")
}

func newCtlStatus(*env) spec {
	o := new(ctlOptions)
	return ctlAct(o, spec{
		name: "status", usage: "show who the node is, what it offers and how full it is", doc: statusDoc{},
		about: `Addresses are shown with those peers who confirmed them, where the node asks (a full node does); refusals and
ends of circuits by their reasons, since the start.`,
		examples: []string{"dibber ctl status", "dibber ctl status --state-dir /var/lib/dibber", "dibber ctl status --json"},
	}, func(args []string) error {
		if len(args) > 0 {
			return usagef("ctl status takes no arguments, but got %q", args[0])
		}
		return nil
	}, func(ctx context.Context, out *output) (any, error) {
		var doc statusDoc
		err := o.ask(ctx, out, http.MethodGet, "/status", nil, &doc)
		return doc, err
	})
}

func (d statusDoc) quiet() string {
	if d.Peer == nil {
		return ""
	}
	return d.Peer.String()
}

func (d statusDoc) renderText(t *text) {
	if d.Peer == nil {
		return
	}
	t.field("peer id", "%s", *d.Peer)
	state := "up for " + durationText(time.Duration(*d.UptimeS*float64(time.Second)).Round(time.Second))
	if *d.Draining {
		state += ", draining"
	}
	t.field("state", "%s", state)
	t.field("process", "%d, %s, in %s", *d.PID, plainText(*d.Agent), plainText(*d.StateDir))
	if d.Reachability != nil {
		t.field("reachability", "%s", *d.Reachability)
	}
	for i, a := range *d.Addresses {
		t.field(labelOnce(i, "addresses"), "%s", addressText(a))
	}
	roles := slices.Clone(*d.Roles)
	for i, r := range roles {
		roles[i] = roleText(r, *d.Limits)
	}
	for _, p := range *d.Pending {
		roles = append(roles, p.String())
	}
	for i, r := range roles {
		t.field(labelOnce(i, "roles"), "%s", r)
	}
	t.field("in use", "%s connections", d.Use.Connections)
	for _, u := range []struct {
		what string
		fill *fill
	}{{"reservations", d.Use.Reservations}, {"circuits", d.Use.Circuits}, {"registrations", d.Use.Registrations}} {
		if u.fill != nil {
			t.field("", "%s %s", *u.fill, u.what)
		}
	}
	if d.Registry != nil {
		t.field("registry", "%s", d.Registry)
	}
	if r := d.Counters.Relay; r != nil {
		r.fields(t)
	}
	if r := d.Counters.Rendezvous; r != nil {
		var parts []string
		for _, kind := range slices.Sorted(maps.Keys(r.Requests)) {
			sum := uint64(0)
			for _, n := range r.Requests[kind] {
				sum += n
			}
			parts = append(parts, fmt.Sprintf("%s %d", kind, sum))
		}
		t.field(serve.RoleRendezvous, "requests: %s; expired %d, evicted %d", strings.Join(parts, ", "), r.Expired, r.Evicted)
		refusedField(t, r.Refused)
	}
	routeFields(t, d.Counters.DHT)
}

// addressText is an address with what is known of it.
func addressText(a serve.Address) string {
	s := fmt.Sprintf("%s  %s", plainText(a.Addr), a.Kind)
	if a.SeenBy > 0 {
		s += fmt.Sprintf(", seen by %d", a.SeenBy)
	}
	if a.Reachability != nil {
		s += fmt.Sprintf(", %s: %d of %d say so", *a.Reachability, len(a.ConfirmedBy), a.Asked)
	}
	return s
}
