// Package p2panda speaks the replication protocol of aquadoggo 0.8 as it is on the
// wire: each side announces for which schemas it has data, asks for those that both
// have, tells how far each log of them goes, and sends the entries that the other
// lacks.
//
// A session tells both sides' heights and sends what is lacking; there is no message for errors, and no end to a session
// that one side has dropped. So a [Service] gives up sessions that do not go on, with their connection, on which
// the peer would hold them for unfinished for ever.
//
// It knows no schemas. Which document and schema a log is of follows from its operations; what comes in is proven and
// stored in a [Store], and goes out again to whoever lacks it, in an order and to an extent that a node takes: one that
// meets an entry it does not take drops the session and says nothing.
//
// The sources are those of aquadoggo 0.8.0 (replication/message.rs, manager.rs,
// strategies/log_height.rs, network/peers/handler.rs); where the handbook differs the code
// is followed, since that is who answers.
package p2panda

import (
	"errors"
	"fmt"

	"dibber/netkit/bamboo"

	"github.com/fxamacker/cbor/v2"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// ProtocolID is the protocol's name. Each side opens one stream on a connection, on which
// it only writes, and reads on the one that the other opened.
const ProtocolID protocol.ID = "/p2p/p2panda/1.0.0"

// Version is that of announcements. Others are ignored.
const Version = 1

// LogHeight is the only mode that nodes accept.
const LogHeight = 0

// ErrMessage is returned for what is not a message of the protocol. A node closes the stream on it.
var ErrMessage = errors.New("malformed message")

// The first item of a message.
const (
	typeAnnounce    = 0
	typeSyncRequest = 1
	typeEntry       = 2
	typeSyncDone    = 3
	typeHave        = 10
)

// Message is one of [Announce], [SyncRequest], [Have], [Entry] and [SyncDone].
type Message interface{ items() []any }

// Announce tells for which schemas a node has, or wants, data.
type Announce struct {
	Version uint64
	// Timestamp is when the set changed, in seconds since 1970. Of a connection's announcements
	// the one with the greatest counts.
	Timestamp uint64
	Schemas   []string
}

// SyncRequest asks to begin a session.
type SyncRequest struct {
	Session uint64
	Mode    uint64
	Schemas []string // at least one
}

// Have tells what logs a node has of the session's schemas.
type Have struct {
	Session uint64
	Heights []AuthorHeights
}

// AuthorHeights are the logs of one author.
type AuthorHeights struct {
	Author bamboo.Author
	Logs   []Height
}

// Height is the number of the last entry of a log, at least 1.
type Height struct{ Log, Seq uint64 }

// Entry carries one entry with its operation, without which a node would break.
type Entry struct {
	Session          uint64
	Entry, Operation []byte
}

// SyncDone tells that there is nothing more to send in a session.
type SyncDone struct {
	Session uint64
	Live    bool // always false
}

func (m Announce) items() []any {
	return []any{uint64(typeAnnounce), m.Version, m.Timestamp, list(m.Schemas)}
}

func (m SyncRequest) items() []any {
	return []any{uint64(typeSyncRequest), m.Session, m.Mode, list(m.Schemas)}
}

func (m Entry) items() []any {
	return []any{uint64(typeEntry), m.Session, m.Entry, m.Operation}
}

func (m SyncDone) items() []any { return []any{uint64(typeSyncDone), m.Session, m.Live} }

func (m Have) items() []any {
	heights := make([]any, 0, len(m.Heights))
	for _, a := range m.Heights {
		logs := make([][2]uint64, 0, len(a.Logs))
		for _, h := range a.Logs {
			logs = append(logs, [2]uint64{h.Log, h.Seq})
		}
		heights = append(heights, []any{a.Author[:], logs})
	}
	return []any{uint64(typeHave), m.Session, heights}
}

// list is never null, as a nil slice would be.
func list(ids []string) []string { return append([]string{}, ids...) }

// Encode returns a message as it is written: one array, with nothing before or behind it.
func Encode(m Message) ([]byte, error) {
	switch m := m.(type) {
	case Announce:
		if err := checkSet(m.Schemas); err != nil {
			return nil, err
		}
	case SyncRequest:
		if err := checkRequest(m); err != nil {
			return nil, err
		}
	case Entry:
		if len(m.Operation) == 0 {
			return nil, fmt.Errorf("%w: an entry without its operation", ErrMessage)
		}
	}
	return cbor.Marshal(m.items())
}

func checkRequest(m SyncRequest) error {
	if len(m.Schemas) == 0 {
		return fmt.Errorf("%w: none in a request", ErrSchemas)
	}
	return checkSet(m.Schemas)
}

// Decode reads one message, whole and nothing behind it.
func Decode(data []byte) (Message, error) {
	var items []cbor.RawMessage
	if err := decode(data, &items); err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, fmt.Errorf("%w: empty array", ErrMessage)
	}
	var kind uint64
	if err := decode(items[0], &kind); err != nil {
		return nil, err
	}
	d := decoder{items: items[1:]}
	switch kind {
	case typeAnnounce:
		m := Announce{Version: d.number(), Timestamp: d.number(), Schemas: d.schemas()}
		return m, d.end(checkSet(m.Schemas))
	case typeSyncRequest:
		m := SyncRequest{Session: d.number(), Mode: d.number(), Schemas: d.schemas()}
		if d.err != nil {
			return nil, d.err
		}
		return m, d.end(checkRequest(m))
	case typeEntry:
		m := Entry{Session: d.number(), Entry: d.bytes(), Operation: d.bytes()}
		return m, d.end(nil)
	case typeSyncDone:
		m := SyncDone{Session: d.number(), Live: d.bool()}
		return m, d.end(nil)
	case typeHave:
		m := Have{Session: d.number(), Heights: d.heights()}
		return m, d.end(nil)
	}
	return nil, fmt.Errorf("%w: unknown type %d", ErrMessage, kind)
}
