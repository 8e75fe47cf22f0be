package gossip

import (
	"errors"
	"fmt"

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
	err = fields(frame, func(n protowire.Number, value []byte) error {
		switch n {
		case fieldSubscription:
			p.subscriptions++
		case fieldMessage:
			p.messages++
		case fieldControl:
			return p.control(value)
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
	return fields(body, func(n protowire.Number, value []byte) error {
		p.entries++
		switch n {
		case fieldIHave:
			return p.named(value, 2)
		case fieldIWant, fieldIDontWant:
			return p.named(value, 1)
		case fieldPrune:
			return fields(value, func(n protowire.Number, _ []byte) error {
				if n == fieldPrunedPeers {
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
	return fields(body, func(n protowire.Number, _ []byte) error {
		if n == field {
			p.ids++
		}
		return p.within()
	})
}

// fields calls f for each field of a protobuf message; value is nil for those that are no bytes.
func fields(body []byte, f func(n protowire.Number, value []byte) error) error {
	for len(body) > 0 {
		n, kind, size := protowire.ConsumeTag(body)
		if size < 0 {
			return fmt.Errorf("frame of gossip: %w", protowire.ParseError(size))
		}
		body = body[size:]
		var value []byte
		if kind == protowire.BytesType {
			value, size = protowire.ConsumeBytes(body)
		} else {
			size = protowire.ConsumeFieldValue(n, kind, body)
		}
		if size < 0 {
			return fmt.Errorf("frame of gossip: %w", protowire.ParseError(size))
		}
		body = body[size:]
		if err := f(n, value); err != nil {
			return err
		}
	}
	return nil
}
