package rendezvous

import (
	"context"
	"errors"
	"sync"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"dibber/netkit/retry"
)

// signal is what a keeper is told from outside.
type signal uint8

const (
	// signalAddrs says that the addresses may have changed.
	signalAddrs signal = 1 << iota
	// signalDown says that the connection to the server is lost.
	signalDown
	// signalUp says that there is one.
	signalUp
	// signalDropped says that the server was seen without the registration.
	signalDropped
)

// keeperActions are what a keeper does on the network.
type keeperActions struct {
	connect    func(context.Context) error
	register   func(context.Context, []ma.Multiaddr) (Registration, error)
	unregister func(context.Context) error
	cause      func() error // why the connection to the server is lost
}

// keeper runs a schedule: it is the loop of a Registrar, without the network.
type keeper struct {
	cfg  RegistrarConfig
	do   keeperActions
	plan schedule
	// tried is set once the server may know of the registration, and known once it
	// has said so.
	tried, known bool

	wake chan struct{}
	mu   sync.Mutex
	// signals are those that came since the loop last looked.
	signals signal
	// seen is when the server was last seen without the registration.
	seen time.Time
}

func newKeeper(cfg RegistrarConfig, do keeperActions, chance func() float64) *keeper {
	return &keeper{
		cfg:  cfg,
		do:   do,
		wake: make(chan struct{}, 1),
		plan: schedule{
			debounce: cfg.Debounce,
			again:    retry.Schedule{First: cfg.FirstRetry, Most: cfg.LastRetry, Chance: chance},
			chance:   chance,
		},
	}
}

// poke tells the loop of a signal. Of loss and return only the later counts.
func (k *keeper) poke(s signal) {
	k.mu.Lock()
	if s&(signalDown|signalUp) != 0 {
		k.signals &^= signalDown | signalUp
	}
	k.signals |= s
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// dropped tells the loop that the server was seen without the registration.
func (k *keeper) dropped(seen time.Time) {
	k.mu.Lock()
	k.seen = seen
	k.mu.Unlock()
	k.poke(signalDropped)
}

func (k *keeper) takeSignals() (s signal, seen time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s = k.signals
	k.signals = 0
	return s, k.seen
}

// run keeps the registration until ctx ends.
func (k *keeper) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	k.plan.start(time.Now())
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
			k.note(k.takeSignals())
		case <-timer.C:
			k.attempt(ctx)
		}
		timer.Stop()
		if !k.plan.next.IsZero() {
			timer.Reset(time.Until(k.plan.next))
		}
	}
}

func (k *keeper) note(s signal, seen time.Time) {
	now := time.Now()
	if s&signalDown != 0 && k.plan.lost(now) {
		k.lost(k.do.cause())
	}
	if s&signalDropped != 0 && k.plan.dropped(now, seen) {
		k.lost(ErrDropped)
	}
	if s&signalUp != 0 {
		k.plan.found(now)
	}
	if s&signalAddrs != 0 {
		k.plan.changed(now, k.cfg.Addrs())
	}
}

// attempt connects and registers, each within cfg.Timeout.
func (k *keeper) attempt(ctx context.Context) {
	k.plan.attempted(time.Now())
	within, cancel := context.WithTimeout(ctx, k.cfg.Timeout)
	defer cancel()
	// Being connected comes first: it is often what gives a host an address, or
	// another one than it had.
	if err := k.do.connect(within); err != nil {
		k.fail(err)
		return
	}
	addrs := k.cfg.Addrs()
	if len(addrs) == 0 {
		k.plan.waiting(time.Now())
		k.emit(RegistrarEvent{Kind: RegistrarWaiting})
		return
	}
	ctx, cancel = context.WithTimeout(ctx, k.cfg.Timeout)
	defer cancel()
	done, err := k.do.register(ctx, addrs)
	k.known = k.known || err == nil
	k.tried = k.tried || !turnedDown(err)
	if err != nil {
		k.fail(err)
		return
	}
	kind := RegistrarRegistered
	now := time.Now()
	if k.plan.held(now) {
		kind = RegistrarRefreshed
	}
	k.plan.done(now, done.TTL, addrs)
	k.emit(RegistrarEvent{Kind: kind, Addrs: done.Addrs, TTL: done.TTL, Next: time.Until(k.plan.next)})
}

func (k *keeper) fail(err error) {
	now := time.Now()
	k.plan.failed(now)
	if errors.Is(err, ErrServerLost) && k.plan.miss(now) { // before the host has told
		k.lost(err)
		return
	}
	k.emit(RegistrarEvent{Kind: RegistrarFailed, Err: err, Next: time.Until(k.plan.next)})
}

func (k *keeper) lost(cause error) {
	k.emit(RegistrarEvent{Kind: RegistrarLost, Err: cause, Next: time.Until(k.plan.next)})
}

// turnedDown reports whether a server that was asked to register surely did not.
func turnedDown(err error) bool {
	return errors.Is(err, ErrUnsupported) || errors.As(err, new(*StatusError))
}

// end tells the server that the registration is over, also one whose answer did not
// come, of which nobody was told. The loop has ended.
func (k *keeper) end() {
	if !k.tried {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), k.cfg.CloseTimeout)
	defer cancel()
	err := k.do.unregister(ctx)
	if k.known {
		k.emit(RegistrarEvent{Kind: RegistrarUnregistered, Err: err})
	}
}

func (k *keeper) emit(e RegistrarEvent) {
	if k.cfg.On == nil {
		return
	}
	e.Server, e.Namespace = k.cfg.Server.ID, k.cfg.Namespace
	k.cfg.On(e)
}
