package commands

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/route"
	"dibber/netkit/serve"
	"dibber/netkit/store"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
)

// routeOptions are the flags of serve about the hash table.
type routeOptions struct {
	On        bool
	Mode      string
	Walk      time.Duration
	NoRecords bool
	Limits    route.Limits
}

// routeFlags declares them.
func routeFlags(o *routeOptions) []cli.Flag {
	o.Mode = string(route.Auto)
	count := func(name, usage string, dest *int) cli.Flag {
		return &cli.IntFlag{Name: name, Usage: usage, Destination: dest}
	}
	return []cli.Flag{
		&cli.BoolFlag{Name: "dht", Usage: "take part in the network of a distributed hash table (Kademlia)", Destination: &o.On},
		choiceFlag("", "dht-mode", "take part as `MODE`: server, client, or auto, a client while others cannot reach the node", &o.Mode,
			string(route.Auto), string(route.Server), string(route.Client)),
		&cli.DurationFlag{Name: "dht-walk", Value: route.DefaultWalk, Usage: "look for a random peer every `DURATION`; 0 never", Destination: &o.Walk},
		&cli.BoolFlag{Name: "dht-no-records", Usage: "keep neither records nor providers: the network only finds peers", Destination: &o.NoRecords},
		count("dht-records", "keep at most `N` records; 0 means 100000", &o.Limits.Records),
		count("dht-records-per-author", "keep at most `N` records of one author; 0 means 1000", &o.Limits.RecordsPerAuthor),
		count("dht-providers", "keep at most `N` provider entries; 0 means 1000000", &o.Limits.Providers),
		count("dht-providers-per-peer", "keep at most `N` entries of one provider; 0 means 50000", &o.Limits.ProvidersPerPeer),
		&cli.Float64Flag{Name: "dht-per-peer", Usage: "answer one peer at most `N` times a second; 0 means 100", Destination: &o.Limits.PerPeer},
		&cli.Float64Flag{Name: "dht-per-prefix", Usage: "answer one network, an IPv4 /24 or IPv6 /56, at most `N` times a second; 0 means 1000", Destination: &o.Limits.PerPrefix},
	}
}

// routeKeys are the names of those flags but for --dht.
func routeKeys() []string {
	return []string{
		"dht-mode", "dht-walk", "dht-no-records", "dht-records", "dht-records-per-author", "dht-providers", "dht-providers-per-peer",
		"dht-per-peer", "dht-per-prefix",
	}
}

// validateRoute finds what makes no sense.
func (o *serveOptions) validateRoute() error {
	d := o.DHT
	switch {
	case d.On && o.Host.NoDiscovery:
		return usagef("--no-discovery asks nobody: it excludes --dht")
	case d.Walk < 0:
		return usagef("--dht-walk: %s is negative", d.Walk)
	case d.NoRecords && o.Sources.Network.prefix() == route.PublicPrefix:
		return usagef("--dht-no-records: nodes of the public network keep records")
	case d.Limits.PerPeer < 0 || d.Limits.PerPrefix < 0:
		return usagef("--dht-per-peer and --dht-per-prefix must not be negative")
	}
	for flag, n := range map[string]int{
		"dht-records": d.Limits.Records, "dht-records-per-author": d.Limits.RecordsPerAuthor,
		"dht-providers": d.Limits.Providers, "dht-providers-per-peer": d.Limits.ProvidersPerPeer,
	} {
		if n < 0 {
			return usagef("--%s must not be negative", flag)
		}
	}
	return o.Sources.Network.validate()
}

