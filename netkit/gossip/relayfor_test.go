package gossip

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Of what a peer is subscribed to, only what is meant for it is forwarded.
func TestRelaysOnlyWhatIsFor(t *testing.T) {
	bubble(t, func(l lab) {
		a, b := l.node("a", Config{}), l.node("b", Config{})
		hub := l.node("hub", Config{Relay: &RelayConfig{For: func(topic string, p peer.ID) bool { return topic == "of b" && p == b.host.ID() }}})
		l.connect(a, hub)
		l.connect(b, hub)
		box := l.subscribe(b, "of b")
		l.subscribe(b, "of all")
		l.settle(2)
		var on []string
		for _, e := range hub.log.of(RelayStarted) {
			on = append(on, e.Topic)
		}
		if !slices.Equal(on, []string{"of b"}) {
			l.Errorf("forwards %q", on)
		}
		topic := l.join(a, "of b")
		if err := topic.Await(l.Context(), func(peers []peer.ID) bool { return slices.Contains(peers, hub.host.ID()) }); err != nil {
			l.Fatal(err)
		}
		l.publish(topic, "hello")
		l.settle(1)
		if got := box.texts(); !slices.Equal(got, []string{"hello"}) {
			l.Errorf("got %q", got)
		}
		within, cancel := context.WithTimeout(l.Context(), 10*time.Second)
		defer cancel()
		err := l.join(a, "of all").Await(within, func(peers []peer.ID) bool { return slices.Contains(peers, hub.host.ID()) })
		if !errors.Is(err, context.DeadlineExceeded) {
			l.Errorf("waiting for whom nobody is subscribed: %v", err)
		}
	})
}
