package rendezvous

import (
	"context"
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
)

// keeperActions are what a keeper does on the network.
type keeperActions struct {
	connect    func(context.Context) error
	register   func(context.Context, []ma.Multiaddr) (Registration, error)
	unregister func(context.Context) error
}

// keeper runs a schedule: it is the loop of a Registrar, without the network.
type keeper struct {
	cfg  RegistrarConfig
	do   keeperActions
	plan schedule
	// tried is set once the server may know of the registration.
	tried bool

	wake chan struct{}
	mu   sync.Mutex
	// signals are those that came since the loop last looked.
	signals signal
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
	if s != signalAddrs {
		k.signals &^= signalDown | signalUp
	}
	k.signals |= s
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *keeper) takeSignals() signal {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.signals
	k.signals = 0
	return s
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

func (k *keeper) note(s signal) {
	now := time.Now()
	if s&signalDown != 0 {
		k.plan.lost(now)
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
	k.tried = true
	done, err := k.do.register(ctx, addrs)
	if err != nil {
		k.fail(err)
		return
	}
	kind := RegistrarRegistered
	now := time.Now()
	if k.plan.live(now) {
		kind = RegistrarRefreshed
	}
	k.plan.done(now, done.TTL, addrs)
	k.emit(RegistrarEvent{Kind: kind, Addrs: done.Addrs, TTL: done.TTL, Next: time.Until(k.plan.next)})
}

func (k *keeper) fail(err error) {
	k.plan.failed(time.Now())
	k.emit(RegistrarEvent{Kind: RegistrarFailed, Err: err, Next: time.Until(k.plan.next)})
}

// end tells the server that the registration is over. The loop has ended.
func (k *keeper) end() {
	if !k.tried {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), k.cfg.CloseTimeout)
	defer cancel()
	k.emit(RegistrarEvent{Kind: RegistrarUnregistered, Err: k.do.unregister(ctx)})
}

func (k *keeper) emit(e RegistrarEvent) {
	if k.cfg.On == nil {
		return
	}
	e.Server, e.Namespace = k.cfg.Server.ID, k.cfg.Namespace
	k.cfg.On(e)
}
