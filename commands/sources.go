package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"dibber/netkit/addr"
	"dibber/netkit/discover"
	"dibber/netkit/gossip"
	"dibber/netkit/host"
	"dibber/netkit/mdns"
	"dibber/netkit/rendezvous"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/urfave/cli/v2"
)

// sourceOptions say where peers are looked up.
type sourceOptions struct {
	Rendezvous []string // targets
	Namespace  string   // empty means all
	MDNS       bool
	Interfaces []string // of mDNS; none means all
	DHT        bool
	Network    networkOptions // of DHT
}

// sourceFlags declares the flags of every command that looks peers up.
func sourceFlags(o *sourceOptions) []cli.Flag {
	return append([]cli.Flag{
		listFlag(groupSources, "rendezvous", "look peers up at this rendezvous `SERVER`, an address or @name (repeatable)", &o.Rendezvous),
		&cli.StringFlag{Category: groupSources, Name: "namespace", Usage: "look in the namespace `NS` of the servers, not in all", Destination: &o.Namespace},
		&cli.BoolFlag{Category: groupSources, Name: "mdns", Usage: "look peers up on the local network, announcing nothing", Destination: &o.MDNS},
		listFlag(groupSources, "mdns-interface", "use mDNS on the network of `INTERFACE` only (repeatable)", &o.Interfaces),
		&cli.BoolFlag{Category: groupSources, Name: "dht", Usage: "look peers up in the network of a distributed hash table, which --bootstrap or --public begins", Destination: &o.DHT},
	}, networkFlags(&o.Network)...)
}

// validate finds the usage errors that need no file.
func (o *sourceOptions) validate() error {
	if slices.Contains(o.Rendezvous, "-") {
		return usagef("--rendezvous: standard input cannot name servers")
	}
	if len(o.Namespace) > 255 {
		return usagef("--namespace: %d bytes are more than 255", len(o.Namespace))
	}
	if o.DHT && !o.Network.knows() {
		return usagef("--dht needs --bootstrap, or --public for the network of IPFS")
	}
	return o.Network.validate()
}

// config turns the options into the sources of a search, reading the files they name.
func (o *sourceOptions) config(out *output, h *hostOptions) (discover.Config, error) {
	cfg := discover.Config{Namespace: o.Namespace}
	if _, err := h.invitation(); err != nil {
		return cfg, err
	}
	if o.MDNS {
		interfaces, err := h.mdnsInterfaces(true, o.Interfaces)
		if err != nil {
			return cfg, err
		}
		cfg.MDNS = &mdns.Config{Interfaces: interfaces}
	}
	if o.DHT {
		network, err := o.Network.config(out, h, "")
		if err != nil {
			return cfg, err
		}
		cfg.DHT = &network
	}
	if len(o.Rendezvous) == 0 {
		return cfg, nil
	}
	servers, err := h.targets(out, o.Rendezvous, addr.Options{})
	if err != nil {
		return cfg, fmt.Errorf("--rendezvous: %w", err)
	}
	for _, t := range servers {
		if len(t.Addrs) == 0 {
			return cfg, usagef("--rendezvous: %s has no address", t.ID)
		}
		cfg.Servers = append(cfg.Servers, t.AddrInfo())
	}
	return cfg, nil
}

// finder looks up the addresses of a peer.
type finder func(context.Context, *host.Node, peer.ID) ([]ma.Multiaddr, error)

// finder returns what finds the targets that are bare peer ids, or a usage error if there are such and nowhere to look. Nothing is
// asked before.
func (o *sourceOptions) finder(out *output, h *hostOptions, targets []addr.Target) (finder, error) {
	cfg, err := o.config(out, h)
	if err != nil {
		return nil, err
	}
	if h.NoDiscovery {
		cfg = discover.Config{}
	}
	for _, t := range targets {
		if len(t.Addrs) == 0 && len(cfg.Servers) == 0 && cfg.MDNS == nil && cfg.DHT == nil {
			return nil, &failure{
				Exit: exitUsage, Err: fmt.Errorf("no source can resolve the peer id %s", t.ID),
				Hint: "give --rendezvous, --mdns or --dht, or an address that ends with /p2p/" + t.ID.String(),
			}
		}
	}
	return func(ctx context.Context, n *host.Node, id peer.ID) ([]ma.Multiaddr, error) {
		out.status("looking up %s", id)
		return discover.Resolve(ctx, n, id, cfg)
	}, nil
}

// complete looks up the addresses of a target that has none.
func (f finder) complete(ctx context.Context, n *host.Node, t *addr.Target) (err error) {
	if len(t.Addrs) == 0 {
		t.Addrs, err = f(ctx, n, t.ID)
	}
	return err
}

// discoverFailure gives the errors of looking for peers their class.
func discoverFailure(err error) (failure, bool) {
	var few *discover.TooFewError
	var part *discover.PartialError
	var source *discover.SourceError
	switch {
	case errors.As(err, &few):
		return failure{Exit: exitNotFound, Code: "too_few", Phase: "discover", Retryable: true}, true
	case errors.Is(err, discover.ErrNotFound):
		return failure{Exit: exitNotFound, Phase: "discover", Retryable: true, Hint: "is it registered in that namespace, and still running?"}, true
	case errors.As(err, &part):
		return failure{Exit: exitPartial, Phase: "discover", Retryable: true}, true
	case errors.As(err, &source):
		return sourceFailure(source), true
	}
	return failure{}, false
}

// sourceFailure gives the error of one source its class.
func sourceFailure(e *discover.SourceError) failure {
	f := failure{Exit: exitUnreachable, Phase: e.Source, Addr: e.Server, Retryable: true}
	if routed, ok := routeFailure(e.Err); ok {
		return routed
	}
	var refused *rendezvous.StatusError
	var mismatch sec.ErrPeerIDMismatch
	switch {
	case e.Source == discover.SourceMDNS:
		f.Exit, f.Code = exitInternal, "mdns"
	case e.Source == discover.SourceDNSAddr:
		f.Code, f.Hint = "name_unresolved", "the name has no dnsaddr records; check its spelling"
	case errors.Is(e.Err, gossip.ErrPrivate):
		f.Exit, f.Retryable, f.Hint = exitRefused, false, "it would tell with --peer-exchange"
	case errors.As(e.Err, &refused):
		f.Exit, f.Hint = exitRefused, "the server's lists, limits or rate do not allow it"
	case errors.Is(e.Err, rendezvous.ErrUnsupported):
		f.Exit, f.Code, f.Retryable, f.Hint = exitProtocol, "no_rendezvous", false, "the peer is no rendezvous server"
	case errors.Is(e.Err, rendezvous.ErrMalformedReply):
		f.Exit, f.Code = exitProtocol, "malformed_reply"
	case errors.As(e.Err, &mismatch):
		f.Exit, f.Code, f.Retryable = exitIdentity, "id_mismatch", false
		f.Hint = "another peer answers there: ask for its current address, or for its new peer id"
	default:
		f.Hint = "see why: dibber dial " + e.Server
	}
	return f
}
