package replicate

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// ErrUnsupported means that the peer does not take part in replication.
var ErrUnsupported = errors.New("peer does not speak " + string(Protocol))

// SyncConfig says how to bring a replica in step with that of a connected peer. The zero value gives and takes everything.
type SyncConfig struct {
	SessionConfig // Dialled, Peer and Limit are ignored
	// OnPath is told of each path taken, before anything is sent; nil means nobody.
	OnPath func(Path)
}

// Path is what carries a session.
type Path struct {
	Path string // direct or relayed
	Addr string
	// Limit is how many bytes a relay lets through each way, Left how many of them are left; zero means that there is no limit.
	Limit, Left uint64
}

// ErrRelayLimit means that a relay ended the session because it lets no more through.
var ErrRelayLimit = errors.New("the relay lets no more bytes through")

// maxPasses is how many sessions one call takes at most to come to an end: each must have brought something.
const maxPasses = 1000

// maxUnheard is how many sessions may be cut before the peer has said a word. Who dials several addresses at once takes the first
// connection that stands and gives up the others without a word; at the other end those stand too, until they are used.
const maxUnheard = 8

// Do brings a replica in step with that of a connected peer. A session that is cut goes on where it was as long as each attempt brings
// something; one on a relayed path moves to a direct one when there is one. The result is also good, as far as it goes, when there
// is an error.
func Do(ctx context.Context, n *host.Node, p peer.ID, r *Replica, cfg SyncConfig) (total Result, err error) {
	cfg.Dialled, cfg.Peer = true, string(p)
	total.Reconcile.Algo, total.Forks = "none", []Fork{}
	defer n.KeepAlive(p)() // a peer that died says nothing: it is found out within seconds
	unheard := 0
	for range maxPasses {
		conn, err := n.Dial(ctx, p, nil)
		if err != nil {
			return total, err
		}
		if better := n.Conns(p); len(better) > 0 {
			conn = better[0]
		}
		res, err := over(ctx, n, conn, r, cfg)
		total.add(res)
		moved := res.Pulled.Entries+res.Pushed.Entries > 0 || res.Pulled.Bytes > 0
		switch {
		case errors.Is(err, errBetter):
		case err != nil && ctx.Err() == nil && res.RootRemote == nil && Cut(err) && unheard < maxUnheard:
			unheard++
			if _, closed := errors.AsType[*network.ConnError](err); closed {
				_ = conn.Close() // else it is dialled again, and counts again, until the host has noticed
			}
		case err == nil && again(&res, cfg.SessionConfig, moved):
		case err == nil, ctx.Err() != nil, !Cut(err), !moved:
			return total, err
		}
	}
	return total, fmt.Errorf("no end after %d sessions", maxPasses)
}

// again reports whether a session that ended in order calls for another: it left something for later, or the cursor led nowhere.
func again(r *Result, cfg SessionConfig, moved bool) bool {
	if r.Converged || cfg.Compare || cfg.List || cfg.NoPull || cfg.NoPush {
		return false
	}
	if r.Refused > 0 || r.RefusedThere > 0 { // what came may have been a grant
		return moved
	}
	return moved || len(r.Forks) > 0 || r.Reconcile.Algo == Cursor.String()
}

// Cut reports whether an error says no more than that the connection ended before the session did.
func Cut(err error) bool {
	if errors.Is(err, ErrRelayLimit) {
		return false
	}
	if reset, ok := errors.AsType[*network.StreamError](err); ok {
		return reset.ErrorCode != network.StreamProtocolViolation
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	_, lost := errors.AsType[*network.ConnError](err)
	return lost || errors.Is(err, network.ErrReset) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// errBetter ends a session on a relayed path when there is a direct one.
var errBetter = errors.New("there is a direct path")

// over is one session on one connection.
func over(ctx context.Context, n *host.Node, conn network.Conn, r *Replica, cfg SyncConfig) (Result, error) {
	path := Path{Path: pathOf(conn), Addr: conn.RemoteMultiaddr().String()}
	use, limited := n.CircuitUse(conn)
	if limited {
		path.Limit, path.Left = use.Bytes, use.Bytes
		if use.Sent >= 0 {
			path.Left = use.Bytes - min(use.Bytes, uint64(max(use.Sent, use.Received)))
		}
	}
	if cfg.OnPath != nil {
		cfg.OnPath(path)
	}
	cfg.Limit = max(path.Left, min(path.Limit, 1)) // zero means that there is none
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if path.Path == relayed {
		stop := better(ctx, n, conn.RemotePeer(), cancel)
		defer stop()
	}
	st, err := n.OpenStream(ctx, conn, Protocol)
	if err != nil {
		return Result{}, fmt.Errorf("open stream: %w", err)
	}
	res, err := r.Run(ctx, st, cfg.SessionConfig)
	if err == nil {
		_ = st.Close() // all that was to be said was heard
		if res.Limited {
			err = fmt.Errorf("%w than %d each way", ErrRelayLimit, path.Limit)
		}
		return res, err
	}
	_ = st.Reset() // the first error is the one to tell
	if res.RootRemote == nil && ctx.Err() == nil {
		if ok, asked := n.Supports(ctx, conn, Protocol); asked == nil && !ok {
			return res, ErrUnsupported
		}
	}
	if now, ok := n.CircuitUse(conn); limited && ok && now.Bytes > 0 && Cut(err) && uint64(max(now.Sent, now.Received, 0))+nearlyUsed > now.Bytes {
		err = fmt.Errorf("%w than %d each way: %w", ErrRelayLimit, now.Bytes, err)
	}
	return res, err
}

// nearlyUsed is about how much of what a relay lets through may be left when it ends a circuit.
const nearlyUsed = 32 << 10

// better ends the context when a direct connection with a peer opens.
func better(ctx context.Context, n *host.Node, p peer.ID, cancel context.CancelCauseFunc) (stop func()) {
	changed, unwatch := n.Changes(p)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if conns := n.Conns(p); len(conns) > 0 && pathOf(conns[0]) == direct {
				cancel(errBetter)
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel(nil)
		<-ended
		unwatch()
	}
}

// The words of Path.Path.
const (
	direct  = "direct"
	relayed = "relayed"
)

func pathOf(conn network.Conn) string { return addr.Path(conn.RemoteMultiaddr()) }

// Toss decides which side of a stream that nobody dialled begins, with a coin on each side. Both call it before [Replica.Run].
func Toss(st Stream) (dialled bool, err error) {
	for {
		var own, other [16]byte
		_, _ = rand.Read(own[:]) // never fails (crypto/rand)
		if _, err := st.Write(own[:]); err != nil {
			return false, fmt.Errorf("toss: %w", err)
		}
		if err := st.SetReadDeadline(time.Now().Add(idle)); err != nil {
			return false, fmt.Errorf("toss: %w", err)
		}
		if _, err := io.ReadFull(st, other[:]); err != nil {
			return false, fmt.Errorf("toss: %w", err)
		}
		if c := bytes.Compare(own[:], other[:]); c != 0 {
			return c > 0, nil
		}
	}
}
