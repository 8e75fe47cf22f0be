package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"dibber/netkit/addr"
	"dibber/netkit/blocks"
	"dibber/netkit/dial"
	"dibber/netkit/discover"
	"dibber/netkit/host"
	"dibber/netkit/route"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
)

// fromOptions say from whom blocks are had.
type fromOptions struct {
	Peers       []string // targets
	Trace       bool
	UntilDirect bool
}

// blockPeers are the peers that blocks are had from, and the host that reaches them.
type blockPeers struct {
	fromOptions
	Host    *hostOptions
	Sources *sourceOptions
}

func blockPeerFlags(o *fromOptions, s *sourceOptions, h *hostOptions) []cli.Flag {
	return slices.Concat([]cli.Flag{
		listFlag("", "peer", "ask this `PEER` (repeatable)", &o.Peers),
		&cli.BoolFlag{Name: "trace", Usage: "print every entry of every message: WANT_HAVE, WANT_BLOCK, CANCEL, HAVE, DONT_HAVE and BLOCK", Destination: &o.Trace},
		&cli.BoolFlag{Name: "until-direct", Usage: "wait for a direct path to each peer, or exit 7 at --timeout", Destination: &o.UntilDirect},
	}, sourceFlags(s), hostFlags(h))
}

func (o *blockPeers) validate() error {
	if slices.Contains(o.Peers, "-") {
		return usagef("--peer: standard input cannot name peers")
	}
	if err := o.Sources.validate(); err != nil {
		return err
	}
	if len(o.Peers) == 0 {
		return o.Host.validate()
	}
	return o.Host.needTargets("--peer", o.Peers, addr.Options{})
}

// named reports whether there is anybody to ask.
func (o *blockPeers) named() bool {
	return len(o.Peers) > 0 || len(o.Sources.Rendezvous) > 0 || o.Sources.MDNS || o.Sources.DHT
}

// blockMessage is one entry of a message of Bitswap.
type blockMessage struct {
	Peer peer.ID     `json:"peer"`
	Dir  string      `json:"dir"` // sent or received
	Kind blocks.Kind `json:"kind"`
	CID  string      `json:"cid"`
	// Bytes is the size of a BLOCK; null for the others.
	Bytes *int `json:"bytes"`
}

func (m blockMessage) line() string {
	arrow, size := "<-", ""
	if m.Dir == "sent" {
		arrow = "->"
	}
	if m.Bytes != nil {
		size = "  " + sizeText(uint64(*m.Bytes))
	}
	return fmt.Sprintf("%s %s  %-10s  %s%s", arrow, m.Peer, m.Kind, m.CID, size)
}

// kindCounts counts entries of messages by their kinds.
type kindCounts struct {
	WantHave  int `json:"want_have"`
	WantBlock int `json:"want_block"`
	Cancel    int `json:"cancel"`
	Have      int `json:"have"`
	DontHave  int `json:"dont_have"`
	Block     int `json:"block"`
}

func (k *kindCounts) add(kind blocks.Kind) {
	*map[blocks.Kind]*int{
		blocks.WantHave: &k.WantHave, blocks.WantBlock: &k.WantBlock, blocks.Cancel: &k.Cancel,
		blocks.Have: &k.Have, blocks.DontHave: &k.DontHave, blocks.Block: &k.Block,
	}[kind]++
}

// blockPeer is what was exchanged with a peer.
type blockPeer struct {
	Peer     peer.ID    `json:"peer"`
	Path     *string    `json:"path"` // direct, relayed or punched; null: not connected
	Addr     *string    `json:"addr"`
	Error    *string    `json:"error"` // why it was not reached
	Bytes    int64      `json:"bytes"` // of blocks received
	Sent     kindCounts `json:"sent"`
	Received kindCounts `json:"received"`
}

