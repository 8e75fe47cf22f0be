package commands

import (
	"context"
	"slices"
	"strings"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/route"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
)

func newDHT(e *env) spec {
	return spec{
		name: "dht", usage: "find peers, records and providers by a distributed hash table",
		about: `The hash table is Kademlia as libp2p speaks it: each key belongs to the peers whose ids are closest to it. A lookup
begins with the peers of --bootstrap, who name closer ones, who name closer ones still; --trace shows each of them.
Networks with another --dht-prefix know nothing of each other; --public is the network of IPFS. Where serve --dht runs on the
state folder it is what asks, on its connections and from its table, and --bootstrap is not needed.`,
		examples: []string{
			"dibber dht find-peer 12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm --bootstrap @hub --peers @peers.txt --trace",
			"dibber dht put motd 'hello' --identity me.key --bootstrap @hub --peers @peers.txt",
			"dibber dht table --bootstrap @hub --peers @peers.txt --json",
		},
		subcommands: []spec{
			newDHTFindPeer(e), newDHTClosest(e), newDHTProvide(e), newDHTFindProviders(e),
			newDHTPut(e), newDHTGet(e), newDHTWalk(e), newDHTTable(e),
		},
	}
}

// dhtVerb fills in what the verbs have in common.
func dhtVerb(o *dhtOptions, s spec, events ...event) spec {
	s.events = append(events, event{"step", route.Step{}})
	if s.lends == nil {
		s.lends = o.lends()
	}
	if s.options == nil {
		s.options = o
	}
	return s
}

// findPeerDoc is the document of dht find-peer.
type findPeerDoc struct {
	Peer  *peer.ID `json:"peer"`  // null: not known yet
	Addrs []string `json:"addrs"` // each ends with /p2p/PEER
	lookupDoc
}

func newDHTFindPeer(*env) spec {
	o := new(dhtOptions)
	var id peer.ID
	return dhtVerb(o, spec{
		name: "find-peer", usage: "find the addresses of a peer", args: "<peer id>",
		about: "A peer is found that is in the table of others, as servers are, or that is connected with one of them now.",
		examples: []string{
			"dibber dht find-peer 12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm --bootstrap /ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3KooWRawPbxPtP1eZaJpumGnyWX2DcUyd3RQnydr3eAto4Az7",
			"dibber dht find-peer 12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm --bootstrap @hub --peers @peers.txt --trace",
			"dibber dht find-peer 12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm --public --json",
		},
		flags: dhtFlags(o), doc: findPeerDoc{},
		validate: func(args []string) (err error) {
			if err := o.validate("find-peer", args, 1, "a peer id"); err != nil {
				return err
			}
			if id, err = addr.ParseID(strings.TrimPrefix(args[0], "/p2p/")); err != nil {
				return usagef("%w", err)
			}
			return nil
		},
		run: func(ctx context.Context, out *output) (any, error) {
			doc := findPeerDoc{Peer: &id, lookupDoc: o.lookupDoc()}
			return &doc, o.taking(ctx, out, func(_ *host.Node, r *route.Service) error {
				found, l, err := r.FindPeer(ctx, id, o.on(out))
				doc.looked(o, l)
				for _, a := range found.Addrs {
					doc.Addrs = append(doc.Addrs, addr.WithPeer(a, id).String())
				}
				return err
			})
		},
	})
}

// closestDoc is the document of dht closest.
type closestDoc struct {
	Key   string           `json:"key"`
	Count int              `json:"count"`
	Peers []route.PeerInfo `json:"peers"` // the closest first
	lookupDoc
}

func newDHTClosest(*env) spec {
	o := new(dhtOptions)
	var text, key string
	return dhtVerb(o, spec{
		name: "closest", usage: "find the peers closest to a peer id, a CID or the key of a record", args: "<key>",
		about: "They are those who keep what belongs to the key, as many as --dht-replication says.",
		examples: []string{
			"dibber dht closest 12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm --bootstrap @hub --peers @peers.txt",
			"dibber dht closest bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e --bootstrap @hub --peers @peers.txt --trace",
			"dibber dht closest /dibber/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm/motd --bootstrap @hub --peers @peers.txt --json",
		},
		flags: dhtFlags(o), doc: closestDoc{},
		validate: func(args []string) (err error) {
			if err := o.validate("closest", args, 1, "a key: a peer id, a CID or /dibber/AUTHOR/NAME"); err != nil {
				return err
			}
			text = args[0]
			key, err = route.ParseTarget(text)
			return usage(err)
		},
		run: func(ctx context.Context, out *output) (any, error) {
			doc := closestDoc{Key: text, lookupDoc: o.lookupDoc()}
			return &doc, o.taking(ctx, out, func(_ *host.Node, r *route.Service) error {
				peers, l, err := r.Closest(ctx, key, o.on(out))
				doc.looked(o, l)
				doc.Peers, doc.Count = peers, len(peers)
				return err
			})
		},
	})
}

