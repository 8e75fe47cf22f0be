package route

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// EventKind is what an Event is about.
type EventKind string

// The kinds of events.
const (
	// Joined is that the first peer came into the empty table, Alone that the last one left it.
	Joined EventKind = "joined"
	Alone  EventKind = "alone"
	// BootFailed is that none of Config.Boot could be joined.
	BootFailed EventKind = "boot-failed"
	// Walked is the end of a random walk.
	Walked EventKind = "walked"
	// Refused is that a request was not served.
	Refused EventKind = "refused"
)

// Reason is why a request was refused.
type Reason string

// The reasons.
const (
	ReasonRate    Reason = "rate"    // too many requests of the peer or its network
	ReasonStreams Reason = "streams" // too many streams at once
	ReasonSize    Reason = "size"    // the request is too long
	ReasonMemory  Reason = "memory"  // the resource manager allows no more
	ReasonInvalid Reason = "invalid" // the record is not valid for its key, is too long or older than the one kept, or the request makes no sense
	ReasonFull    Reason = "full"    // as many records or provider entries are kept as may be
)

// Event is one thing that happened.
type Event struct {
	Kind   EventKind
	Peer   peer.ID // who joined or was refused; empty: nobody in particular
	Reason Reason  // of Refused
	Err    error   // of BootFailed, and of Walked when it failed
	Table  int     // how many peers are in the table
	Walk   *Lookup // of Walked
}

// kinds is how many types of messages the protocol has.
const kinds = 6

// requestName is the word for a type of message.
func requestName(t pb.Message_MessageType) string {
	switch t {
	case pb.Message_PUT_VALUE:
		return requestPut
	case pb.Message_GET_VALUE:
		return requestGet
	case pb.Message_ADD_PROVIDER:
		return requestAddProvider
	case pb.Message_GET_PROVIDERS:
		return requestGetProviders
	case pb.Message_FIND_NODE:
		return requestFindNode
	case pb.Message_PING:
		return requestPing
	}
	return "unknown"
}

// The words for requests.
const (
	requestPut          = "put_value"
	requestGet          = "get_value"
	requestAddProvider  = "add_provider"
	requestGetProviders = "get_providers"
	requestFindNode     = "find_node"
	requestPing         = "ping"
)

// counters count requests since the start.
type counters struct {
	requests [kinds]atomic.Uint64 // by their type

	mu      sync.Mutex // guards refused
	refused map[Reason]uint64
}

func (c *counters) refuse(why Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[why]++
}

// served counts a request that is about to be handled.
func (s *Service) served(_ context.Context, st network.Stream, req *pb.Message) {
	if t := int(req.GetType()); t >= 0 && t < kinds {
		s.guard.counted.requests[t].Add(1)
	}
	if g, ok := st.(*guarded); ok {
		g.handled = req
	}
}

// Stats is what a node has done and holds.
type Stats struct {
	Mode      Mode              `json:"mode"`
	Table     int               `json:"table"` // peers in the routing table
	Walks     uint64            `json:"walks"` // random walks that ended
	Records   int               `json:"records"`
	Providers int               `json:"providers"` // entries: pairs of a key and a provider
	Requests  map[string]uint64 `json:"requests"`  // served since the start, by their kind
	Refused   map[Reason]uint64 `json:"refused"`   // not served, by the reason
}

// Stats counts.
func (s *Service) Stats() Stats {
	out := Stats{
		Mode: s.cfg.Mode, Table: s.dht.RoutingTable().Size(), Walks: s.walks.Load(),
		Requests: make(map[string]uint64), Refused: make(map[Reason]uint64),
	}
	if s.keeps != nil {
		out.Records, out.Providers = s.keeps.held()
	}
	counted := &s.guard.counted
	for i := range counted.requests {
		if n := counted.requests[i].Load(); n > 0 {
			out.Requests[requestName(pb.Message_MessageType(i))] = n
		}
	}
	counted.mu.Lock()
	defer counted.mu.Unlock()
	maps.Copy(out.Refused, counted.refused)
	return out
}