// exchange is an open host with peers to get blocks from.
type exchange struct {
	o     *blockPeers
	out   *output
	n     *host.Node
	s     *blocks.Service
	stop  closers
	trace bool
	// reached are the peers that were asked for and are connected; a relay on the way is none.
	reached []peer.ID

	mu    sync.Mutex // guards following
	peers []*blockPeer
}

// lends says that the command can run on a node that serves blocks. What it looks up by other sources, and files that it writes, need
// a host of its own.
func (o *blockPeers) lends(own ...string) *lends {
	l := o.Host.lends(append(own, "peer", "trace", "until-direct")...)
	l.fits = func(l *lending) error {
		if l.blocks == nil {
			return errNoRole
		}
		return nil
	}
	return l
}

// open starts the host and the exchange, or takes those of the node that is lent, and connects with the peers. The exchange is to be
// closed, also after an error.
func (o *blockPeers) open(ctx context.Context, out *output, k *keeper, c cid.Cid) (x *exchange, err error) {
	x = &exchange{o: o, out: out, trace: o.Trace}
	targets, err := o.targets(out)
	if err != nil {
		return x, err
	}
	find, err := o.Sources.finder(out, o.Host, targets)
	if err != nil {
		return x, err
	}
	if err := x.start(ctx, k); err != nil {
		return x, err
	}
	if len(targets) == 0 {
		if targets, err = o.found(ctx, out, x.n, c); err != nil {
			return x, err
		}
		if len(targets) == 0 {
			return x, blocks.ErrNoPeers
		}
	}
	return x, x.connect(ctx, find, targets)
}

func (x *exchange) start(ctx context.Context, k *keeper) (err error) {
	if x.n, err = x.o.Host.open(ctx, x.out, hostDefaults{}); err != nil {
		return err
	}
	x.stop.add(x.o.Host.used(x.out, x.n))
	if l := x.out.e.lent; l != nil {
		x.s = l.blocks
		stop := x.s.Watch(x.note)
		x.stop.add(func() error { stop(); return nil })
		return nil
	}
	if x.s, err = blocks.New(x.n, k, blocks.Config{On: x.note}); err == nil {
		x.stop.add(x.s.Close)
	}
	return err
}

func (o *blockPeers) targets(out *output) ([]addr.Target, error) {
	if len(o.Peers) == 0 {
		return nil, nil
	}
	return o.Host.targets(out, o.Peers, addr.Options{})
}

// maxFound is how many peers of those that sources name are asked.
const maxFound = 16

// found looks for peers: those who have a block, in the network of the hash table, and all whom the other sources name.
func (o *blockPeers) found(ctx context.Context, out *output, n *host.Node, c cid.Cid) (list []addr.Target, err error) {
	cfg, err := o.Sources.config(out, o.Host)
	if err != nil {
		return nil, err
	}
	out.status("looking for peers")
	if cfg.DHT != nil {
		if list, err = providers(ctx, n, *cfg.DHT, c); err != nil && (len(cfg.Servers) == 0 && cfg.MDNS == nil || ctx.Err() != nil) {
			return nil, err
		}
		if cfg.DHT = nil; len(cfg.Servers) == 0 && cfg.MDNS == nil {
			return list, nil
		}
	}
	r, err := discover.Do(ctx, n, cfg)
	if err != nil && len(r.Peers) == 0 {
		return nil, err
	}
	for _, p := range r.Peers {
		if p.ID == n.ID() || len(list) == maxFound {
			continue
		}
		t := addr.Target{ID: p.ID}
		for _, a := range p.Addrs {
			one, err := addr.ParseTarget(a, addr.Options{})
			if err != nil {
				return nil, err
			}
			t.Addrs = append(t.Addrs, one.Addrs...)
		}
		list = append(list, t)
	}
	return list, nil
}

