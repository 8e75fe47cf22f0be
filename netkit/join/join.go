// Package join lets peers in that show a join token (package invite), and shows one.
//
// Its protocol, /dibber/join/1.0.0, is one exchange of frames of netkit/wire on a stream: the token's body and signature, answered by
// a status byte; for a token that was taken until when, in seconds since 1970 as 8 bytes, big endian; else a reason in UTF-8. A peer
// that no list lets in is connected for as long as that takes (host.Door), and speaks nothing else meanwhile.
package join

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/invite"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
)

// Protocol carries tokens.
const Protocol protocol.ID = "/dibber/join/1.0.0"

var (
	// ErrForeign means that a token is of another node than the one that it was shown to.
	ErrForeign = errors.New("the join token is of another node")
	// ErrUnsupported means that a node takes no tokens.
	ErrUnsupported = errors.New("the peer takes no join tokens")
	// ErrUnreachable means that who made a token is at none of its addresses.
	ErrUnreachable = errors.New("the node of the join token cannot be reached")
	// ErrBusy means that too many tokens come at once.
	ErrBusy = errors.New("too many tokens are shown there at the moment")
	// ErrRefused means that a token was refused for a reason that has no word here.
	ErrRefused = errors.New("the peer refused the join token")
)

// The status byte of an answer.
const (
	taken byte = iota
	malformed
	tampered
	foreign
	expired
	revoked
	unknown
	full
	busy
)

// statuses are the errors behind the status bytes.
func statuses() map[byte]error {
	return map[byte]error{
		malformed: invite.ErrFormat, tampered: invite.ErrSignature, foreign: ErrForeign, expired: invite.ErrExpired,
		revoked: invite.ErrRevoked, unknown: invite.ErrUnknown, full: invite.ErrFull, busy: ErrBusy,
	}
}

// maxReply is the most bytes of an answer.
const maxReply = 1 + 256

// Result is what came of showing a token.
type Result struct {
	ID      invite.ID `json:"id"`
	Peer    peer.ID   `json:"peer"` // who invited
	Until   time.Time `json:"until"`
	Addr    string    `json:"addr"` // where it was shown
	Expires time.Time `json:"expires"`
}

// Do shows a token to the node that made it, and returns when that lets this one in. It fails with an error of package invite,
// ErrForeign, ErrBusy, ErrRefused, ErrUnsupported or ErrUnreachable.
func Do(ctx context.Context, n *host.Node, text string) (r Result, err error) {
	t, err := invite.Parse(text)
	if err != nil {
		return r, err
	}
	if err := t.InTime(time.Now()); err != nil {
		return r, err
	}
	r = Result{ID: t.ID, Peer: t.Peer, Expires: t.Expires}
	raw, err := invite.Bytes(text)
	if err != nil {
		return r, err
	}
	c, err := reach(ctx, n, t)
	if err != nil {
		return r, fmt.Errorf("show the join token: %w", err)
	}
	defer func() { _ = c.Close() }() // all was said
	r.Addr = c.RemoteMultiaddr().String()
	st, err := n.OpenOn(ctx, c, Protocol)
	if err != nil {
		return r, fmt.Errorf("show the join token: %w", err)
	}
	reply, err := wire.Exchange(ctx, st, raw, maxReply)
	switch {
	case ctx.Err() != nil:
		return r, ctx.Err()
	case err != nil && !c.IsClosed():
		return r, fmt.Errorf("%w: %w", ErrUnsupported, err)
	case err != nil:
		return r, fmt.Errorf("show the join token to %s: %w: %w", t.Peer, ErrRefused, err)
	case len(reply) == 9 && reply[0] == taken:
		r.Until = time.Unix(int64(binary.BigEndian.Uint64(reply[1:])), 0).UTC()
		return r, nil
	case len(reply) > 0 && statuses()[reply[0]] != nil:
		return r, fmt.Errorf("%s says: %w", t.Peer, statuses()[reply[0]])
	}
	return r, ErrRefused
}

// reach connects with who made a token, past the host's network: there, identify would speak first, for which a stranger is shown out.
func reach(ctx context.Context, n *host.Node, t invite.Token) (transport.CapableConn, error) {
	var failed []error
	for _, a := range t.Addrs {
		found := n.Resolve(ctx, t.Peer, a)
		if found.Err != nil {
			failed = append(failed, found.Err)
		}
		for _, at := range found.Addrs {
			if !n.CanDial(at) {
				continue
			}
			c, err := n.DialAddr(ctx, t.Peer, at)
			if err == nil {
				return c, nil
			}
			failed = append(failed, fmt.Errorf("%s: %w", at, err))
		}
	}
	var other sec.ErrPeerIDMismatch
	if err := errors.Join(failed...); errors.As(err, &other) {
		return nil, fmt.Errorf("%w: where it says that %s is, %s answers", ErrForeign, t.Peer, other.Actual)
	}
	if len(failed) == 0 {
		return nil, fmt.Errorf("%w: it has no address that this host can dial", ErrUnreachable)
	}
	return nil, fmt.Errorf("%w: %w", ErrUnreachable, errors.Join(failed...))
}
