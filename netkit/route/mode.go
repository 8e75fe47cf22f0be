package route

import (
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
)

// modeBus is the host's event bus with one difference: whether the node can be reached, by which the library chooses its
// mode, is told by the node's own part alone. On the host's bus others speak of it, and listen to it, for other reasons.
type modeBus struct {
	event.Bus
	told chan any // event.EvtLocalReachabilityChanged, the last one only
}

func newModeBus(b event.Bus) *modeBus { return &modeBus{b, make(chan any, 1)} }

// tell replaces what was told and not heard yet. One goroutine at a time may call it.
func (b *modeBus) tell(reachable bool) {
	e := event.EvtLocalReachabilityChanged{Reachability: network.ReachabilityPrivate}
	if reachable {
		e.Reachability = network.ReachabilityPublic
	}
	select {
	case <-b.told:
	default:
	}
	b.told <- e
}

// Subscribe implements event.Bus.
func (b *modeBus) Subscribe(types any, opts ...event.SubscriptionOpt) (event.Subscription, error) {
	list, ok := types.([]any)
	i := slices.IndexFunc(list, func(t any) bool { _, is := t.(*event.EvtLocalReachabilityChanged); return is })
	if !ok || i < 0 {
		return b.Bus.Subscribe(types, opts...)
	}
	below, err := b.Bus.Subscribe(slices.Delete(slices.Clone(list), i, i+1), opts...)
	if err != nil {
		return nil, err
	}
	s := &modeSubscription{Subscription: below, out: make(chan any), end: make(chan struct{})}
	s.done.Go(func() { s.forward(b.told) })
	return s, nil
}

// modeSubscription is that of the host's bus, and what the modeBus tells.
type modeSubscription struct {
	event.Subscription
	out  chan any
	end  chan struct{}
	done sync.WaitGroup
	once sync.Once
}

// Out implements event.Subscription.
func (s *modeSubscription) Out() <-chan any { return s.out }

// Close implements event.Subscription.
func (s *modeSubscription) Close() error {
	s.once.Do(func() { close(s.end) })
	s.done.Wait()
	return s.Subscription.Close()
}

func (s *modeSubscription) forward(told <-chan any) {
	defer close(s.out)
	for {
		var e any
		var more bool
		select {
		case <-s.end:
			return
		case e = <-told:
		case e, more = <-s.Subscription.Out():
			if !more {
				return
			}
		}
		select {
		case s.out <- e:
		case <-s.end:
			return
		}
	}
}
