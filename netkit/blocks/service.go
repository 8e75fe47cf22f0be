package blocks

import (
	"context"
	"errors"
	"fmt"

	"dibber/netkit/host"

	"github.com/ipfs/boxo/bitswap/client"
	"github.com/ipfs/boxo/bitswap/server"
	"github.com/ipfs/boxo/blockstore"
	exchangeif "github.com/ipfs/boxo/exchange"
	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/routing"
)

// Config sets up a [Service]. Its zero value serves nothing and fetches from connected peers.
type Config struct {
	// Serve gives out what the store has.
	Serve bool
	// Limits bound what is given out and taken.
	Limits Limits
	// Providers finds peers that have a block when no connected one does; nil asks connected peers only.
	Providers routing.ContentDiscovery
	// On is told of each entry of each message, from several goroutines; nil tells nobody. It must not block.
	On func(Message)
	// Corrupt is told of a block of the store that is not what its CID says when it is asked for, from several goroutines. It is
	// taken out of the store, so that it can be fetched again. Nil tells nobody.
	Corrupt func(*CorruptError)
}

// Limits bound what peers get and may do. The zero value means the defaults.
type Limits struct {
	// Block is the size in bytes of the largest block that is given out; 0 means [MaxBlock]. A larger one is not there for peers.
	Block int
	// Rate is how many bytes of blocks a second are given out to all peers together; 0 means any number.
	Rate int
	// Pending is how many bytes of blocks may be on their way to one peer; 0 means 1 MiB.
	Pending int
	// Wants is how many blocks a second each peer may ask for, after a burst of WantsBurst; 0 means 5000 and 20000. A peer that asks
	// for more is read more slowly.
	Wants      float64
	WantsBurst int
	// WantList is how many wants of one peer are remembered; 0 means 1024.
	WantList int
}

// limitedPeers is how many peers the limit of wants remembers.
const limitedPeers = 4096

// WithDefaults returns the limits with their defaults in place of zeros.
func (l Limits) WithDefaults() Limits {
	if l.Block == 0 {
		l.Block = MaxBlock
	}
	if l.Pending == 0 {
		l.Pending = 1 << 20
	}
	if l.Wants == 0 {
		l.Wants = 5000
	}
	if l.WantsBurst == 0 {
		l.WantsBurst = 20000
	}
	if l.WantList == 0 {
		l.WantList = 1024
	}
	return l
}

// Service exchanges blocks with peers, until Close.
type Service struct {
	x      *exchange
	store  blockstore.Blockstore
	limits Limits
	client *client.Client
	server *server.Server // nil: serves nothing
	asks   *asks
	finds  bool // providers are looked for
}

// serverWorkers is how many messages are made and sent at once. A slow peer holds up one of them.
const serverWorkers = 16

// New starts the exchange of a store's blocks with the peers of a node, those that are connected already as well.
func New(n *host.Node, st blockstore.Blockstore, cfg Config) (*Service, error) {
	limits := cfg.Limits.WithDefaults()
	if limits.Block < 0 || limits.Rate < 0 || limits.Pending < 0 || limits.Wants < 0 || limits.WantsBurst < 0 || limits.WantList < 0 {
		return nil, errors.New("blocks: a limit is negative")
	}
	x := newExchange(n, limits, cfg.On)
	s := &Service{x: x, limits: limits, asks: newAsks(), finds: cfg.Providers != nil, store: &mended{st, cfg.Corrupt}}
	if cfg.Serve {
		s.server = server.New(x.ctx, x, &shown{s.store, limits.Block},
			server.TaskWorkerCount(serverWorkers), server.EngineTaskWorkerCount(serverWorkers),
			server.MaxOutstandingBytesPerPeer(limits.Pending), server.MaxQueuedWantlistEntriesPerPeer(uint(limits.WantList)))
	}
	opts := []client.Option{client.WithoutDuplicatedBlockStats()}
	if s.server != nil {
		opts = append(opts, client.WithBlockReceivedNotifier(s.server))
	}
	s.client = client.New(x.ctx, x, cfg.Providers, s.store, opts...)
	if s.server != nil {
		x.Start(s.server, s.client, s.asks)
	} else {
		x.Start(s.client, s.asks)
	}
	return s, nil
}

