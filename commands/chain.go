package commands

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"dibber/netkit/addr"
	"dibber/netkit/chain"
	"dibber/netkit/gossip"
	"dibber/netkit/host"
	"dibber/netkit/pchain"
	"dibber/netkit/route"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/urfave/cli/v2"
)

// chainOptions say in which network of a ParallelChain a command takes part; without a profile, in none.
type chainOptions struct {
	Profile  string
	Boots    []string
	Kademlia string
	Hub      int // of serve
}

const groupChain = "ParallelChain"

// chainFlags declares them.
func chainFlags(o *chainOptions) []cli.Flag {
	var names []string
	for _, p := range pchain.Profiles() {
		names = append(names, p.Name)
	}
	return []cli.Flag{
		choiceFlag(groupChain, "profile", "speak as the peers of a ParallelChain do that run `VERSION`: "+strings.Join(names, ", "), &o.Profile, names...),
		listFlag(groupChain, "boot", "begin with the peer of `ADDRESS@HOST:PORT`, and dial it again whenever it is lost (repeatable)", &o.Boots),
		&cli.StringFlag{Category: groupChain, Name: "kademlia", Usage: "the hash table speaks `PROTOCOL`; empty means " + string(pchain.Kademlia), Destination: &o.Kademlia},
	}
}

func (o *chainOptions) on() bool { return o.Profile != "" }

// profile is the one that was chosen.
func (o *chainOptions) profile() pchain.Profile {
	p, _ := pchain.ProfileOf(o.Profile)
	return p
}

// allowedWith are flags of hosts that a profile does not exclude, besides its own.
func allowedWith() []string {
	return []string{
		"profile", "boot", "kademlia", "peer", "peers", "listen", "identity", "announce", "allow-peer", "deny-peer", "allow-cidr", "deny-cidr",
		"transport", "muxer", "ip4", "ip6", "state-dir",
	}
}

// validate finds what makes no sense with a profile, and what makes none without. Of flags, those that are not among allowed, nor
// with any profile, were not to be given.
func (o *chainOptions) validate(e *env, flags []cli.Flag, allowed ...string) error {
	if !o.on() {
		for _, name := range []string{"boot", "kademlia"} {
			if e.named(name) {
				return usagef("--%s needs --profile", name)
			}
		}
		return nil
	}
	if o.Kademlia != "" && !strings.HasPrefix(o.Kademlia, "/") {
		return usagef("--kademlia: %q is no protocol, which begins with /", o.Kademlia)
	}
	for _, text := range o.Boots {
		if _, err := pchain.ParseBoot(text); err != nil {
			return usagef("--boot: %w", err)
		}
	}
	for _, f := range flags {
		name := f.Names()[0]
		if e.named(name) && !slices.Contains(allowedWith(), name) && !slices.Contains(allowed, name) {
			return usagef("--profile excludes --%s", name)
		}
	}
	return nil
}

// hostConfig is that of a peer of the network.
func (o *chainOptions) hostConfig(out *output, h *hostOptions, def hostDefaults) (host.Config, error) {
	if out.e.named("transport") && !slices.Equal(h.Transports, []string{string(host.TCP)}) {
		return host.Config{}, usagef("--profile speaks TCP alone, not --transport %s", strings.Join(h.Transports, ","))
	}
	cfg, err := h.config(out, def)
	if err != nil {
		return cfg, err
	}
	cfg = chain.HostConfig(cfg, protocol.ID(o.Kademlia))
	if cfg.Listen == nil && cfg.Family == host.BothFamilies { // others speak IPv4 alone
		all, err := ma.NewMultiaddr(fmt.Sprintf("/ip4/0.0.0.0/tcp/%d", def.port))
		if err != nil {
			return cfg, err
		}
		cfg.Listen = []ma.Multiaddr{all}
	}
	return cfg, nil
}

