package blocks

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ipfs/boxo/bitswap/message"
	pb "github.com/ipfs/boxo/bitswap/message/pb"
	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Answer is what a peer says of one block.
type Answer struct {
	CID cid.Cid
	// Kind is Have or DontHave; empty when nothing came.
	Kind Kind
	// Took is how long the answer took.
	Took time.Duration
	// Block is the block itself, where the peer sent it at once, as they do with small ones; else nil.
	Block block.Block
}

// ErrNoHave means that a peer speaks a Bitswap older than 1.2, in which it cannot be asked whether it has a block.
var ErrNoHave = errors.New("peer speaks no Bitswap 1.2: it cannot be asked whether it has a block")

// maxAsk is how many blocks are asked about in one message: as many as a peer remembers.
const maxAsk = 1024

// Ask asks a connected peer whether it has blocks, by WANT-HAVE, until ctx ends. It returns what was answered by then, in the order
// asked, also with an error. A peer that sends the block has it.
func (s *Service) Ask(ctx context.Context, p peer.ID, list []cid.Cid) ([]Answer, error) {
	out := make([]Answer, len(list))
	for i, c := range list {
		out[i].CID = c
	}
	if len(list) > maxAsk {
		return out, fmt.Errorf("ask %s: %d blocks are more than %d", p, len(list), maxAsk)
	}
	st, err := s.x.open(ctx, p)
	if err != nil {
		return out, err
	}
	defer func() { _ = st.Reset() }()
	if st.Protocol() != Protocol {
		return out, fmt.Errorf("ask %s: %w", p, ErrNoHave)
	}
	heard, stop := s.asks.listen(p)
	defer stop()
	want := message.New(false)
	open := make(map[cid.Cid][]int)
	for i, c := range list {
		want.AddEntry(c, 1, pb.Message_Wantlist_Have, true)
		open[c] = append(open[c], i)
	}
	began := time.Now()
	if err := s.x.write(st, want); err != nil {
		return out, err
	}
	for len(open) > 0 {
		select {
		case h := <-heard:
			for c, said := range h {
				for _, i := range open[c] {
					out[i].Kind, out[i].Block, out[i].Took = said.Kind, said.Block, time.Since(began)
				}
				delete(open, c)
			}
		case <-ctx.Done():
			return out, fmt.Errorf("ask %s: %w", p, ctx.Err())
		}
	}
	// So that the peer does not tell later that it has got one of them.
	done := message.New(false)
	for _, c := range list {
		done.Cancel(c)
	}
	if err := s.x.write(st, done); err != nil {
		return out, err
	}
	return out, st.CloseWrite()
}

// asks hears what peers say of blocks.
type asks struct {
	mu  sync.Mutex
	who map[peer.ID]map[chan map[cid.Cid]Answer]bool
}

func newAsks() *asks { return &asks{who: make(map[peer.ID]map[chan map[cid.Cid]Answer]bool)} }

// listen hears a peer until stop.
func (a *asks) listen(p peer.ID) (heard <-chan map[cid.Cid]Answer, stop func()) {
	c := make(chan map[cid.Cid]Answer, 16)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.who[p] == nil {
		a.who[p] = make(map[chan map[cid.Cid]Answer]bool)
	}
	a.who[p][c] = true
	return c, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if delete(a.who[p], c); len(a.who[p]) == 0 {
			delete(a.who, p)
		}
	}
}

// ReceiveMessage hands on what a message says to those that have asked. One that is behind by more messages than an answer takes
// misses some.
func (a *asks) ReceiveMessage(_ context.Context, p peer.ID, m message.BitSwapMessage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.who[p]) == 0 {
		return
	}
	said := make(map[cid.Cid]Answer)
	for _, c := range m.DontHaves() {
		said[c] = Answer{Kind: DontHave}
	}
	for _, c := range m.Haves() {
		said[c] = Answer{Kind: Have}
	}
	for _, b := range m.Blocks() {
		said[b.Cid()] = Answer{Kind: Have, Block: b}
	}
	for c := range a.who[p] {
		select {
		case c <- said:
		default:
		}
	}
}

// ReceiveError, PeerConnected and PeerDisconnected are of no concern here.
func (a *asks) ReceiveError(error) {}

// PeerConnected does nothing.
func (a *asks) PeerConnected(peer.ID) {}

// PeerDisconnected does nothing.
func (a *asks) PeerDisconnected(peer.ID) {}
