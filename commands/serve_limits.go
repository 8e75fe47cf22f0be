package commands

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"dibber/netkit/rendezvous"
	"dibber/netkit/serve"

	"github.com/urfave/cli/v2"
)

// relayLimitKeys and rendezvousLimitKeys are the flags of serve, and the keys of its
// table in the configuration, for limits that can be changed while it runs.
func relayLimitKeys() []string {
	return []string{
		"relay-reservations", "relay-reservations-per-ip", "relay-reservations-per-prefix", "relay-reservations-per-asn",
		"relay-circuits", "relay-circuits-total", "relay-duration", "relay-bytes", "relay-rate", "relay-unlimited",
	}
}

func rendezvousLimitKeys() []string {
	return []string{
		"rendezvous-min-ttl", "rendezvous-max-ttl", "rendezvous-registrations", "rendezvous-per-peer",
		"rendezvous-per-namespace", "rendezvous-per-prefix", "rendezvous-refuse", "allow-namespace",
	}
}

// validateLimits finds what makes no sense in the limits of relay and rendezvous.
func (o *serveOptions) validateLimits() error {
	shortest := cmp.Or(o.RendezvousLimits.MinTTL, 2*time.Hour)
	switch {
	case o.Rendezvous && o.RendezvousLimits.MinTTL != 0 && o.RendezvousLimits.MinTTL < time.Minute:
		return usagef("--rendezvous-min-ttl: %s is less than 1m", o.RendezvousLimits.MinTTL)
	case o.RendezvousLimits.MaxTTL != 0 && o.RendezvousLimits.MaxTTL < shortest:
		return usagef("--rendezvous-max-ttl: %s is less than the shortest registration, %s", o.RendezvousLimits.MaxTTL, shortest)
	}
	for _, kind := range o.RefuseAddrs {
		if addrKinds()[kind] == 0 {
			return usagef("--rendezvous-refuse: %q is none of private, relayed and public%s", kind, didYouMean(kind, []string{"private", "relayed", "public"}, ""))
		}
	}
	if o.rendezvousLimits().RefuseAddrs == rendezvous.AddrPublic|rendezvous.AddrRelayed|rendezvous.AddrPrivate {
		return usagef("--rendezvous-refuse leaves no kind of address to register")
	}
	if _, err := o.rendezvousLimits().WithDefaults(); o.Rendezvous && err != nil {
		return usagef("%w", err)
	}
	return o.counts()
}

// limitFlags are the flags of those keys, and a set in which they write into o, whose
// fields stay as they are until then.
func limitFlags(o *serveOptions) (*flag.FlagSet, map[string]cli.Flag, error) {
	was, set, flags := *o, flag.NewFlagSet("", flag.ContinueOnError), make(map[string]cli.Flag)
	for _, f := range serveFlags(o) {
		name := f.Names()[0]
		if !slices.Contains(relayLimitKeys(), name) && !slices.Contains(rendezvousLimitKeys(), name) {
			continue
		}
		if err := f.Apply(set); err != nil {
			return nil, nil, fmt.Errorf("declare --%s: %w", name, err)
		}
		flags[name] = f
	}
	*o = was // declaring them has set their defaults
	return set, flags, nil
}

// checkLimits finds every usage error in values that needs no running node.
func checkLimits(values map[string]string) error {
	_, flags, err := limitFlags(new(serveOptions))
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		f := flags[key]
		if f == nil {
			return usagef("unknown limit %q%s", key, didYouMean(key, slices.Sorted(maps.Keys(flags)), ""))
		}
		if err := checkValue(f, values[key]); err != nil {
			return usagef("%s: %w", key, err)
		}
	}
	return nil
}

// limitRow is a limit in force, as its flag would have it.
type limitRow struct {
	Key   string  `json:"key"`
	Value *string `json:"value"` // null: no limit
}