// config is that of a node; peers are further ones to begin with.
func (o *chainOptions) config(out *output, h *hostOptions, own peer.ID, peers []string) (cfg chain.Config, err error) {
	cfg = chain.Config{Profile: o.profile(), Kademlia: protocol.ID(o.Kademlia)}
	if cfg.Boot, err = h.infos(out, own, "--peer", peers); err != nil {
		return cfg, err
	}
	for _, text := range o.Boots {
		b, err := pchain.ParseBoot(text)
		if err != nil {
			return cfg, usagef("--boot: %w", err)
		}
		info, err := b.AddrInfo()
		if err != nil {
			return cfg, usagef("--boot: %w", err)
		}
		if info.ID == own {
			return cfg, usagef("--boot %s: that is this node itself", text)
		}
		cfg.Boot = append(cfg.Boot, info)
	}
	return cfg, nil
}

// checkTopic refuses a topic whose messages are handed to nobody.
func (o *chainOptions) checkTopic(topic string) error {
	p := o.profile()
	if _, mailbox := p.Owner(topic); p.AnyTopic || mailbox || slices.Contains(p.Topics(), topic) {
		return nil
	}
	return usagef("topic %q: peers of %s know %s and mailboxes", topic, p.Name, strings.Join(p.Topics(), ", "))
}

// bootOf is the address of a node, and how others on this machine, or elsewhere, begin with it; nil where it does not listen.
func bootOf(n *host.Node) (*pchain.Address, *string) {
	own, err := pchain.AddressOf(n.ID())
	if err != nil {
		return nil, nil
	}
	listens := slices.Concat(n.Announced(), n.ListenAddrs())
	slices.SortStableFunc(listens, func(a, b ma.Multiaddr) int { // what a second terminal of this machine can surely dial
		return rankLoopback(a) - rankLoopback(b)
	})
	for _, a := range listens {
		if at, ok := addr.TCP(a); ok {
			return &own, new(pchain.Boot{Address: own, Host: at.Addr().String(), Port: at.Port()}.String())
		}
	}
	return &own, nil
}

func rankLoopback(a ma.Multiaddr) int {
	if addr.ScopeOf(a) == addr.ScopeLoopback {
		return 0
	}
	return 1
}

// chainLine is a message that came from the network of a ParallelChain.
type chainLine struct {
	Address   pchain.Address  `json:"address"` // of its author
	From      string          `json:"from"`    // the author's peer id
	Topic     string          `json:"topic"`
	To        *pchain.Address `json:"to"`  // whose mailbox it came to; null: a broadcast
	Seq       *uint64         `json:"seq"` // counted by its author; null: the node wrote to itself
	Data      string          `json:"data_b64"`
	Via       string          `json:"via"`       // the neighbour that delivered it first
	Neighbour bool            `json:"neighbour"` // the author is connected; peers of 0.4 take no other's
	Decoded   pchain.Payload  `json:"decoded"`
	// SignatureOK is whether a transaction is what its signer signed; null for other messages.
	SignatureOK *bool   `json:"signature_ok"`
	ReceivedMS  float64 `json:"received_ms"` // since the program started

	data   []byte
	output string // what --output asks for; empty: text
}

func chainLineOf(out *output, d chain.Delivery) chainLine {
	l := chainLine{
		Address: d.Origin, From: d.Origin.Peer().String(), Topic: d.Topic, To: d.To, Seq: d.Seq, Data: base64.StdEncoding.EncodeToString(d.Data), Via: d.Via.String(),
		Neighbour: d.Neighbour, Decoded: d.Payload, ReceivedMS: millis(d.At.Sub(out.e.start)), data: d.Data,
	}
	if tx := d.Payload.Transaction; tx != nil {
		l.SignatureOK = new(tx.Verify(d.Payload.TxVersion) == nil)
	}
	return l
}

