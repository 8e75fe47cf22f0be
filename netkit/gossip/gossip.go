// Package gossip carries messages to everybody who subscribes to a topic, by gossipsub (libp2p/specs pubsub/gossipsub, versions
// 1.0 to 1.3) as go-libp2p-pubsub implements it.
//
// What the package adds to the library: streams are guarded before anything of them is parsed (length, number of parts, rate,
// memory); every message is signed, and looked at before it is forwarded (signature, rule of topics, rate of its author, replays,
// and what [Config.Validate] says); scores of peers that are on by default; a mirror of what the library knows, to look at
// ([Service.Peers], [Service.Mesh]); a receipt for what is published; and [RelayConfig], with which a node forwards topics that
// only its peers subscribe to.
//
// Gossip goes over direct connections alone: a relay that limits its circuits is no place for it.
package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/wire"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Protocols are those that the package speaks, the newest first.
func Protocols() []protocol.ID {
	return []protocol.ID{pubsub.GossipSubID_v13, pubsub.GossipSubID_v12, pubsub.GossipSubID_v11, pubsub.GossipSubID_v10, pubsub.FloodSubID}
}

var (
	// ErrClosed means that the service, the topic or the subscription was closed.
	ErrClosed = errors.New("gossip is closed")
	// ErrTooLarge means that a message is longer than the network carries.
	ErrTooLarge = errors.New("message too large")
	// ErrBadTopic means that a topic's name is empty, too long, or against Config.Topics.
	ErrBadTopic = errors.New("topic not allowed")
	// ErrRefused means that a message of this node did not pass validation.
	ErrRefused = errors.New("message refused by validation")
)

// MaxTopicLen is the most bytes of a topic's name.
const MaxTopicLen = 256

// Defaults of Config.
const (
	DefaultMaxMessage = 1 << 20 // as other implementations have it
	DefaultHeartbeat  = time.Second
	DefaultSeen       = 2 * time.Minute
	DefaultReplay     = 1 << 16
	DefaultRate       = 500
	DefaultBurst      = 5000
	DefaultTopics     = 1024
	DefaultPeerRate   = 5000
)

// Signing says who vouches for messages.
type Signing int

// The policies. Strict is what others of libp2p call StrictSign: author, sequence number and signature are required. Anonymous
// is StrictNoSign: none of them may be there, and Config.MessageID is needed.
const (
	Strict Signing = iota
	Anonymous
)

// Verdict is what a validator says of a message.
type Verdict int

// The verdicts. What is rejected or ignored is neither delivered nor forwarded; who sent something that is rejected is trusted less.
const (
	Accept Verdict = iota
	Ignore
	Reject
)

// Validator looks at a message before it is delivered and forwarded; those of this node it sees before they are sent. It must be
// quick, must not block, and must not change the message: messages wait in line for it.
type Validator func(m Message) Verdict

// MessageID names a message, the same way for the whole network. The author and the sequence number are as they came, not checked.
type MessageID func(topic string, from peer.ID, seqno, data []byte) string

// Config tunes a Service. The zero value speaks as others of libp2p do, and relays for nobody.
type Config struct {
	// MaxMessage is the most bytes of a message with all that belongs to it; 0 means DefaultMaxMessage.
	MaxMessage int
	// MessageID names messages; nil means author and sequence number, as the specification has it.
	MessageID MessageID
	// Signing is how messages are signed; 0 is Strict.
	Signing Signing
	// Topics says which names of topics may be used, here and by others; nil means any of at most MaxTopicLen bytes.
	Topics func(name string) bool
	// Validate looks at every message; nil accepts all.
	Validate Validator
	// Relay forwards what only peers subscribe to; nil does not.
	Relay *RelayConfig

	// Heartbeat is how often meshes are mended and messages announced to those outside; 0 means DefaultHeartbeat.
	Heartbeat time.Duration
	// Seen is how long the id of a message is remembered; 0 means DefaultSeen.
	Seen time.Duration
	// Replay is how many messages are remembered by author and sequence number at least, beyond Seen; 0 means DefaultReplay, negative none.
	Replay int
	// Rate is how many messages a second one author may send after a burst of Burst; 0 means DefaultRate and DefaultBurst. What is
	// above it is not forwarded, and rejected if it comes from its author. Negative means any.
	Rate  float64
	Burst int
	// PeerTopics is how many topics one peer may be subscribed to; 0 means DefaultTopics. Others are not noticed.
	PeerTopics int
	// PeerRate is how many messages a second are read from one peer, whoever wrote them; 0 means DefaultPeerRate. A peer that sends
	// more has to wait.
	PeerRate float64
	// Exchange tells peers that are pruned of others, and connects with those that Trusted peers tell of.
	Exchange bool
	// Trusted are peers that a person has named: their score is higher.
	Trusted []peer.ID
	// NoScore trusts all peers alike.
	NoScore bool
	// Trace tells of every copy of a message by On, and which came by an announcement.
	Trace bool
	// On is told what happens, from several goroutines; nil tells nobody. It must not block, and must not call the service.
	On func(Event)
}