// Close ends all exchange.
func (s *Service) Close() error {
	s.x.Stop()
	err := s.client.Close()
	if s.server != nil {
		s.server.Close()
	}
	return err
}

// Limits are those in force.
func (s *Service) Limits() Limits { return s.limits }

// Store is the store, out of which corrupt blocks are taken when they are asked for.
func (s *Service) Store() blockstore.Blockstore { return s.store }

// Counts are the totals so far.
func (s *Service) Counts() *Counts { return &s.x.count }

// Session returns a fetcher of blocks that belong together: it asks those peers first that had others of them, several at once, and
// takes back what it asked of the rest once one has come.
func (s *Service) Session(ctx context.Context) Fetcher { return &session{s, s.client.NewSession(ctx)} }

// Added tells peers that wait for blocks that they are in the store now.
func (s *Service) Added(ctx context.Context, list ...block.Block) error {
	if s.server == nil {
		return nil
	}
	if err := s.server.NotifyNewBlocks(ctx, list...); err != nil {
		return fmt.Errorf("tell of new blocks: %w", err)
	}
	return nil
}

// Connected are the peers with which there is a connection.
func (s *Service) Connected() []peer.ID { return s.x.n.Network().Peers() }

// Fetcher fetches blocks.
type Fetcher interface {
	// Fetch hands over blocks as they come, compared with their CIDs and put in the store, in any order. The channel closes when all
	// have come, or with the last that was told when ctx has ended or after an error.
	Fetch(ctx context.Context, list []cid.Cid) (<-chan Fetched, error)
}

// Fetched is a block that has come, or why none does.
type Fetched struct {
	Block block.Block
	Err   error
}

// session fetches from peers.
type session struct {
	s  *Service
	of exchangeif.Fetcher
}

// Fetch fetches from several peers.
func (s *session) Fetch(ctx context.Context, list []cid.Cid) (<-chan Fetched, error) {
	var here []block.Block // peers have sent it when they were asked for it
	var away []cid.Cid
	for _, c := range list {
		if b, err := s.s.store.Get(ctx, c); err == nil {
			here = append(here, b)
		} else {
			away = append(away, c)
		}
	}
	in, err := s.of.GetBlocks(ctx, away)
	if err != nil {
		return nil, err
	}
	out := make(chan Fetched)
	if !s.s.x.enter() {
		return nil, errClosed
	}
	go func() {
		defer s.s.x.running.Done()
		defer close(out)
		for _, b := range here {
			select {
			case out <- Fetched{Block: b}:
			case <-ctx.Done():
				return
			}
		}
		for b := range in {
			err := s.s.store.Put(ctx, b)
			if err == nil {
				err = s.s.Added(ctx, b)
			}
			select {
			case out <- Fetched{b, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return out, nil
}

var errClosed = errors.New("the exchange of blocks has ended")

// mended is a store out of which corrupt blocks are taken.
type mended struct {
	blockstore.Blockstore
	corrupt func(*CorruptError)
}

func (m *mended) Get(ctx context.Context, c cid.Cid) (block.Block, error) {
	b, err := m.Blockstore.Get(ctx, c)
	var bad *CorruptError
	if !errors.As(err, &bad) {
		return b, err
	}
	if m.corrupt != nil {
		m.corrupt(bad)
	}
	if err := m.DeleteBlock(ctx, c); err != nil {
		return nil, err
	}
	return nil, ipld.ErrNotFound{Cid: c}
}

// shown is a store as peers see it, in which larger blocks are not there.
type shown struct {
	blockstore.Blockstore
	most int
}

func (s *shown) GetSize(ctx context.Context, c cid.Cid) (int, error) {
	size, err := s.Blockstore.GetSize(ctx, c)
	if err == nil && size > s.most {
		return 0, ipld.ErrNotFound{Cid: c}
	}
	return size, err
}

func (s *shown) Has(ctx context.Context, c cid.Cid) (bool, error) {
	_, err := s.GetSize(ctx, c)
	if ipld.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

func (s *shown) Get(ctx context.Context, c cid.Cid) (block.Block, error) {
	b, err := s.Blockstore.Get(ctx, c)
	if err == nil && len(b.RawData()) > s.most {
		return nil, ipld.ErrNotFound{Cid: c}
	}
	return b, err
}
