package commands

import (
	"fmt"

	"dibber/netkit/gossip"
	"dibber/netkit/serve"

	"github.com/urfave/cli/v2"
)

// servePubsubOptions are the flags of serve about gossip.
type servePubsubOptions struct {
	On         bool
	Topics     int
	PerPeer    int
	Rate       float64
	MaxMessage int
	Exchange   bool
}

func servePubsubFlags(o *servePubsubOptions) []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "pubsub", Usage: "pass on messages of the topics that peers are subscribed to", Destination: &o.On},
		&cli.IntFlag{Name: "pubsub-topics", Usage: "relay at most `N` topics; 0 means 256", Destination: &o.Topics},
		&cli.IntFlag{Name: "pubsub-per-peer", Usage: "relay at most `N` topics for one peer; 0 means 32", Destination: &o.PerPeer},
		&cli.Float64Flag{Name: "pubsub-rate", Usage: "pass on at most `N` messages a second of one author; 0 means 500", Destination: &o.Rate},
		maxMessageFlag("pubsub-max-message", &o.MaxMessage),
		exchangeFlag(&o.Exchange),
	}
}

// servePubsubKeys are those flags that do nothing without --pubsub.
func servePubsubKeys() []string {
	return []string{"pubsub-topics", "pubsub-per-peer", "pubsub-rate", "pubsub-max-message", "peer-exchange"}
}

func (o *servePubsubOptions) validate(noDiscovery bool) error {
	switch {
	case o.Topics < 0 || o.PerPeer < 0 || o.Rate < 0:
		return usagef("--pubsub-topics, --pubsub-per-peer and --pubsub-rate must not be negative")
	case o.MaxMessage < 0 || o.MaxMessage > 0 && o.MaxMessage < minMessage:
		return usagef("--pubsub-max-message: %d is less than %d", o.MaxMessage, minMessage)
	case o.Exchange && noDiscovery:
		return usagef("--no-discovery tells nobody of others: it excludes --peer-exchange")
	}
	return nil
}

// config is nil where the node speaks no gossip.
func (o *servePubsubOptions) config() *gossip.Config {
	if !o.On {
		return nil
	}
	return &gossip.Config{
		MaxMessage: o.MaxMessage, Exchange: o.Exchange, Rate: o.Rate,
		Relay: &gossip.RelayConfig{Topics: o.Topics, Peer: o.PerPeer},
	}
}

// pubsubLimits are the limits of passing on messages.
type pubsubLimits struct {
	Topics     int     `json:"topics"`
	PerPeer    int     `json:"per_peer"`    // topics
	Rate       float64 `json:"rate"`        // messages a second of one author
	MaxMessage int     `json:"max_message"` // bytes
	Exchange   bool    `json:"peer_exchange"`
}

func pubsubLimitsOf(c *gossip.Config) *pubsubLimits {
	if c == nil || c.Relay == nil {
		return nil
	}
	return &pubsubLimits{c.Relay.Topics, c.Relay.Peer, c.Rate, c.MaxMessage, c.Exchange}
}

func (l pubsubLimits) String() string {
	s := fmt.Sprintf("%s  %d topics, %d for one peer, %g messages a second of one author, %s each", serve.RolePubsub, l.Topics, l.PerPeer, l.Rate, sizeText(uint64(l.MaxMessage)))
	if l.Exchange {
		s += ", tells peers of others"
	}
	return s
}

// pubsubEvents are those of serve about topics.
func pubsubEvents() (list []event) {
	for _, kind := range []gossip.EventKind{gossip.RelayStarted, gossip.RelayStopped, gossip.RelayFull} {
		list = append(list, event{"topic." + string(kind), topicLine{}})
	}
	return append(list, subscriptionEvents()...)
}

// topicLine is a topic that is relayed from now on, is not any more, or cannot be for want of room.
type topicLine struct {
	Topic string  `json:"topic"`
	Peer  *string `json:"peer"` // whose subscription there is no room for; else null

	kind gossip.EventKind
}

// tellGossip tells which topics are relayed.
func tellGossip(out *output, e gossip.Event) {
	switch e.Kind {
	case gossip.RelayStarted, gossip.RelayStopped, gossip.RelayFull:
		l := topicLine{Topic: e.Topic, kind: e.Kind}
		if e.Peer != "" {
			l.Peer = new(e.Peer.String())
		}
		out.event("topic."+string(e.Kind), l)
	default:
		tellSubscription(out, e)
	}
}

func (l topicLine) line() string {
	topic := plainText(l.Topic)
	switch l.kind {
	case gossip.RelayStarted:
		return "topic relayed  " + topic
	case gossip.RelayStopped:
		return "topic ended  " + topic
	default:
		return fmt.Sprintf("topic not relayed  %s: no room for what %s is subscribed to", topic, orDash(l.Peer))
	}
}

// reveals is what others learn from the role.
func (o *servePubsubOptions) reveals() (out []string) {
	if o.On {
		out = append(out, "every connected peer: the topics that this node relays")
	}
	if o.Exchange {
		out = append(out, "every connected peer that asks: who is subscribed to a topic, with the addresses that those announce")
	}
	return out
}