// usage makes a usage error of an error; nil for nil.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return usagef("%w", err)
}

// provideDoc is the document of dht provide.
type provideDoc struct {
	CID      string   `json:"cid"`
	Provider *peer.ID `json:"provider"` // null: the host did not start
	route.Kept
	lookupDoc
}

func newDHTProvide(*env) spec {
	o := new(dhtOptions)
	var c cid.Cid
	return dhtVerb(o, spec{
		name: "provide", usage: "announce that this host has what a CID names", args: "<cid>",
		about: `The entry names the peer id of this host and the addresses that it has now; peers keep it for two days. With a fresh
identity nobody is there any more when the command has ended: name that of a node that stays by --identity, and its
addresses by --announce.`,
		examples: []string{
			"dibber dht provide bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e --bootstrap @hub --peers @peers.txt",
			"dibber dht provide bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e --identity me.key --announce /ip4/198.51.100.7/tcp/4001 --bootstrap @hub --peers @peers.txt",
			"dibber dht provide bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e --public --trace --ndjson",
		},
		flags: dhtFlags(o), doc: provideDoc{},
		validate: func(args []string) (err error) {
			if err := o.validate("provide", args, 1, "a CID"); err != nil {
				return err
			}
			c, err = route.ParseCID(args[0])
			return usage(err)
		},
		run: func(ctx context.Context, out *output) (any, error) {
			doc := provideDoc{CID: c.String(), lookupDoc: o.lookupDoc()}
			return &doc, o.taking(ctx, out, func(n *host.Node, r *route.Service) error {
				kept, l, err := r.Provide(ctx, c, o.on(out))
				doc.looked(o, l)
				doc.Provider, doc.Kept = new(n.ID()), kept
				return err
			})
		},
	})
}

// providerLine is a provider that was found.
type providerLine struct {
	Peer  peer.ID  `json:"peer"`
	Addrs []string `json:"addrs"` // each ends with /p2p/PEER; none: whoever named it knows none
}

func providerOf(p peer.AddrInfo) providerLine {
	l := providerLine{Peer: p.ID}
	for _, a := range p.Addrs {
		l.Addrs = append(l.Addrs, addr.WithPeer(a, p.ID).String())
	}
	return l
}

// findProvidersDoc is the document of dht find-providers.
type findProvidersDoc struct {
	CID       string         `json:"cid"`
	Count     int            `json:"count"`
	Providers []providerLine `json:"providers"`
	lookupDoc
}

func newDHTFindProviders(*env) spec {
	o := new(dhtOptions)
	var c cid.Cid
	limit := &cli.IntFlag{Name: "limit", Aliases: []string{"n"}, Value: 20, Usage: "end once `N` are found; 0 looks for all", Destination: &o.Count}
	return dhtVerb(o, spec{
		name: "find-providers", usage: "find who has what a CID names", args: "<cid>",
		about: "Entries are not signed: that a peer has the content shows when it is asked for it.",
		examples: []string{
			"dibber dht find-providers bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e --bootstrap @hub --peers @peers.txt",
			"dibber dht find-providers bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e --bootstrap @hub --peers @peers.txt -n 1 -q",
			"dibber dht find-providers bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e --public --trace",
		},
		flags: dhtFlags(o, limit), doc: findProvidersDoc{}, lends: o.lends("limit"),
		validate: func(args []string) (err error) {
			if err := o.validate("find-providers", args, 1, "a CID"); err != nil {
				return err
			}
			if o.Count < 0 {
				return usagef("--limit must not be negative")
			}
			c, err = route.ParseCID(args[0])
			return usage(err)
		},
		run: func(ctx context.Context, out *output) (any, error) {
			doc := findProvidersDoc{CID: c.String(), lookupDoc: o.lookupDoc()}
			return &doc, o.taking(ctx, out, func(_ *host.Node, r *route.Service) error {
				found, l, err := r.FindProviders(ctx, c, o.Count, func(p peer.AddrInfo) { out.event("provider", providerOf(p)) }, o.on(out))
				doc.looked(o, l)
				for _, p := range found {
					doc.Providers = append(doc.Providers, providerOf(p))
				}
				doc.Count = len(found)
				return err
			})
		},
	}, event{"provider", providerLine{}})
}