// route configures the role, and opens the database of its records, which the returned function closes.
func (o *serveOptions) route(out *output, n *host.Node, dir string, roles *serve.Config) (closeDB func() error, err error) {
	closeDB = func() error { return nil }
	if !o.DHT.On {
		return closeDB, nil
	}
	cfg, err := o.Sources.Network.config(out, &o.Host, n.ID())
	if err != nil {
		return nil, err
	}
	cfg.Mode, cfg.Limits, cfg.NoRecords = route.Mode(o.DHT.Mode), o.DHT.Limits, o.DHT.NoRecords
	if o.DHT.Walk > 0 { // the network's configuration has none
		cfg.Walk = o.DHT.Walk
	}
	if !cfg.NoRecords {
		if cfg.DB, err = store.Open(filepath.Join(dir, "dht"), store.Config{}); err != nil {
			return nil, err
		}
		closeDB = cfg.DB.Close
	}
	roles.Route = &cfg
	return closeDB, nil
}

// routeEvents are the lines of --ndjson about the hash table.
func routeEvents() (list []event) {
	for _, kind := range []route.EventKind{route.Joined, route.Alone, route.BootFailed, route.Walked, route.Refused} {
		list = append(list, event{"dht." + string(kind), routeLine{}})
	}
	return list
}

// routeLine is something that happened to the node's part in the network.
type routeLine struct {
	Peer   *peer.ID      `json:"peer"`   // whose request was refused; else null
	Reason *string       `json:"reason"` // why; else null
	Table  int           `json:"table"`  // peers in the routing table
	Walk   *route.Lookup `json:"walk"`   // of a walk that ended; else null
	Error  *string       `json:"error"`

	kind route.EventKind
}

// tellRoute turns what happened into an event. A person is told of joining and of being alone; refusals and walks are
// many.
func tellRoute(out *output, e route.Event) {
	name, l := "dht."+string(e.Kind), routeLine{Reason: known(string(e.Reason)), Table: e.Table, Walk: e.Walk, Error: errorText(e.Err), kind: e.Kind}
	if e.Peer != "" {
		l.Peer = &e.Peer
	}
	switch e.Kind {
	case route.Joined, route.BootFailed, route.Alone:
		out.recurring("dht", e.Err, name, l)
	default:
		out.emit(name, l, false)
	}
}

func (l routeLine) line() string {
	switch {
	case l.kind == route.Joined:
		return fmt.Sprintf("dht joined  table of %d peers", l.Table)
	case l.Error != nil:
		return "dht not joined  " + *l.Error
	}
	return "dht alone  nobody is left in the table"
}

// routeLimits are the limits of the role.
type routeLimits struct {
	Records          int     `json:"records"`
	RecordsPerAuthor int     `json:"records_per_author"`
	Providers        int     `json:"providers"` // entries
	ProvidersPerPeer int     `json:"providers_per_peer"`
	RecordBytes      int     `json:"record_bytes"`
	PerPeer          float64 `json:"per_peer_per_second"`
	PerPrefix        float64 `json:"per_prefix_per_second"` // of an IPv4 /24 or IPv6 /56
}

func routeLimitsOf(l *route.Limits) *routeLimits {
	if l == nil {
		return nil
	}
	return &routeLimits{l.Records, l.RecordsPerAuthor, l.Providers, l.ProvidersPerPeer, l.RecordBytes, l.PerPeer, l.PerPrefix}
}

func (l routeLimits) String() string {
	return fmt.Sprintf("dht  %d records, %d per author; %d provider entries, %d per peer; %g requests a second of one peer, %g of one network",
		l.Records, l.RecordsPerAuthor, l.Providers, l.ProvidersPerPeer, l.PerPeer, l.PerPrefix)
}

// routedOf is nil for a node without the role.
func routedOf(r *route.Service) *route.Stats {
	if r == nil {
		return nil
	}
	return new(r.Stats())
}

// routeFields shows what the role has come to.
func routeFields(t *text, s *route.Stats) {
	if s == nil {
		return
	}
	t.field(serve.RoleDHT, "%s, table of %d peers, %d walks; %d records, %d provider entries", s.Mode, s.Table, s.Walks, s.Records, s.Providers)
	if len(s.Requests) > 0 {
		t.field("", "requests: %s", strings.ReplaceAll(countsText(s.Requests), "_", " "))
	}
	refusedField(t, s.Refused)
}
