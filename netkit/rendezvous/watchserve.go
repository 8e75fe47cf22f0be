package rendezvous

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"dibber/netkit/wire"
)

const (
	// watchPage is the budget of a snapshot's page. Many watchers may come
	// back at once.
	watchPage = 32 << 10
	// watchMemory is reserved for each watcher: a page and its encoding.
	watchMemory = 2*watchPage + maxRequest
	// watchWrite is how long a watcher may take to read a message.
	watchWrite = 30 * time.Second
	// defaultTimeout is that of a request.
	defaultTimeout = 10 * time.Second
)

var errWatchersClosed = errors.New("server closed")

// watchService serves watch streams.
type watchService struct {
	*hub
	s       *Server
	ctx     context.Context
	cancel  context.CancelFunc
	mu      sync.Mutex // guards closed against running
	closed  bool
	running sync.WaitGroup
}

func newWatchService(s *Server) *watchService {
	ctx, cancel := context.WithCancel(context.Background())
	return &watchService{hub: newHub(), s: s, ctx: ctx, cancel: cancel}
}

func (ws *watchService) count() int { return int(ws.total.Load()) }

// close ends every stream and waits for that.
func (ws *watchService) close() {
	ws.mu.Lock()
	ws.closed = true
	ws.cancel()
	ws.mu.Unlock()
	ws.running.Wait()
}

func (ws *watchService) enter() bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.closed {
		return false
	}
	ws.running.Add(1)
	return true
}

// handle serves one stream; it is a [network.StreamHandler].
func (ws *watchService) handle(st network.Stream) {
	if !ws.enter() {
		_ = st.ResetWithError(network.StreamShutdown)
		return
	}
	defer ws.running.Done()
	scope := st.Scope()
	if scope.SetService(ServiceName) != nil || scope.ReserveMemory(watchMemory, network.ReservationPriorityAlways) != nil {
		_ = st.ResetWithError(network.StreamResourceLimitExceeded)
		return
	}
	defer scope.ReleaseMemory(watchMemory)
	switch err := ws.serve(st); {
	case err == nil:
		_ = st.Close()
	case errors.Is(err, errWatchersClosed):
		_ = st.ResetWithError(network.StreamShutdown)
	default:
		_ = st.ResetWithError(network.StreamProtocolViolation)
	}
}

// serve reads the request and watches until the stream ends. A refusal is sent
// and is no error.
func (ws *watchService) serve(st network.Stream) error {
	timeout := ws.s.cfg.Timeout
	timeout = cmp.Or(timeout, defaultTimeout)
	if err := st.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	stop := context.AfterFunc(ws.ctx, func() { _ = st.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	v := &view{s: ws.s, st: st, peer: st.Conn().RemotePeer()}
	why, err := v.begin(ws.ctx)
	if err != nil {
		return ws.cause(err)
	}
	if why == nil {
		v.watcher = &watcher{peer: v.peer, ns: v.ns, size: ws.s.reg.limits.Load().WatchQueue, wake: make(chan struct{}, 1)}
		why = ws.join(v.watcher, ws.s.reg.limits.Load())
	}
	if why != nil {
		ws.s.refuse(v.peer, typeWatch, v.ns, why)
		return v.send((&watchMessage{kind: new(watchRefused), status: &why.Status, text: &why.Text}).encode())
	}
	defer ws.leave(v.watcher)
	ws.s.counters.count(typeWatch, StatusOK)
	ended := make(chan struct{})
	ws.running.Go(func() {
		defer close(ended)
		awaitEnd(st)
	})
	// The reader ends with the stream.
	defer func() { _ = st.SetReadDeadline(time.Unix(1, 0)) }()
	if err := st.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	return ws.cause(v.run(ws.ctx, ended))
}

// cause tells a stream ended by close from one that failed by itself.
func (ws *watchService) cause(err error) error {
	if ws.ctx.Err() != nil {
		return errWatchersClosed
	}
	return err
}

// awaitEnd returns when the watcher has closed its side, or said anything more,
// which it must not.
func awaitEnd(st network.Stream) { _, _ = st.Read(make([]byte, 1)) }

// begin reads the request, and refuses it where need be.
func (v *view) begin(ctx context.Context) (*StatusError, error) {
	body, err := wire.NewReader(v.st, maxRequest).Next()
	if err != nil {
		return nil, err
	}
	if why := v.s.admitRate(wire.Request{Peer: v.peer, Conn: v.st.Conn()}, typeDiscover); why != nil {
		return why, nil
	}
	var m watchRequest
	if err := m.decode(body); err != nil {
		return malformed(StatusInvalidNamespace, "malformed request"), nil
	}
	v.ns = *orEmpty(m.ns)
	v.flavours = min(*orEmpty(m.flavours), watchBoth)
	after, why := v.s.checkDiscover(ctx, v.peer, v.ns, m.cookie)
	v.after = after
	return why, nil
}
