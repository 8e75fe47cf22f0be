package gossip

import (
	"slices"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
)

// relayed is a topic that the node forwards.
type relayed struct {
	h      *handle
	cancel pubsub.RelayCancelFunc
	unused time.Time // since when nobody is subscribed; zero while somebody is
}

// relay follows the subscriptions of peers and forwards what they are for, until the service is closed.
func (s *Service) relay() {
	on := make(map[string]*relayed)
	told := make(map[string]bool) // topics for which there is no room
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-s.table.changed:
		case <-next.C:
		case <-s.ctx.Done():
			return // the library's loop is over, and its topics with it
		}
		now := time.Now()
		wait := s.relayNow(on, told, now)
		s.table.mu.Lock()
		s.table.relaying = make(map[string]bool, len(on))
		for topic := range on {
			s.table.relaying[topic] = true
		}
		s.table.mu.Unlock()
		next.Reset(wait)
	}
}

// relayNow begins and ends forwarding as peers want it, and returns when to look again at the latest.
func (s *Service) relayNow(on map[string]*relayed, told map[string]bool, now time.Time) (again time.Duration) {
	chosen, left := s.cfg.Relay.allot(s.demands())
	again = s.cfg.Relay.Linger
	for topic, r := range on {
		switch {
		case chosen[topic]:
			r.unused = time.Time{}
			continue
		case r.unused.IsZero():
			r.unused = now
		}
		// One that lost its place to another is not kept: the room is needed.
		if rest := s.cfg.Relay.Linger - now.Sub(r.unused); rest > 0 && len(chosen) < s.cfg.Relay.Topics && left[topic] == "" {
			again = min(again, rest)
			continue
		}
		delete(on, topic)
		r.cancel()
		_ = s.drop(r.h) // others may still have to do with it
		s.cfg.On(Event{Kind: RelayStopped, Topic: topic})
	}
	for topic := range chosen {
		if on[topic] != nil || len(on) >= s.cfg.Relay.Topics {
			continue
		}
		h, err := s.take(topic)
		if err != nil {
			return again // closed
		}
		cancel, err := h.t.Relay()
		if err != nil {
			_ = s.drop(h)
			return again // closed
		}
		on[topic] = &relayed{h: h, cancel: cancel}
		s.cfg.On(Event{Kind: RelayStarted, Topic: topic})
	}
	for topic, p := range left {
		if !told[topic] {
			s.cfg.On(Event{Kind: RelayFull, Topic: topic, Peer: p})
		}
	}
	clear(told)
	for topic := range left {
		told[topic] = true
	}
	return again
}

// demands is what the neighbours are subscribed to, as far as somebody wants it for himself. Those that cannot be sent to yet do not
// count: the library takes whom it can send to into the mesh when it joins a topic, and others with its next heartbeat, and what comes
// in between is lost to them.
func (s *Service) demands() (out []demand) {
	s.table.mu.Lock()
	for p, n := range s.table.peers {
		topics := slices.Clone(n.topics)
		if wanted := s.cfg.Relay.For; wanted != nil {
			topics = slices.DeleteFunc(topics, func(topic string) bool { return !wanted(topic, p) })
		}
		if len(topics) > 0 && n.proto != "" {
			out = append(out, demand{peer: p, since: n.since, topics: topics})
		}
	}
	s.table.mu.Unlock()
	for i := range out {
		out[i].topics = slices.DeleteFunc(out[i].topics, func(topic string) bool {
			hops, known := s.distance(out[i].peer, topic)
			return !known || hops >= maxHops
		})
	}
	return out
}

// relayedTopics are those that the node forwards for others.
func (s *Service) relayedTopics() map[string]bool {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	return s.table.relaying // replaced as a whole, never changed
}
