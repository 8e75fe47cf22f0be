package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"dibber/netkit/addr"
	"dibber/netkit/chain"
	"dibber/netkit/host"
	"dibber/netkit/pchain"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/urfave/cli/v2"
)

// validateWith is validate for the commands of pubsub: allowed are the flags that mean something with a profile.
func (o *chainOptions) validateWith(e *env, flags []cli.Flag, h *hostOptions, allowed ...string) error {
	if o.on() && h.NoDiscovery {
		return usagef("--profile excludes --no-discovery: peers of the network tell each other of others")
	}
	return errors.Join(o.validate(e, flags, allowed...), h.validate())
}

// open starts a host and a node of the network on it, which end with the returned closers.
func (o *chainOptions) open(out *output, h *hostOptions, peers []string, change func(*chain.Config)) (n *host.Node, s *chain.Service, ends closers, err error) {
	cfg, err := o.hostConfig(out, h, hostDefaults{})
	if err != nil {
		return nil, nil, nil, err
	}
	if n, err = host.New(cfg); err != nil {
		return nil, nil, nil, err
	}
	ends.add(n.Close)
	part, err := o.config(out, h, n.ID(), peers)
	if err != nil {
		return nil, nil, nil, errors.Join(err, ends.close())
	}
	part.Client = true
	part.On = func(e chain.Event) { tellChain(out, e, false) }
	change(&part)
	if s, err = chain.New(n, part); err != nil {
		return nil, nil, nil, errors.Join(err, ends.close())
	}
	ends.add(s.Close)
	return n, s, ends, nil
}

// runChain is pubsub sub on the network of a ParallelChain: it prints what is heard on topics, and what comes to the node's own
// mailbox.
func (o *subOptions) runChain(ctx context.Context, out *output) (doc any, err error) {
	ctx, done := context.WithCancel(ctx)
	defer done()
	sub := &subscriber{o: o, out: out, done: done}
	if o.Output == outputRaw {
		if sub.raw, err = out.stdout(); err != nil {
			return nil, err
		}
	}
	n, s, ends, err := o.Chain.open(out, &o.Host, o.Gossip.Peers, func(c *chain.Config) {
		if len(o.Topics) > 0 {
			c.Topics = o.Topics
		}
		c.Client = false // it stays, and others may learn of it
		c.Gates = []chain.Gate{{Take: func(d chain.Delivery) bool {
			l := chainLineOf(out, d)
			l.output = o.Output
			sub.printed(d.Data, func() { out.event("chain.message", l) })
			return true
		}}}
	})
	if err != nil {
		return nil, err
	}
	sub.doc.Topics = append(slices.Clone(s.Limits().Topics), s.Profile().Mailbox(s.Address()))
	own := readyOf(n)
	ready := subReady{Peer: own.Peer, Addrs: own.Addrs, Topics: sub.doc.Topics}
	ready.Address, ready.Boot = bootOf(n)
	if err := writeReady(out, ready, o.ReadyFile); err != nil {
		return nil, errors.Join(fmt.Errorf("ready file: %w", err), ends.close())
	}
	out.emit("ready", ready, false)
	if ready.Boot != nil {
		out.notice("on the other side: dibber pubsub send --profile %s %s --file message", o.Chain.Profile, *ready.Boot)
	}
	<-ctx.Done()
	err = ends.close()
	sub.mu.Lock()
	defer sub.mu.Unlock()
	d := sub.doc
	d.Peer, d.Lost = new(n.ID()), s.Lost()
	if o.Count > 0 && d.Messages >= o.Count {
		return d, err
	}
	return d, errors.Join(ctx.Err(), err)
}

