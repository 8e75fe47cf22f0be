package discover

import (
	"context"
	"errors"
	"sync"
	"time"

	"dibber/netkit/gossip"
	"dibber/netkit/host"

	"github.com/libp2p/go-libp2p/core/peer"
)

// SourcePubsub is the word for the subscribers of a topic.
const SourcePubsub = "pubsub"

// Pubsub looks for those who are subscribed to a topic.
type Pubsub struct {
	Topic string
	// Peers are asked, each by itself, whether they are, and who else. Those that do not speak gossip.TopicsProtocol show only whether they
	// are.
	Peers []peer.AddrInfo
}

// subscribedWait is how long to wait for what a peer says that it is subscribed to. It says so when it is connected.
const subscribedWait = 3 * time.Second

// listener speaks gossip for a search, from when that is needed.
type listener struct {
	n *host.Node

	mu sync.Mutex // guards following
	g  *gossip.Service
}

// speak is the service.
func (l *listener) speak() (*gossip.Service, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.g != nil {
		return l.g, nil
	}
	g, err := gossip.New(l.n, gossip.Config{})
	if err != nil {
		return nil, err
	}
	l.g = g
	return g, nil
}

func (l *listener) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.g == nil {
		return nil
	}
	return l.g.Close()
}

// ask asks one peer who is subscribed.
func (l *listener) ask(ctx context.Context, p peer.AddrInfo, topic string) (answer, error) {
	began := time.Now()
	if _, err := l.n.Dial(ctx, p.ID, p.Addrs); err != nil {
		return answer{}, err
	}
	got, err := gossip.AskSubscribers(ctx, l.n, p.ID, topic)
	if errors.Is(err, gossip.ErrUnsupported) {
		return l.observe(ctx, p, topic)
	}
	out := answer{skipped: got.Broken, all: err == nil}
	if got.Itself {
		out.sightings = append(out.sightings, sighting{peer: p.ID, ns: topic, addrs: p.Addrs})
	}
	for _, r := range got.Records {
		out.sightings = append(out.sightings, sighting{peer: r.PeerID, ns: topic, addrs: r.Addrs, seq: &r.Seq, record: "standard", until: began.Add(recordTTL)})
	}
	return out, err
}

// recordTTL is how long what a peer told of others is believed.
const recordTTL = 10 * time.Minute

// observe sees for itself whether a peer is subscribed.
func (l *listener) observe(ctx context.Context, p peer.AddrInfo, topic string) (answer, error) {
	g, err := l.speak()
	if err != nil {
		return answer{}, err
	}
	out := answer{all: true}
	within, cancel := context.WithTimeout(ctx, subscribedWait)
	defer cancel()
	subscribed, err := g.AwaitSubscribed(within, p.ID, topic)
	if ctx.Err() != nil {
		return out, ctx.Err()
	}
	if subscribed {
		out.sightings = []sighting{{peer: p.ID, ns: topic, addrs: p.Addrs}}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	return out, err
}