// line is the message for a person.
func (l chainLine) line() string {
	if l.output == outputB64 {
		return l.Data
	}
	place := plainText(l.Topic)
	if l.To != nil {
		place = "mailbox"
	}
	content := payloadText(l.data)
	if l.Decoded.Kind != pchain.KindOpaque {
		text, err := json.Marshal(l.Decoded.Content())
		if err != nil {
			text = []byte(err.Error())
		}
		content = string(text)
	}
	if l.SignatureOK != nil && !*l.SignatureOK {
		content = "signature wrong  " + content
	}
	return fmt.Sprintf("%s  %s  %s  %s", place, l.Address, l.Decoded.Kind, content)
}

// neighbourLine is a peer of the network that came, went, or cannot be reached, or a message that was refused.
type neighbourLine struct {
	Peer    peer.ID         `json:"peer"`
	Address *pchain.Address `json:"address"` // null: its key is no address
	Topic   *string         `json:"topic"`   // of the message that was refused; else null
	Error   *string         `json:"error"`

	kind chain.EventKind
}

// chainEvents are those of a node of the network, that hears messages or does not.
func chainEvents(hears bool) (list []event) {
	if hears {
		list = append(list, event{"chain.message", chainLine{}})
	}
	for _, kind := range []chain.EventKind{chain.Met, chain.Lost, chain.Failed, chain.Refused} {
		list = append(list, event{"chain." + string(kind), neighbourLine{}})
	}
	return list
}

// tellChain turns what happened into an event; show tells a person of peers, too.
func tellChain(out *output, e chain.Event, show bool) {
	l := neighbourLine{Peer: e.Peer, Topic: known(e.Topic), Error: errorText(e.Err), kind: e.Kind}
	if e.Address != (pchain.Address{}) {
		l.Address = &e.Address
	}
	switch e.Kind {
	case chain.Routed:
		tellRoute(out, *e.Route)
	case chain.Topics:
		tellGossip(out, *e.Gossip)
	case chain.Refused:
		out.emit("chain.refused", l, false) // there may be many
	default:
		out.emit("chain."+string(e.Kind), l, show)
	}
}

func (l neighbourLine) line() string {
	who := l.Peer.String()
	if l.Address != nil {
		who = l.Address.String()
	}
	if l.Error != nil {
		return fmt.Sprintf("chain %s  %s: %s", l.kind, who, *l.Error)
	}
	return fmt.Sprintf("chain %s  %s", l.kind, who)
}

// chainFailure gives the errors of the network of a ParallelChain their class.
func chainFailure(err error) (failure, bool) {
	switch {
	case errors.Is(err, chain.ErrNotEd25519):
		return failure{Exit: exitUsage, Hint: "make another key: dibber key new -o FILE"}, true
	case errors.Is(err, chain.ErrNotReached) && errors.Is(err, route.ErrNotFound):
		return failure{Exit: exitNotFound, Phase: "send", Retryable: true, Hint: "name where it is: dibber pubsub send ADDRESS@HOST:PORT"}, true
	case errors.Is(err, chain.ErrNotReached):
		return failure{Exit: exitUnreachable, Phase: "send", Retryable: true, Hint: "name where it is: dibber pubsub send ADDRESS@HOST:PORT"}, true
	case errors.Is(err, chain.ErrNoMailbox):
		return failure{
			Exit: exitProtocol, Code: "no_mailbox", Phase: "send", Retryable: true,
			Hint: "it is no peer of this network, or of another version: see dibber dial, and --profile",
		}, true
	case errors.Is(err, pchain.ErrTooLong):
		return failure{Exit: exitRefused, Code: "oversize", Phase: "pubsub"}, true
	case errors.Is(err, pchain.ErrStatus):
		return failure{Exit: exitRefused, Code: "invalid", Phase: "pubsub", Hint: "peers of 0.5 crash on it: 1301, 1302 and 1303 are known"}, true
	case errors.Is(err, pchain.ErrMalformed):
		return failure{Exit: exitRefused, Code: "invalid", Phase: "pubsub", Hint: "the message is to be what its topic says, encoded as borsh: see --file and --b64"}, true
	case errors.Is(err, pchain.ErrTopic), errors.Is(err, gossip.ErrBadTopic):
		return failure{Exit: exitUsage}, true
	}
	return failure{}, false
}