// runChain is pubsub pub on the network of a ParallelChain.
func (o *pubOptions) runChain(ctx context.Context, out *output) (doc any, err error) {
	_, s, ends, err := o.Chain.open(out, &o.Host, o.Gossip.Peers, func(c *chain.Config) { c.Topics = []string{} })
	if err != nil {
		return nil, err
	}
	defer closing(&err, ends.close)
	d := pubDoc{Topic: o.Topic}
	err = o.Payload.each(out, pchain.MaxMessage, func(data []byte) error {
		if _, err := s.Profile().Decode(o.Topic, data); err != nil {
			return err
		}
		out.status("waiting for subscribers of %s", o.Topic)
		if err := o.awaitChain(ctx, s); err != nil {
			return err
		}
		r, err := s.Broadcast(ctx, o.Topic, data)
		if err != nil {
			return err
		}
		d.published(out, r, len(data))
		return nil
	})
	d.Members = s.Gossip().Mesh(o.Topic).Members
	if d.Published > 0 {
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		d.Drained = new(s.Gossip().Drain(within))
	}
	return d, err
}

// needPeers refuses a command that would wait for nobody.
func (o *chainOptions) needPeers(command string, peers []string) error {
	if len(o.Boots)+len(peers) > 0 {
		return nil
	}
	return usagef("%s needs somebody to talk to: --boot ADDRESS@HOST:PORT, or --peer ADDR", command)
}

// runChain is pubsub peers on the network of a ParallelChain.
func (o *pubsubPeersOptions) runChain(ctx context.Context, out *output) (doc any, err error) {
	changed := make(chan struct{}, 1)
	n, s, ends, err := o.Chain.open(out, &o.Host, o.Gossip.Peers, func(c *chain.Config) {
		c.Topics = []string{}
		tell := c.On
		c.On = func(e chain.Event) {
			tell(e)
			wake(changed)
		}
	})
	if err != nil {
		return nil, err
	}
	defer closing(&err, ends.close)
	return o.listen(ctx, &gossiper{Service: s.Gossip(), n: n, out: out}, changed)
}

// runChain is pubsub mesh on the network of a ParallelChain.
func (o *meshOptions) runChain(ctx context.Context, out *output) (doc any, err error) {
	n, s, ends, err := o.Chain.open(out, &o.Host, o.Gossip.Peers, func(c *chain.Config) { c.Topics = o.Topics })
	if err != nil {
		return nil, err
	}
	defer closing(&err, ends.close)
	return o.attend(ctx, &gossiper{Service: s.Gossip(), n: n, out: out})
}

// awaitChain waits for subscribers, and says what was missing.
func (o *pubOptions) awaitChain(ctx context.Context, s *chain.Service) error {
	within, cancel := context.WithTimeout(ctx, o.Wait)
	defer cancel()
	err := s.AwaitSubscribers(within, o.Topic, o.Min)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if len(s.Neighbours()) == 0 {
		return &failure{
			Exit: exitUnreachable, Code: "no_peers", Phase: "connect", Retryable: true,
			Err: fmt.Errorf("no peer of the network is connected after %s", o.Wait), Hint: "see whether a boot node can be reached: dibber dial --security noise <target>",
		}
	}
	return &failure{
		Exit: exitNotFound, Code: "no_subscriber", Phase: "pubsub", Retryable: true,
		Err: fmt.Errorf("of %d neighbours fewer than %d are subscribed to %q after %s", len(s.Neighbours()), o.Min, o.Topic, o.Wait),
	}
}

// chainSent is a message on its way to one address.
type chainSent struct {
	Address pchain.Address `json:"address"` // of the receiver
	Topic   string         `json:"topic"`   // its mailbox
	Seq     *uint64        `json:"seq"`
	Bytes   int            `json:"bytes"`
	Peers   []string       `json:"peers"`  // neighbours it is sent to
	Direct  bool           `json:"direct"` // the receiver is one of them
}

