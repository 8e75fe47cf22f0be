package rendezvous

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"

	"dibber/netkit/retry"
)

// QuickDebounce is a Debounce for hosts that were just started: their addresses
// come within seconds of each other and should be found soon.
const QuickDebounce = 5 * time.Second

// RegistrarConfig sets up a [Registrar]. Server and Namespace are required.
type RegistrarConfig struct {
	// Server is where to register.
	Server peer.AddrInfo
	// Namespace is where to register in, 1 to 255 bytes.
	Namespace string
	// TTL is how long to ask for, in whole seconds; zero leaves it to the
	// server.
	TTL time.Duration
	// Addrs returns the addresses worth announcing now. While there are none
	// the registrar stays connected to the server and waits. It is called
	// again after each event that may change them, and after Poke. Nil means
	// the host's addresses.
	Addrs func() []ma.Multiaddr
	// Format chooses the flavours of the record.
	Format Format
	// Debounce is the least time between two registrations because of changed
	// addresses; zero means 30 s.
	Debounce time.Duration
	// FirstRetry and LastRetry are the ends of the exponential back-off after
	// failures and lost connections; zero means those of package retry.
	FirstRetry time.Duration
	LastRetry  time.Duration
	// Timeout bounds each step of an attempt, connecting and registering; zero
	// means retry.Attempt.
	Timeout time.Duration
	// Sealer is what the registrars of the host at this server share; nil is one
	// that no other has.
	Sealer *Sealer
	// CloseTimeout bounds the unregistering in Close; zero means 3 s.
	CloseTimeout time.Duration
	// On is told of events, one at a time; nil tells nobody. It must not call
	// Close.
	On func(RegistrarEvent)
}

// RegistrarEventKind says what happened to a registration.
type RegistrarEventKind string

// What a registrar reports.
const (
	// RegistrarRegistered is a first registration, or one after a lapse or loss.
	RegistrarRegistered RegistrarEventKind = "registered"
	// RegistrarRefreshed is a registration renewed in time.
	RegistrarRefreshed RegistrarEventKind = "refreshed"
	// RegistrarLost is a registration that the server may have no more: the
	// connection ended, or the server was seen without it. Another attempt follows.
	RegistrarLost RegistrarEventKind = "lost"
	// RegistrarWaiting is a server reached while there is no address to
	// register.
	RegistrarWaiting RegistrarEventKind = "waiting"
	// RegistrarFailed is a failed attempt to connect or register.
	RegistrarFailed RegistrarEventKind = "failed"
	// RegistrarUnregistered is the end of a registration in Close; with an
	// error when the server could not be told.
	RegistrarUnregistered RegistrarEventKind = "unregistered"
)

// RegistrarEvent is something that happened to a registration.
type RegistrarEvent struct {
	// Kind says what happened.
	Kind RegistrarEventKind `json:"kind"`
	// Server is the rendezvous server.
	Server peer.ID `json:"server"`
	// Namespace is where the registration is.
	Namespace string `json:"namespace"`
	// Addrs are the addresses registered.
	Addrs []ma.Multiaddr `json:"addrs,omitempty"`
	// TTL is what the server granted.
	TTL time.Duration `json:"-"`
	// Next is how long until the next attempt; zero when none is planned.
	Next time.Duration `json:"-"`
	// Err is why it failed, or was lost.
	Err error `json:"-"`
}

// Registrar keeps a peer registered at a server: it registers as soon as there
// are addresses, refreshes in time and after changes, and comes back after the
// server or the connection was lost.
type Registrar struct {
	host   host.Host
	cfg    RegistrarConfig
	keeper *keeper
	events event.Subscription
	cancel context.CancelFunc
	loops  sync.WaitGroup
	close  sync.Once

	mu    sync.Mutex     // guards stood
	stood []network.Conn // the latest connections with the server
}

// Why a registration was lost.
var (
	// ErrServerLost means that the connection to the rendezvous server ended. It
	// comes with the cause, where that is known.
	ErrServerLost = errors.New("connection to the rendezvous server ended")
	// ErrDropped means that the server holds the registration no more, as when it
	// needs the room for others.
	ErrDropped = errors.New("the server dropped it")
)

