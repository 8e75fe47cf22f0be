package blocks

import (
	"sync"
	"sync/atomic"

	"github.com/ipfs/boxo/bitswap/message"
	pb "github.com/ipfs/boxo/bitswap/message/pb"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Kind is what an entry of a message says.
type Kind string

// The six kinds.
const (
	WantHave  Kind = "WANT_HAVE"
	WantBlock Kind = "WANT_BLOCK"
	Cancel    Kind = "CANCEL"
	Have      Kind = "HAVE"
	DontHave  Kind = "DONT_HAVE"
	Block     Kind = "BLOCK"
)

// Message is one entry of a message that was sent or received.
type Message struct {
	Peer peer.ID
	Sent bool
	Kind Kind
	CID  cid.Cid
	// Bytes is the size of a Block.
	Bytes int
}

// Counts are totals since the start.
type Counts struct {
	BlocksSent, BytesSent         atomic.Uint64
	BlocksReceived, BytesReceived atomic.Uint64
	WantsReceived                 atomic.Uint64
}

// watchers are those who are told of messages.
type watchers struct {
	mu  sync.Mutex
	set map[*func(Message)]bool
}

// add adds one until stop is called. It may be told a moment longer.
func (w *watchers) add(on func(Message)) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.set == nil {
		w.set = make(map[*func(Message)]bool)
	}
	w.set[&on] = true
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.set, &on)
	}
}

func (w *watchers) all() (list []func(Message)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for on := range w.set {
		list = append(list, *on)
	}
	return list
}

// Watch tells on of each entry of each message, as Config.On, until stop is called; it may be told a moment longer.
func (s *Service) Watch(on func(Message)) (stop func()) { return s.x.told.add(on) }

// tell counts a message and hands its entries on.
func (x *exchange) tell(p peer.ID, sent bool, m message.BitSwapMessage) {
	list := m.Blocks()
	for _, b := range list {
		blocks, bytes := &x.count.BlocksReceived, &x.count.BytesReceived
		if sent {
			blocks, bytes = &x.count.BlocksSent, &x.count.BytesSent
		}
		blocks.Add(1)
		bytes.Add(uint64(len(b.RawData())))
	}
	wants := m.Wantlist()
	if !sent {
		for _, e := range wants {
			if !e.Cancel {
				x.count.WantsReceived.Add(1)
			}
		}
	}
	on := x.told.all()
	if len(on) == 0 {
		return
	}
	tell := func(m Message) {
		for _, f := range on {
			f(m)
		}
	}
	one := Message{Peer: p, Sent: sent}
	for _, e := range wants {
		one.CID, one.Kind = e.Cid, WantBlock
		switch {
		case e.Cancel:
			one.Kind = Cancel
		case e.WantType == pb.Message_Wantlist_Have:
			one.Kind = WantHave
		}
		tell(one)
	}
	for _, e := range m.BlockPresences() {
		one.CID, one.Kind = e.Cid, Have
		if e.Type == pb.Message_DontHave {
			one.Kind = DontHave
		}
		tell(one)
	}
	for _, b := range list {
		one.CID, one.Kind, one.Bytes = b.Cid(), Block, len(b.RawData())
		tell(one)
	}
}
