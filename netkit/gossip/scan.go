package gossip

import (
	"errors"

	"dibber/netkit/wire"

	"google.golang.org/protobuf/encoding/protowire"
)

// errTooMany means that a frame has more parts than a peer in its right mind puts into one.
var errTooMany = errors.New("too many parts in one frame")

// The most parts of a frame. Each becomes a structure in memory, of which a message takes some 200 bytes and an id 40, while on the
// wire two bytes are enough for either. Implementations announce at most 5,000 messages of a topic at a time.
const (
	maxEntries = 5000   // subscriptions, messages, grafts, prunes and the peers in them
	maxIDs     = 25_000 // ids announced, wanted or not wanted
)

// The fields of gossipsub's frame (rpc.proto of the specification).
const (
	fieldSubscription = 1 // of RPC
	fieldMessage      = 2
	fieldControl      = 3
	fieldIHave        = 1 // of ControlMessage
	fieldIWant        = 2
	fieldGraft        = 3
	fieldPrune        = 4
	fieldIDontWant    = 5
	fieldPrunedPeers  = 2 // of ControlPrune
)

// parts counts what is in a frame.
type parts struct {
	subscriptions, messages, entries, ids int
}

// scan counts the parts of a frame without taking memory for them. It fails for what is no frame, or has too many.
func scan(frame []byte) (p parts, err error) {
	err = wire.Fields(frame, func(f wire.Field) error {
		switch f.Num {
		case fieldSubscription:
			p.subscriptions++
		case fieldMessage:
			p.messages++
		case fieldControl:
			return p.control(f.Bytes)
		default: // costs no more than its bytes
		}
		return p.within()
	})
	return p, err
}

func (p *parts) within() error {
	if p.subscriptions+p.messages+p.entries > maxEntries || p.ids > maxIDs {
		return errTooMany
	}
	return nil
}

func (p *parts) control(body []byte) error {
	return wire.Fields(body, func(f wire.Field) error {
		p.entries++
		switch f.Num {
		case fieldIHave:
			return p.named(f.Bytes, 2)
		case fieldIWant, fieldIDontWant:
			return p.named(f.Bytes, 1)
		case fieldPrune:
			return wire.Fields(f.Bytes, func(f wire.Field) error {
				if f.Num == fieldPrunedPeers {
					p.entries++
				}
				return p.within()
			})
		default:
		}
		return p.within()
	})
}

// named counts the ids in a list of them.
func (p *parts) named(body []byte, field protowire.Number) error {
	return wire.Fields(body, func(f wire.Field) error {
		if f.Num == field {
			p.ids++
		}
		return p.within()
	})
}