// tableDoc is the document of dht walk and dht table.
type tableDoc struct {
	Walks       int           `json:"walks"`        // lookups of a random key
	Met         int           `json:"met"`          // peers that answered
	NetworkSize *int          `json:"network_size"` // servers, estimated from the distances met; null: too few lookups to say
	Size        int           `json:"size"`         // of the table
	Table       []route.Entry `json:"table"`        // the farthest first
	lookupDoc                 // of the last walk
}

// walked looks for random keys and shows the table.
func (o *dhtOptions) walked(ctx context.Context, out *output) (doc tableDoc, err error) {
	doc.lookupDoc = o.lookupDoc()
	met := make(map[peer.ID]bool)
	err = o.taking(ctx, out, func(_ *host.Node, r *route.Service) error {
		var err error
		for doc.Walks < o.Count && err == nil {
			var l route.Lookup
			_, l, err = r.Walk(ctx, o.on(out))
			doc.looked(o, l)
			for _, s := range l.Steps {
				if s.Outcome == route.Answered {
					met[s.Peer] = true
				}
			}
			doc.Walks++
			if err == nil {
				out.event("walk", walkLine{N: doc.Walks, Lookup: l, Size: len(r.Table())})
			}
		}
		doc.Met = len(met)
		doc.Table, doc.NetworkSize = r.Table(), r.NetworkSize()
		doc.Size = len(doc.Table)
		return err
	})
	return doc, err
}

// walkLine is one walk that has ended.
type walkLine struct {
	N int `json:"n"`
	route.Lookup
	Size int `json:"size"` // of the table after it
}

func newDHTWalk(*env) spec {
	o := new(dhtOptions)
	n := &cli.IntFlag{Name: "count", Aliases: []string{"c"}, Value: 1, Usage: "look for `N` random keys, one after another", Destination: &o.Count}
	return dhtVerb(o, spec{
		name: "walk", usage: "look for random keys, as nodes do to fill their table",
		about: "Each walk meets other peers. The document has the table as it is after the last.",
		examples: []string{
			"dibber dht walk --bootstrap @hub --peers @peers.txt --trace",
			"dibber dht walk -c 10 --bootstrap @hub --peers @peers.txt",
			"dibber dht walk --public --ndjson",
		},
		flags: dhtFlags(o, n), doc: walkDoc{}, lends: o.lends("count"),
		validate: func(args []string) error {
			if o.Count < 1 {
				return usagef("--count must be at least 1")
			}
			return o.validate("walk", args, 0, "")
		},
		run: func(ctx context.Context, out *output) (any, error) {
			doc, err := o.walked(ctx, out)
			return (*walkDoc)(&doc), err
		},
	}, event{"walk", walkLine{}})
}

// walkDoc is a table of which a person is told in short.
type walkDoc tableDoc

func newDHTTable(*env) spec {
	o := new(dhtOptions)
	n := &cli.IntFlag{Name: "walks", Value: 3, Usage: "look for `N` random keys before", Destination: &o.Count}
	return dhtVerb(o, spec{
		name: "table", usage: "show the routing table of a running node, or of a host that has just joined",
		about: `The table has room for --dht-replication peers of each distance from the host. It is that of serve --dht where that
runs on the state folder, and else, or with --own-host, of a host that joins for it.`,
		examples: []string{
			"dibber dht table --bootstrap @hub --peers @peers.txt",
			"dibber dht table --walks 10 --bootstrap @hub --peers @peers.txt --json",
			"dibber dht table --public --walks 1",
		},
		flags: dhtFlags(o, n), doc: tableDoc{}, lends: o.lends("walks"),
		validate: func(args []string) error {
			if o.Count < 0 {
				return usagef("--walks must not be negative")
			}
			return o.validate("table", args, 0, "")
		},
		run: func(ctx context.Context, out *output) (any, error) {
			doc, err := o.walked(ctx, out)
			return &doc, err
		},
	}, event{"walk", walkLine{}})
}

// addrsOf are the addresses of peers, each on a line.
func addrsOf(list []route.PeerInfo) string {
	var out []string
	for _, p := range list {
		out = append(out, p.Addrs...)
	}
	return strings.Join(slices.Compact(out), "\n")
}