// NewRegistrar starts a registrar on h.
func NewRegistrar(h host.Host, cfg RegistrarConfig) (*Registrar, error) {
	if cfg.Namespace == "" || len(cfg.Namespace) > maxNamespace {
		return nil, fmt.Errorf("registrar: namespace must have 1 to %d bytes, it has %d", maxNamespace, len(cfg.Namespace))
	}
	if cfg.Server.ID == "" || cfg.Server.ID == h.ID() {
		return nil, errors.New("registrar: server must be another peer")
	}
	cfg.Debounce = cmp.Or(cfg.Debounce, 30*time.Second)
	cfg.Timeout = cmp.Or(cfg.Timeout, retry.Attempt)
	cfg.CloseTimeout = cmp.Or(cfg.CloseTimeout, 3*time.Second)
	if cfg.Addrs == nil {
		cfg.Addrs = h.Addrs
	}
	if cfg.Sealer == nil {
		cfg.Sealer = NewSealer()
	}
	events, err := h.EventBus().Subscribe([]any{
		new(event.EvtLocalAddressesUpdated),
		new(event.EvtPeerIdentificationCompleted),
		new(event.EvtPeerConnectednessChanged),
	}, eventbus.Name("rendezvous"), eventbus.BufSize(64))
	if err != nil {
		return nil, fmt.Errorf("registrar: %w", err)
	}
	r := &Registrar{host: h, cfg: cfg, events: events}
	r.keeper = newKeeper(cfg, keeperActions{
		connect:    r.connect,
		register:   r.register,
		unregister: r.unregister,
		cause:      func() error { return serverLost(r.host, r.latest()) },
	}, rand.Float64)
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	h.ConnManager().Protect(cfg.Server.ID, r.protectTag())
	r.loops.Go(r.watch)
	r.loops.Go(func() { r.keeper.run(ctx) })
	return r, nil
}

// protectTag names the registration at the connection manager, which must not
// close the connection while any registrar needs it.
func (r *Registrar) protectTag() string { return "rendezvous/" + r.cfg.Namespace }

// Poke has the addresses looked at again. It does not block.
func (r *Registrar) Poke() { r.keeper.poke(signalAddrs) }

// Dropped tells that the server was seen at that moment without the registration,
// as a [Follower] of the namespace does by a FollowerGone of the own peer. One
// acknowledged later stands. It does not block.
func (r *Registrar) Dropped(seen time.Time) { r.keeper.dropped(seen) }

// Close ends the registration at the server, if it is still connected, and
// stops the registrar.
func (r *Registrar) Close() error {
	var err error
	r.close.Do(func() {
		r.cancel()
		err = r.events.Close()
		r.loops.Wait()
		r.keeper.end()
		r.host.ConnManager().Unprotect(r.cfg.Server.ID, r.protectTag())
	})
	return err
}

// watch turns events of the host into signals.
func (r *Registrar) watch() {
	for e := range r.events.Out() {
		switch e := e.(type) {
		case event.EvtLocalAddressesUpdated:
			r.keeper.poke(signalAddrs)
		case event.EvtPeerIdentificationCompleted:
			r.latest()
			// It may have taught us an address of ours.
			r.keeper.poke(signalAddrs)
		case event.EvtPeerConnectednessChanged:
			if e.Peer != r.cfg.Server.ID {
				continue
			}
			if e.Connectedness == network.NotConnected {
				r.keeper.poke(signalDown)
			} else {
				r.keeper.poke(signalUp)
			}
		}
	}
}

func (r *Registrar) connect(ctx context.Context) error { return connect(ctx, r.host, r.cfg.Server) }

func (r *Registrar) register(ctx context.Context, addrs []ma.Multiaddr) (Registration, error) {
	if err := r.cfg.Sealer.take(ctx); err != nil {
		return Registration{}, err
	}
	defer r.cfg.Sealer.giveBack()
	stood := r.latest()
	done, err := registerLast(ctx, r.host, r.cfg.Server, RegisterRequest{
		Namespace: r.cfg.Namespace,
		TTL:       r.cfg.TTL,
		Addrs:     addrs,
		Format:    r.cfg.Format,
	}, &r.cfg.Sealer.last)
	return done, explain(r.host, stood, err)
}

// latest returns the connections that there are with the server, or else were when
// last looked.
func (r *Registrar) latest() []network.Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if open := r.host.Network().ConnsToPeer(r.cfg.Server.ID); len(open) > 0 {
		r.stood = open
	}
	return r.stood
}

func (r *Registrar) unregister(ctx context.Context) error {
	ctx = network.WithNoDial(ctx, "the registration ends with its TTL")
	return Unregister(ctx, r.host, r.cfg.Server, r.cfg.Namespace)
}

// serverLost is the loss of the connections that stood with a server, with its cause
// where the host, a netkit/host.Node, knows one.
func serverLost(h host.Host, stood []network.Conn) error {
	if n, ok := h.(interface {
		LossCause(conns ...network.Conn) error
	}); ok {
		if cause := n.LossCause(stood...); cause != nil {
			return fmt.Errorf("%w: %w", ErrServerLost, cause)
		}
	}
	return ErrServerLost
}

// explain names the loss of the connection, where that is why err came.
func explain(h host.Host, stood []network.Conn, err error) error {
	if err == nil || errors.As(err, new(*StatusError)) {
		return err
	}
	if errors.As(err, new(*network.ConnError)) && len(stood) == 1 {
		_ = stood[0].Close() // waits until it is closed: its streams hear of that first
	}
	if slices.ContainsFunc(stood, network.Conn.IsClosed) {
		return serverLost(h, stood)
	}
	return err
}
