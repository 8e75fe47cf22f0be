package commands

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/dial"
	"dibber/netkit/host"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/urfave/cli/v2"
)

// idOptions are the flags and arguments of id.
type idOptions struct {
	Host         hostOptions
	Sources      sourceOptions
	Target       []string
	AllowUnknown bool
}

// idDoc is the document of id.
type idDoc struct {
	Peer         *peer.ID       `json:"peer"` // null: not known
	IDs          addr.Encodings `json:"ids"`
	IDRevealsKey bool           `json:"id_reveals_key"`
	Own          bool           `json:"own"`      // true: this host itself, nobody was asked
	Identify     *dial.Identify `json:"identify"` // null: the peer could not be asked
	Path         *string        `json:"path"`     // null: not connected
	Addr         *string        `json:"addr"`     // where it was asked; null: not connected
}

func newID(*env) spec {
	var o idOptions
	return spec{
		name: "id", usage: "show what a peer says about itself, or what this host would say", args: "[target]",
		about: `Without a target nobody is contacted: the host that the flags describe is started, shown and stopped. Its
identity is the one that serve keeps in the state folder, made if missing.`,
		examples: []string{
			"dibber id",
			"dibber id /ip4/127.0.0.1/tcp/4001/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm",
			"dibber id /ip4/127.0.0.1/tcp/4001 --allow-unknown-peer -q",
		},
		flags: slices.Concat([]cli.Flag{
			&cli.BoolFlag{Name: "allow-unknown-peer", Usage: "accept an address without a peer id: ask who is there first", Destination: &o.AllowUnknown},
		}, sourceFlags(&o.Sources), hostFlags(&o.Host)),
		options: &o, timeout: 30 * time.Second, doc: idDoc{}, events: reachEvents(),
		validate: func(args []string) error {
			o.Target = args
			if len(args) == 0 {
				return o.Host.validate()
			}
			if err := o.Sources.validate(); err != nil {
				return err
			}
			return o.Host.needTargets("id", args, addr.Options{AllowUnknownPeer: o.AllowUnknown})
		},
		run: func(ctx context.Context, out *output) (any, error) { return runID(ctx, out, o) },
	}
}

func runID(ctx context.Context, out *output, o idOptions) (any, error) {
	if len(o.Target) == 0 {
		return ownID(ctx, out, o)
	}
	targets, err := o.Host.oneTarget(out, "id", o.Target, addr.Options{AllowUnknownPeer: o.AllowUnknown})
	if err != nil {
		return nil, err
	}
	find, err := o.Sources.finder(out, &o.Host, targets)
	if err != nil {
		return nil, err
	}
	n, err := o.Host.open(ctx, out, hostDefaults{})
	if err != nil {
		return nil, err
	}
	defer n.Close()
	r, err := dialTarget(ctx, out, n, find, targets[0], dialOptions{})
	doc := idDoc{Peer: r.Peer, Identify: r.Identify, Path: r.Path, Addr: r.Addr}
	if err != nil {
		return doc, err
	}
	if doc.Identify == nil {
		err = &failure{Exit: exitProtocol, Code: "no_identify", Phase: "identify", Err: fmt.Errorf("peer %s does not answer identify", *r.Peer)}
	}
	return doc.withIDs(), err
}

// ownID describes the host of these flags.
func ownID(ctx context.Context, out *output, o idOptions) (any, error) {
	n, err := o.Host.open(ctx, out, hostDefaults{identity: identityFile})
	if err != nil {
		return nil, err
	}
	defer n.Close()
	return idDoc{Peer: new(n.ID()), Own: true, Identify: ownIdentify(n)}.withIDs(), nil
}

// ownIdentify is what identify would tell others about n.
func ownIdentify(n *host.Node) *dial.Identify {
	id := &dial.Identify{
		Agent: Agent(), ProtocolVersion: host.ProtocolVersion, SignedRecord: true,
		Protocols: protocol.ConvertToStrings(n.Mux().Protocols()),
	}
	addrs := n.Addrs()
	addr.Sort(addrs)
	for _, a := range addrs {
		id.ListenAddrs = append(id.ListenAddrs, a.String())
	}
	key := n.Peerstore().PubKey(n.ID())
	kind := addr.KeyType(n.ID())
	if kind != "" {
		id.KeyType = &kind
	}
	if raw, err := crypto.MarshalPublicKey(key); err == nil {
		b64 := base64.StdEncoding.EncodeToString(raw)
		id.PublicKey = &b64
	}
	return id
}

// withIDs adds what the peer id itself tells.
func (d idDoc) withIDs() idDoc {
	if ids, err := addr.EncodingsOf(*d.Peer); err == nil {
		d.IDs = ids
	}
	_, d.IDRevealsKey = addr.PublicKey(*d.Peer)
	return d
}

func (d idDoc) quiet() string { return d.IDs.Base58 }

func (d idDoc) renderText(t *text) {
	if d.IDs.Base58 == "" {
		return
	}
	t.field("peer id", "%s", d.IDs.Base58)
	t.field("", "%s", d.IDs.CIDBase32)
	t.field("", "%s", d.IDs.CIDBase36)
	if d.Addr != nil {
		t.field("asked", "%s via %s", *d.Path, *d.Addr)
	}
	if d.Identify == nil {
		return
	}
	renderIdentify(t, *d.Identify)
	for i, a := range d.Identify.ListenAddrs {
		t.field(labelOnce(i, "listens on"), "%s", a)
	}
	for i, p := range d.Identify.Protocols {
		t.field(labelOnce(i, "speaks"), "%s", p)
	}
}

// labelOnce labels the first line of a list.
func labelOnce(i int, label string) string {
	if i > 0 {
		return ""
	}
	return label
}