// providers are those who have a block, as the network of the hash table knows.
func providers(ctx context.Context, n *host.Node, cfg route.Config, c cid.Cid) (list []addr.Target, err error) {
	r, err := route.New(n, cfg)
	if err != nil {
		return nil, err
	}
	defer closing(&err, r.Close)
	if err := r.Join(ctx); err != nil {
		return nil, err
	}
	found, _, err := r.FindProviders(ctx, c, maxFound, nil, nil)
	if errors.Is(err, route.ErrNotFound) {
		return nil, fmt.Errorf("%w: the hash table knows nobody who has %s", blocks.ErrNoPeers, c)
	}
	for _, p := range found {
		if p.ID == n.ID() {
			continue
		}
		if len(p.Addrs) == 0 { // its entry is older than what the network knows of its addresses
			if at, _, err := r.FindPeer(ctx, p.ID, nil); err == nil {
				p.Addrs = at.Addrs
			}
		}
		list = append(list, addr.Target{ID: p.ID, Addrs: p.Addrs})
	}
	return list, err
}

// connect dials the peers, all at once. It fails where none was reached; of others it warns.
func (x *exchange) connect(ctx context.Context, find finder, targets []addr.Target) error {
	x.out.status("connecting with %d peers", len(targets))
	errs := make([]error, len(targets))
	var all sync.WaitGroup
	for i, t := range targets {
		p := x.of(t.ID)
		all.Go(func() {
			errs[i] = find.complete(ctx, x.n, &t)
			if errs[i] != nil {
				return
			}
			r, err := dial.Do(ctx, x.n, t.ID, t.Addrs, dial.Config{UntilDirect: x.o.UntilDirect, On: func(e dial.Event) { tellDial(x.out, t, e, false) }})
			errs[i] = err
			x.mu.Lock()
			defer x.mu.Unlock()
			p.Path, p.Addr, p.Error = r.Path, r.Addr, errorText(err)
		})
	}
	all.Wait()
	for i, t := range targets {
		if errs[i] == nil { // one that dies is to be noticed before QUIC gives it up
			stop := x.n.KeepAlive(t.ID)
			x.stop.add(func() error { stop(); return nil })
			x.reached = append(x.reached, t.ID)
		}
	}
	var failed []error
	for i, err := range errs {
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", targets[i].ID, err))
		}
	}
	if len(failed) == len(targets) {
		return errors.Join(failed...)
	}
	for _, err := range failed {
		x.out.warn("%s", oneLine(err.Error()))
	}
	return nil
}

// of returns what is known of a peer.
func (x *exchange) of(id peer.ID) *blockPeer {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.find(id)
}

func (x *exchange) find(id peer.ID) *blockPeer {
	for _, p := range x.peers {
		if p.Peer == id {
			return p
		}
	}
	p := &blockPeer{Peer: id}
	x.peers = append(x.peers, p)
	return p
}

// note counts an entry of a message, and shows it. Of a node that is lent, only what was exchanged with the peers that were named counts.
func (x *exchange) note(m blocks.Message) {
	x.mu.Lock()
	if x.out.e.lent != nil && !slices.ContainsFunc(x.peers, func(p *blockPeer) bool { return p.Peer == m.Peer }) {
		x.mu.Unlock()
		return
	}
	p := x.find(m.Peer)
	line := blockMessage{Peer: m.Peer, Dir: "received", Kind: m.Kind, CID: m.CID.String()}
	counts := &p.Received
	if m.Sent {
		line.Dir, counts = "sent", &p.Sent
	}
	counts.add(m.Kind)
	if m.Kind == blocks.Block {
		line.Bytes = &m.Bytes
		if !m.Sent {
			p.Bytes += int64(m.Bytes)
		}
	}
	x.mu.Unlock()
	if x.trace {
		x.out.event("message", line)
	}
}

// list is what was exchanged with each peer so far.
func (x *exchange) list() []blockPeer {
	out := []blockPeer{}
	if x == nil {
		return out
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, p := range x.peers {
		out = append(out, *p)
	}
	return out
}

// close ends the exchange.
func (x *exchange) close() error { return x.stop.close() }