// limitRows are the limits in force that can be changed.
func limitRows(l serve.Limits) ([]limitRow, error) {
	var o serveOptions
	set, _, err := limitFlags(&o)
	if err != nil {
		return nil, err
	}
	var keys []string
	if l.Relay != nil {
		keys = append(keys, relayLimitKeys()...)
		o.RelayLimits = *l.Relay
		o.RelayUnlimited = l.Relay.Duration < 0 && l.Relay.Bytes < 0
	}
	if l.Rendezvous != nil {
		keys = append(keys, rendezvousLimitKeys()...)
		o.RendezvousLimits, o.RefuseAddrs = *l.Rendezvous, refusedKinds(l.Rendezvous.RefuseAddrs)
	}
	var rows []limitRow
	for _, key := range keys {
		row := limitRow{Key: key, Value: new(set.Lookup(key).Value.String())}
		if v := *row.Value; v == "" || v == "0" || strings.HasPrefix(v, "-") {
			row.Value = nil
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// limitChange is a limit that has another value than before.
type limitChange struct {
	Key  string  `json:"key"`
	From *string `json:"from"` // null: no limit
	To   *string `json:"to"`
}

func (c limitChange) String() string {
	return fmt.Sprintf("%s  %s → %s", c.Key, limitText(c.From), limitText(c.To))
}

// limitText is the value of a limit for people.
func limitText(v *string) string {
	if v == nil {
		return "none"
	}
	return *v
}

// liveLimits are the limits of a running serve, in the options that they were set by.
type liveLimits struct {
	s *serve.Server

	mu sync.Mutex // guards o
	o  serveOptions
}

// options are those in force.
func (l *liveLimits) options() serveOptions {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.o
}

// rows are the limits in force that set can change.
func (l *liveLimits) rows() ([]limitRow, error) {
	now := l.s.Limits()
	if !l.options().Relay {
		now.Relay = nil // that of a full node, whose limits stay
	}
	return limitRows(now)
}

// take puts the limits of other options into force.
func (l *liveLimits) take(o serveOptions) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.put(o)
}

// put is take for a caller that holds l.mu.
func (l *liveLimits) put(o serveOptions) error {
	if err := l.s.SetLimits(serve.Limits{Relay: new(o.relayLimits()), Rendezvous: new(o.rendezvousLimits())}); err != nil {
		return err
	}
	l.o = o
	return nil
}

// set changes limits by their keys, all or none, and returns those that now differ.
func (l *liveLimits) set(values map[string]string) ([]limitChange, error) {
	if err := checkLimits(values); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.o
	to, _, err := limitFlags(&o)
	if err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if role := o.lacks(key); role != "" {
			return nil, &failure{Exit: exitProtocol, Code: "missing_role", Phase: "limits", Err: fmt.Errorf("%s: this node runs without --%s", key, role)}
		}
		if err := to.Set(key, values[key]); err != nil {
			return nil, usagef("%s: %w", key, err)
		}
	}
	for _, key := range []string{"relay-duration", "relay-bytes"} {
		if _, given := values[key]; given && o.RelayUnlimited {
			return nil, usagef("%s does nothing with relay-unlimited: set relay-unlimited=false, too", key)
		}
	}
	if err := o.validateLimits(); err != nil {
		return nil, err
	}
	before, err := limitRows(l.s.Limits())
	if err != nil {
		return nil, err
	}
	if err := l.put(o); err != nil {
		return nil, err
	}
	after, err := limitRows(l.s.Limits())
	return changesOf(before, after), err
}

// lacks is the role that a limit belongs to and this node was not given; empty when
// it was.
func (o *serveOptions) lacks(key string) string {
	switch {
	case !o.Relay && slices.Contains(relayLimitKeys(), key):
		return serve.RoleRelay
	case !o.Rendezvous && slices.Contains(rendezvousLimitKeys(), key):
		return serve.RoleRendezvous
	}
	return ""
}

// changesOf are the rows that differ.
func changesOf(before, after []limitRow) (out []limitChange) {
	for i, now := range after {
		if was := before[i]; limitText(was.Value) != limitText(now.Value) {
			out = append(out, limitChange{Key: now.Key, From: was.Value, To: now.Value})
		}
	}
	return out
}
