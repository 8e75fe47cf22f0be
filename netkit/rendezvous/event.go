package rendezvous

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// EventKind says what happened at a server.
type EventKind string

// What a server reports.
const (
	// EventRegister is a new registration.
	EventRegister EventKind = "register"
	// EventRefresh is a registration renewed before it expired.
	EventRefresh EventKind = "refresh"
	// EventUnregister is a registration ended by its peer.
	EventUnregister EventKind = "unregister"
	// EventEvict is a registration that had to make room for another.
	EventEvict EventKind = "evict"
	// EventExpire is a registration whose TTL ran out.
	EventExpire EventKind = "expire"
	// EventDiscover is an answered DISCOVER.
	EventDiscover EventKind = "discover"
	// EventRefused is a request answered with another status than OK.
	EventRefused EventKind = "refused"
	// EventAway is a shared registry that cannot be used, and EventBack one that can again. They
	// are about no peer; Text is the cause.
	EventAway EventKind = "away"
	EventBack EventKind = "back"
)

// Event is something that happened at a server.
type Event struct {
	// Kind says what happened.
	Kind EventKind `json:"kind"`
	// Peer is who asked, or whose registration expired; empty for none.
	Peer peer.ID `json:"peer"`
	// Namespace is the one concerned; empty for all, or when unknown.
	Namespace string `json:"namespace"`
	// TTL is what was granted, on register and refresh.
	TTL time.Duration `json:"-"`
	// Count is how many registrations a discover was answered with.
	Count int `json:"count"`
	// Took is how long the server worked on the request, up to its answer being
	// made, on register, refresh and discover; what is on disk by then counts.
	Took time.Duration `json:"-"`
	// Status and Text are the answer of a refused request.
	Status Status `json:"status"`
	Text   string `json:"text,omitempty"`
}
