package rendezvous

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// WatchProtocolID is the libp2p protocol id of the push stream; the package
// comment describes it.
const WatchProtocolID = "/dibber/rendezvous/watch/1.0.0"

// Fields of the watch request.
const (
	fieldWatchNS       = 1
	fieldWatchCookie   = 2
	fieldWatchFlavours = 3
)

// Fields of a watch message.
const (
	fieldWatchType          = 1
	fieldWatchStatus        = 2
	fieldWatchStatusText    = 3
	fieldWatchRegistrations = 4
	fieldWatchNextCookie    = 5
	fieldWatchSeq           = 6
	fieldWatchGoneNS        = 7
	fieldWatchGonePeer      = 8
)

// watchFlavours is the flavours a watcher asks for.
type watchFlavours uint64

const (
	watchStandard watchFlavours = 0
	watchLegacy   watchFlavours = 1
	watchBoth     watchFlavours = 2
)

func (f watchFlavours) choice() choice {
	return choice{flavour: Flavour(f & 1), both: f == watchBoth}
}

type watchRequest struct {
	ns       *string
	cookie   []byte
	flavours *watchFlavours
}

func (r *watchRequest) encode() []byte {
	out := appendString(nil, fieldWatchNS, r.ns)
	out = appendBytes(out, fieldWatchCookie, r.cookie)
	return appendUint(out, fieldWatchFlavours, r.flavours)
}

func (r *watchRequest) decode(data []byte) error {
	return walk(data, func(num protowire.Number, typ protowire.Type, value []byte) (int, error) {
		switch num {
		case fieldWatchNS:
			return consumeString(typ, value, &r.ns)
		case fieldWatchCookie:
			return consumeBytes(typ, value, &r.cookie)
		case fieldWatchFlavours:
			return consumeUint(typ, value, &r.flavours)
		default:
			return 0, nil
		}
	})
}

// watchType is the type of a watch message.
type watchType uint64

const (
	watchRefused  watchType = 0
	watchSnapshot watchType = 1
	watchSynced   watchType = 2
	watchAdd      watchType = 3
	watchRefresh  watchType = 4
	watchRemove   watchType = 5
	watchExpire   watchType = 6
	watchResync   watchType = 7
)

type watchMessage struct {
	kind   *watchType
	status *Status
	text   *string
	// entries are the registrations as they come; encoded are those to send.
	entries discoverResponse
	encoded []byte
	cookie  []byte
	seq     *uint64
	ns      *string
	peer    *string
}

func (m *watchMessage) encode() []byte {
	out := appendUint(nil, fieldWatchType, m.kind)
	out = appendUint(out, fieldWatchStatus, m.status)
	out = appendString(out, fieldWatchStatusText, m.text)
	out = append(out, m.encoded...)
	out = appendBytes(out, fieldWatchNextCookie, m.cookie)
	out = appendUint(out, fieldWatchSeq, m.seq)
	out = appendString(out, fieldWatchGoneNS, m.ns)
	return appendString(out, fieldWatchGonePeer, m.peer)
}

func (m *watchMessage) decode(data []byte) error {
	return walk(data, func(num protowire.Number, typ protowire.Type, value []byte) (int, error) {
		switch num {
		case fieldWatchType:
			return consumeUint(typ, value, &m.kind)
		case fieldWatchStatus:
			return consumeUint(typ, value, &m.status)
		case fieldWatchStatusText:
			return consumeString(typ, value, &m.text)
		case fieldWatchRegistrations:
			return m.entries.decodeEntry(typ, value)
		case fieldWatchNextCookie:
			return consumeBytes(typ, value, &m.cookie)
		case fieldWatchSeq:
			return consumeUint(typ, value, &m.seq)
		case fieldWatchGoneNS:
			return consumeString(typ, value, &m.ns)
		case fieldWatchGonePeer:
			return consumeRaw(typ, value, &m.peer)
		default:
			return 0, nil
		}
	})
}
