package gossip

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
)

// How a copy of a message came: pushed along the mesh, or fetched from a peer outside it that had announced it (IHAVE, IWANT).
const (
	Eager = "eager"
	Lazy  = "lazy"
)

// Copy is one copy of a message that came.
type Copy struct {
	ID    string  // of the message
	From  peer.ID // its author, unchecked
	Seq   *uint64
	Via   peer.ID // who delivered this copy
	First bool
	Delay time.Duration // after the first copy
	How   string        // Eager or Lazy
}

const (
	// tracedFor is how long copies of a message are told from a new message, tracedMost of how many messages.
	tracedFor  = 2 * time.Minute
	tracedMost = 1 << 14
)

// arrivals tells first copies from later ones. It is used by the library's loop alone. Ids are kept as their hashes: what a copy says
// of itself is not checked yet, and may be as long as a frame.
type arrivals struct {
	s      *Service
	seen   map[idHash]*list.Element
	wanted map[idHash]*list.Element
	order  *list.List // of seen and wanted, the oldest first
}

// idHash stands for the id of a message.
type idHash [sha256.Size]byte

func hashOf(id string) idHash { return sha256.Sum256([]byte(id)) }

// arrival is a message that came, or that was asked for.
type arrival struct {
	id   idHash
	at   time.Time
	want bool
	by   map[peer.ID]bool // asked, or nil
}

func newArrivals(s *Service) *arrivals {
	return &arrivals{s: s, seen: make(map[idHash]*list.Element), wanted: make(map[idHash]*list.Element), order: list.New()}
}

// expire forgets what is old, or too much.
func (a *arrivals) expire(now time.Time) {
	for e := a.order.Front(); e != nil; e = a.order.Front() {
		old := e.Value.(*arrival)
		if now.Sub(old.at) < tracedFor && a.order.Len() <= tracedMost {
			return
		}
		a.order.Remove(e)
		if old.want {
			delete(a.wanted, old.id)
		} else {
			delete(a.seen, old.id)
		}
	}
}

// sent notes which messages a peer was asked for.
func (a *arrivals) sent(rpc *pubsub.RPC, to peer.ID, now time.Time) {
	a.expire(now)
	for _, want := range rpc.GetControl().GetIwant() {
		for _, wanted := range want.GetMessageIDs() {
			id := hashOf(wanted)
			e := a.wanted[id]
			if e == nil {
				e = a.order.PushBack(&arrival{id: id, at: now, want: true, by: make(map[peer.ID]bool)})
				a.wanted[id] = e
			}
			e.Value.(*arrival).by[to] = true
		}
	}
	for _, m := range rpc.GetPublish() { // one of this node's own comes back as a copy, never as the first
		if peer.ID(m.GetFrom()) != a.s.n.ID() {
			continue
		}
		id := hashOf(a.s.cfg.MessageID(m.GetTopic(), peer.ID(m.GetFrom()), m.GetSeqno(), m.GetData()))
		if a.seen[id] == nil {
			a.seen[id] = a.order.PushBack(&arrival{id: id, at: now})
		}
	}
}

// received tells of every copy.
func (a *arrivals) received(rpc *pubsub.RPC, now time.Time) {
	a.expire(now)
	for _, m := range rpc.GetPublish() {
		c := Copy{
			ID:   a.s.cfg.MessageID(m.GetTopic(), peer.ID(m.GetFrom()), m.GetSeqno(), m.GetData()),
			From: peer.ID(m.GetFrom()), Via: rpc.From(), How: Eager,
		}
		if len(m.GetSeqno()) == seqnoLen {
			c.Seq = new(binary.BigEndian.Uint64(m.GetSeqno()))
		}
		id := hashOf(c.ID)
		if e := a.wanted[id]; e != nil && e.Value.(*arrival).by[c.Via] {
			c.How = Lazy
		}
		if e := a.seen[id]; e != nil {
			c.Delay = now.Sub(e.Value.(*arrival).at)
		} else {
			c.First = true
			a.seen[id] = a.order.PushBack(&arrival{id: id, at: now})
		}
		a.s.cfg.On(Event{Kind: Copied, Topic: m.GetTopic(), Peer: c.Via, Copy: &c})
	}
}
