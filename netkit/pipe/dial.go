package pipe

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Protocol carries one session on each stream; see the package.
const Protocol protocol.ID = "/dibber/pipe/1.0.0"

// ErrUnsupported means that the peer does not take pipes.
var ErrUnsupported = errors.New("peer does not speak " + string(Protocol))

// Config tunes pipes. The zero value works.
type Config struct {
	// Window is how many bytes each side keeps that the other has not consumed; 0
	// means 1 MiB.
	Window int
	// Patience is how long a session outlives its connection; 0 means 30 s.
	Patience time.Duration
	// On is told of each path that a session takes; nil tells nobody. It must not
	// block.
	On func(PathChange)
}

// PathChange is the path that carries a session from now on.
type PathChange struct {
	Peer peer.ID `json:"peer"`
	Path string  `json:"path"` // direct, relayed, or none while there is no connection
	Addr string  `json:"addr"` // of the peer; empty for none
}

const (
	defaultWindow   = 1 << 20
	defaultPatience = 30 * time.Second
	// helloTimeout bounds the first frames of a stream.
	helloTimeout = 10 * time.Second
	// redialPause is the first wait after a failed attempt to get a connection back;
	// it doubles up to redialMost.
	redialPause = 250 * time.Millisecond
	redialMost  = 4 * time.Second
)

func (c Config) withDefaults() Config {
	if c.Window == 0 {
		c.Window = defaultWindow
	}
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	return c
}

func (c Config) tell(p peer.ID, at network.Conn) {
	if c.On == nil {
		return
	}
	if at == nil {
		c.On(PathChange{Peer: p, Path: "none"})
		return
	}
	remote := at.RemoteMultiaddr()
	c.On(PathChange{Peer: p, Path: addr.Path(remote), Addr: remote.String()})
}

// Dial begins a session with the connected peer p. The session follows the best
// connection with it, and dials p anew when there is none; ctx ends it. The caller
// closes it, and calls Wait before the host is closed.
func Dial(ctx context.Context, n *host.Node, to peer.AddrInfo, cfg Config) (*Session, error) {
	cfg = cfg.withDefaults()
	var id sessionID
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	d := &dialler{n: n, to: to, cfg: cfg, s: newSession(id, cfg.Window)}
	conn, err := n.Dial(ctx, to.ID, to.Addrs)
	if err != nil {
		return nil, err
	}
	first, err := d.open(ctx, conn)
	if err != nil {
		return nil, err
	}
	d.s.running.Go(func() { d.run(ctx, first) })
	return d.s, nil
}

// dialler keeps a session on the best connection.
type dialler struct {
	n   *host.Node
	to  peer.AddrInfo
	cfg Config
	s   *Session
}

// opened is a stream whose first frames are said.
type opened struct {
	stream   network.Stream
	conn     network.Conn
	frames   *wire.Reader
	received uint64
}

// open opens a stream on conn and says hello. The session leaves the stream before.
func (d *dialler) open(ctx context.Context, conn network.Conn) (opened, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	st, err := d.n.OpenStream(ctx, conn, Protocol)
	if err != nil {
		return opened{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer stop()
	o := opened{stream: st, conn: conn, frames: wire.NewReader(st, maxFrame)}
	err = wire.WriteFrame(st, encodeHello(d.s.id, d.s.leave()), maxHello)
	if err == nil {
		var frame []byte
		if frame, err = o.frames.Next(); err == nil {
			o.received, err = decodeCount(frame)
		}
	}
	if err == nil {
		return o, nil
	}
	_ = st.Reset() // the first error is the one to tell
	if ok, asked := d.n.Supports(ctx, conn, Protocol); asked == nil && !ok {
		return opened{}, ErrUnsupported
	}
	return opened{}, fmt.Errorf("open pipe to %s: %w", d.to.ID, err)
}

// run carries the session until it is over.
func (d *dialler) run(ctx context.Context, next opened) {
	stop := context.AfterFunc(ctx, func() { d.s.fail(context.Cause(ctx)) })
	defer stop()
	changed, unwatch := d.n.Changes(d.to.ID)
	defer unwatch()
	defer d.n.KeepAlive(d.to.ID)()
	for {
		d.cfg.tell(d.to.ID, next.conn)
		ended := make(chan struct{})
		var carrying sync.WaitGroup
		carrying.Go(func() {
			defer close(ended)
			_ = d.s.attach(next.stream, next.frames, next.received, spareOn(d.n, next.conn)) // the session keeps the error
		})
		better, ok := d.better(ctx, next.conn, changed, ended)
		if !ok {
			carrying.Wait()
			if d.s.over() {
				return
			}
			d.cfg.tell(d.to.ID, nil)
			if better, ok = d.again(ctx); !ok {
				d.s.fail(ErrLost)
				return
			}
		}
		carrying.Wait()
		next = better
	}
}

// better waits for a better connection than conn and opens a stream on it; false when
// the stream on conn ended before.
func (d *dialler) better(ctx context.Context, conn network.Conn, changed <-chan struct{}, ended <-chan struct{}) (opened, bool) {
	for {
		if conns := d.n.Conns(d.to.ID); len(conns) > 0 && addr.IsRelayed(conn.RemoteMultiaddr()) && !addr.IsRelayed(conns[0].RemoteMultiaddr()) {
			if o, err := d.open(ctx, conns[0]); err == nil {
				return o, true
			}
		}
		select {
		case <-changed:
		case <-ended:
			return opened{}, false
		}
	}
}

// again gets a connection back, within the session's patience.
func (d *dialler) again(ctx context.Context) (opened, bool) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Patience)
	defer cancel()
	for wait := redialPause; ctx.Err() == nil; wait = min(2*wait, redialMost) {
		if conn, err := d.n.Dial(ctx, d.to.ID, d.to.Addrs); err == nil {
			if o, err := d.open(ctx, conn); err == nil {
				return o, true
			}
		}
		host.Pause(ctx, wait)
	}
	return opened{}, false
}
