package rendezvous

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"dibber/netkit/wire"
)

// WatchRequest says what to watch.
type WatchRequest struct {
	// Namespace to watch; empty watches all.
	Namespace string
	// Cookie of an earlier watch or DISCOVER at the same server, in the same
	// namespace, begins with what came after it; nil begins with everything.
	// What went in between is not told: it ends with its TTL.
	Cookie []byte
	// Format chooses the flavours of records asked for; FormatAuto is both.
	Format Format
}

// WatchKind says what a watched server reports.
type WatchKind string

// What a watch reports.
const (
	// WatchSnapshot is registrations that are there.
	WatchSnapshot WatchKind = "snapshot"
	// WatchSynced is the end of a snapshot: what follows are changes.
	WatchSynced WatchKind = "synced"
	// WatchAdd is a new registration.
	WatchAdd WatchKind = "add"
	// WatchRefresh is a registration renewed, maybe with other addresses.
	WatchRefresh WatchKind = "refresh"
	// WatchRemove is a registration ended by its peer or by the server.
	WatchRemove WatchKind = "remove"
	// WatchExpire is a registration whose TTL ran out.
	WatchExpire WatchKind = "expire"
	// WatchResync is that changes were lost, because they were not read as
	// fast as they came. Another snapshot follows.
	WatchResync WatchKind = "resync"
)

// WatchEvent is something a watched server reports.
type WatchEvent struct {
	// Kind says what it is.
	Kind WatchKind `json:"kind"`
	// Entries are the registrations of a snapshot, add or refresh, the
	// host's own left out.
	Entries []Entry `json:"entries,omitempty"`
	// Skipped is how many more there were that were broken or not signed by
	// their peer.
	Skipped int `json:"skipped"`
	// Namespace and Peer are those of a registration that went.
	Namespace string  `json:"namespace,omitempty"`
	Peer      peer.ID `json:"peer,omitempty"`
	// Seq is the change's place in the server's order; 0 when it is none.
	Seq uint64 `json:"seq"`
	// Cookie asks the same server for what comes after this; nil when the
	// event has none, and the one before still holds.
	Cookie []byte `json:"cookie,omitempty"`
	// Full is set on a resync that shows everything there is: what it does
	// not show is gone. Otherwise nothing that went was lost.
	Full bool `json:"full"`
	// own is set when the host's own registration was among those left out.
	own bool
}

// Watch has a server report the registrations of a namespace, those there are
// and then each change, to on, which it calls from its own goroutine, until ctx
// ends or the stream does: it never returns nil. The error wraps
// [ErrUnsupported] when the server lacks [WatchProtocolID], so that the caller
// asks with [Discover] instead, and is a [*StatusError] when the server refused;
// with [StatusInvalidCookie] the cookie is to be dropped.
func Watch(ctx context.Context, h host.Host, server peer.AddrInfo, req WatchRequest, on func(WatchEvent)) error {
	st, err := openProtocol(ctx, h, server, WatchProtocolID)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer stop()
	err = watch(ctx, h.ID(), st, req, on)
	_ = st.Reset()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return fmt.Errorf("watch: %w", unsupported(err))
}

func watch(ctx context.Context, self peer.ID, st network.Stream, req WatchRequest, on func(WatchEvent)) error {
	body := watchRequest{cookie: req.Cookie, flavours: new(watchBoth)}
	switch req.Format {
	case FormatStandard:
		body.flavours = new(watchStandard)
	case FormatLegacy:
		body.flavours = new(watchLegacy)
	case FormatAuto: // both
	}
	if req.Namespace != "" {
		body.ns = &req.Namespace
	}
	frame := body.encode()
	if err := st.SetWriteDeadline(time.Now().Add(watchWrite)); err != nil {
		return err
	}
	if err := wire.WriteFrame(st, frame, len(frame)); err != nil {
		return fmt.Errorf("send request: %w", err)
	}
	for frames := wire.NewReader(st, maxReply); ctx.Err() == nil; {
		frame, err := frames.Next()
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		e, err := readWatch(self, req.Namespace, frame)
		if err != nil {
			return err
		}
		on(e)
	}
	return ctx.Err()
}

// readWatch reads a message.
func readWatch(self peer.ID, ns string, frame []byte) (WatchEvent, error) {
	var m watchMessage
	if err := m.decode(frame); err != nil {
		return WatchEvent{}, fmt.Errorf("%w: %w", ErrMalformedReply, err)
	}
	switch {
	case m.kind == nil:
		return WatchEvent{}, fmt.Errorf("%w: no type", ErrMalformedReply)
	case *m.kind == watchRefused:
		if err := statusOf(m.status, m.text); err != nil {
			return WatchEvent{}, err
		}
		return WatchEvent{}, fmt.Errorf("%w: refused with status OK", ErrMalformedReply)
	}
	page := readPage(self, ns, &m.entries)
	e := WatchEvent{
		Kind: m.kind.word(), Entries: page.Entries, Skipped: page.Skipped, Cookie: bytes.Clone(m.cookie),
		Namespace: *orEmpty(m.ns), Peer: peer.ID(*orEmpty(m.peer)), Seq: *orEmpty(m.seq), own: page.own,
	}
	switch e.Kind {
	case "":
		return e, fmt.Errorf("%w: message of type %d", ErrMalformedReply, *m.kind)
	case WatchRemove, WatchExpire:
		if e.Peer.Validate() != nil || e.Namespace == "" {
			return e, fmt.Errorf("%w: %s of nobody", ErrMalformedReply, e.Kind)
		}
	case WatchResync:
		e.Full = len(e.Cookie) == 0
	default: // the entries say it
	}
	return e, nil
}

// word is the kind of event a message is, "" for none.
func (t watchType) word() WatchKind {
	switch t {
	case watchSnapshot:
		return WatchSnapshot
	case watchSynced:
		return WatchSynced
	case watchAdd:
		return WatchAdd
	case watchRefresh:
		return WatchRefresh
	case watchRemove:
		return WatchRemove
	case watchExpire:
		return WatchExpire
	case watchResync:
		return WatchResync
	default:
		return ""
	}
}