func (c Config) withDefaults() Config {
	c.MaxMessage = cmp.Or(c.MaxMessage, DefaultMaxMessage)
	c.Heartbeat = cmp.Or(c.Heartbeat, DefaultHeartbeat)
	c.Seen = cmp.Or(c.Seen, DefaultSeen)
	c.Replay = cmp.Or(c.Replay, DefaultReplay)
	c.Rate = cmp.Or(c.Rate, DefaultRate)
	c.Burst = cmp.Or(c.Burst, DefaultBurst)
	c.PeerTopics = cmp.Or(c.PeerTopics, DefaultTopics)
	c.PeerRate = cmp.Or(c.PeerRate, DefaultPeerRate)
	if c.MessageID == nil {
		c.MessageID = func(_ string, from peer.ID, seqno, _ []byte) string { return string(from) + string(seqno) }
	}
	if c.On == nil {
		c.On = func(Event) {}
	}
	if c.Relay != nil {
		c.Relay = new(c.Relay.withDefaults())
	}
	return c
}

// Service speaks gossip on a node, until Close.
type Service struct {
	n        *host.Node
	cfg      Config
	ps       *pubsub.PubSub
	table    *table
	streams  *streams
	replays  *replays
	authors  *wire.Limiter[peer.ID]
	paces    *paces
	overhead int // bytes of a message besides its payload and its topic
	trusted  map[peer.ID]bool
	hubs     hubs
	records  records
	scores   atomic.Pointer[map[peer.ID]*pubsub.PeerScoreSnapshot]

	ctx      context.Context //nolint:containedctx // it ends with the service
	cancel   context.CancelFunc
	unanswer func() // ends the answers to TopicsProtocol
	running  sync.WaitGroup

	mu     sync.Mutex // guards following
	topics map[string]*handle
	closed bool
}

// New begins to speak gossip on n.
func New(n *host.Node, cfg Config) (*Service, error) {
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	s := &Service{
		n: n, cfg: cfg, ctx: ctx, cancel: cancel, topics: make(map[string]*handle), trusted: make(map[peer.ID]bool),
		replays: newReplays(cfg.Replay), authors: wire.NewLimiter[peer.ID](cfg.Rate, cfg.Burst, rateAuthors), paces: newPaces(cfg),
	}
	s.table = newTable(s)
	s.streams = newStreams(s)
	for _, p := range cfg.Trusted {
		s.trusted[p] = true
	}
	var err error
	if cfg.Exchange {
		err = s.keepRecords(n)
	}
	if err == nil {
		s.overhead, err = overheadOf(n, cfg.Signing)
	}
	if err == nil {
		s.ps, err = pubsub.NewGossipSub(ctx, s.streams, s.options()...)
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	s.hubs.said = make(map[peer.ID]map[string]int)
	s.unanswer = func() {}
	if cfg.Relay != nil || cfg.Exchange {
		s.unanswer = s.answerTopics()
	}
	if cfg.Relay != nil {
		s.running.Go(s.relay)
		s.running.Go(s.askHubs)
	}
	return s, nil
}

// Limits are those in force, every field filled.
func (s *Service) Limits() Config { return s.cfg }

// rateAuthors is of how many authors the rate is remembered.
const rateAuthors = 4096

// Drained is what became of the neighbours that messages were on the way to.
type Drained struct {
	Confirmed int `json:"confirmed"` // read everything to the end
	Left      int `json:"left"`      // hung up after they were sent something, so that nobody knows how far they read
	Silent    int `json:"silent"`    // did neither in time
}

// Drain waits until everything that was published or is to be passed on is with the neighbours, for as long as ctx lasts, and then
// hangs up: what the service is asked to send afterwards goes nowhere.
func (s *Service) Drain(ctx context.Context) Drained {
	s.ps.GetTopics() // an answer of the library's loop: it is done with what came before
	return s.streams.drain(ctx)
}

// Close ends all topics and streams. What was published shortly before may be lost; Drain comes before it where that matters. The
// library's own goroutines end with it, some of them a moment later.
func (s *Service) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.unanswer()
	s.cancel()
	s.streams.close()
	s.running.Wait()
	return nil
}

// goodTopic refuses names that nobody may use.
func (s *Service) goodTopic(name string) bool {
	return name != "" && len(name) <= MaxTopicLen && (s.cfg.Topics == nil || s.cfg.Topics(name))
}