// chainTarget is who gets a message: an address, a boot node, or a peer id or multiaddr with an Ed25519 key.
func (o *sendOptions) chainTarget(out *output) (to pchain.Address, at peer.AddrInfo, err error) {
	if to, err = pchain.ParseAddress(o.Target); err == nil {
		return to, at, nil
	}
	if strings.Contains(o.Target, "@") && !strings.HasPrefix(o.Target, "@") {
		b, err := pchain.ParseBoot(o.Target)
		if err != nil {
			return to, at, usagef("%w", err)
		}
		at, err = b.AddrInfo()
		return b.Address, at, err
	}
	targets, err := o.Host.oneTarget(out, "pubsub send", []string{o.Target}, addr.Options{})
	if err != nil {
		return to, at, err
	}
	at = targets[0].AddrInfo()
	if to, err = pchain.AddressOf(at.ID); err != nil {
		err = usagef("%w", err)
	}
	return to, at, err
}

// runChain is pubsub send on the network of a ParallelChain, where nobody acknowledges.
func (o *sendOptions) runChain(ctx context.Context, out *output) (doc any, err error) {
	to, at, err := o.chainTarget(out)
	if err != nil {
		return nil, err
	}
	n, s, ends, err := o.Chain.open(out, &o.Host, nil, func(c *chain.Config) { c.Topics = []string{} })
	if err != nil {
		return nil, err
	}
	defer closing(&err, ends.close)
	if len(at.Addrs) > 0 {
		n.Remember(at.ID, at.Addrs, peerstore.PermanentAddrTTL)
	} else if err := o.joinChain(ctx, s); err != nil {
		return nil, err
	}
	d := sendDoc{Peer: new(to.Peer()), Address: &to}
	err = o.Payload.each(out, pchain.MaxMessage, func(data []byte) error {
		out.status("waiting for the mailbox of %s", to)
		sent, err := s.SendTo(ctx, to, data)
		if conns := n.Conns(to.Peer()); len(conns) > 0 {
			a := conns[0].RemoteMultiaddr()
			d.Path, d.Addr = new(addr.Path(a)), new(a.String())
		}
		if err != nil {
			return err
		}
		d.Sent++
		d.Bytes += len(data)
		out.event("chain.sent", chainSent{Address: to, Topic: sent.Topic, Seq: sent.Seq, Bytes: len(data), Peers: peerNames(sent.Peers), Direct: sent.Direct})
		return nil
	})
	if d.Sent > 0 {
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		d.Drained = new(s.Gossip().Drain(within))
	}
	return d, err
}

// joinChain waits until somebody can be asked where the receiver is. Who is not found in time will not be.
func (o *sendOptions) joinChain(ctx context.Context, s *chain.Service) error {
	if len(o.Chain.Boots) == 0 {
		return usagef("nobody knows where %s is: name it ADDRESS@HOST:PORT, or a --boot to ask", o.Target)
	}
	within, cancel := context.WithTimeout(ctx, chain.DefaultAwait)
	defer cancel()
	if err := s.Route().Join(within); err != nil {
		return fmt.Errorf("%w: %w", chain.ErrNotReached, err)
	}
	return ctx.Err()
}

// printed counts a message and prints it, unless enough were printed.
func (s *subscriber) printed(data []byte, show func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.o.Count > 0 && s.doc.Messages >= s.o.Count {
		return
	}
	s.doc.Messages++
	s.doc.Bytes += len(data)
	if s.raw != nil {
		if _, err := s.raw.Write(data); err != nil {
			s.done() // nobody reads any more
		}
	} else {
		show()
	}
	if s.doc.Messages == s.o.Count {
		s.done()
	}
}

func (c chainSent) line() string {
	how := "directly"
	if !c.Direct {
		how = fmt.Sprintf("by %d others who pass it on", len(c.Peers))
	}
	if c.Direct && len(c.Peers) == 0 {
		how = "to this node itself"
	}
	return fmt.Sprintf("sent %s to %s %s; nobody says whether it arrived", sizeText(uint64(c.Bytes)), c.Address, how)
}
