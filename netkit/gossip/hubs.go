package gossip

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// A node that relays is subscribed in the eyes of its peers. If two such nodes took each other's subscription for a reason to stay,
// neither would ever leave a topic. So each asks the others, now and then, how far from them somebody is who is subscribed for himself,
// and counts one more than the least it heard from elsewhere; what is further than maxHops is nobody. A subscription of a node that
// has yet to answer is a reason.

// hubs are neighbours that relay, with what they said.
type hubs struct {
	mu   sync.Mutex // guards following
	said map[peer.ID]map[string]int
}

// isHub reports whether a neighbour speaks TopicsProtocol.
func (s *Service) isHub(p peer.ID) bool {
	speaks, err := s.n.Peerstore().SupportsProtocols(p, TopicsProtocol)
	return err == nil && len(speaks) > 0
}

// distance is how far behind a subscription of a neighbour somebody is who is subscribed for himself; false for nobody.
func (s *Service) distance(p peer.ID, topic string) (hops int, known bool) {
	if !s.isHub(p) {
		return 0, true
	}
	s.hubs.mu.Lock()
	defer s.hubs.mu.Unlock()
	said, asked := s.hubs.said[p]
	if !asked {
		return 0, true
	}
	hops, known = said[topic]
	return hops, known
}

// joined notes a new subscription of a neighbour that was asked before: somebody has just come, near enough until it is asked again.
func (s *Service) joined(p peer.ID, topic string) {
	s.hubs.mu.Lock()
	defer s.hubs.mu.Unlock()
	if said := s.hubs.said[p]; said != nil {
		if _, known := said[topic]; !known {
			said[topic] = 1
		}
	}
}

// heldOnlyBy reports whether a neighbour is subscribed to a topic for others only.
func (s *Service) heldOnlyBy(p peer.ID, topic string) bool {
	hops, known := s.distance(p, topic)
	return !known || hops > 0
}

// heldFor is what is told to a neighbour: the topics that the node is subscribed to for itself or for others than that neighbour.
func (s *Service) heldFor(asker peer.ID) map[string]int {
	held := make(map[string]int)
	for _, topic := range s.ps.GetTopics() {
		held[topic] = 0
	}
	for topic := range s.relayedTopics() {
		if _, own := held[topic]; own {
			continue
		}
		least := maxHops
		for _, p := range s.subscribed(topic) {
			if p == asker {
				continue
			}
			if hops, known := s.distance(p, topic); known {
				least = min(least, hops)
			}
		}
		if least < maxHops {
			held[topic] = least + 1
		}
	}
	return held
}

// askHubs asks the neighbours that relay, again and again, until the service is closed.
func (s *Service) askHubs() {
	tick := time.NewTicker(hubsEvery)
	defer tick.Stop()
	for {
		var asking sync.WaitGroup
		hubs := s.hubsNow()
		for _, p := range hubs {
			asking.Go(func() { s.askHub(p) })
		}
		asking.Wait()
		s.hubs.mu.Lock()
		for p := range s.hubs.said {
			if !slices.Contains(hubs, p) {
				delete(s.hubs.said, p)
			}
		}
		s.hubs.mu.Unlock()
		if len(hubs) > 0 {
			s.table.touched()
		}
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
	}
}

// hubsNow are the neighbours that relay and are subscribed to anything.
func (s *Service) hubsNow() (out []peer.ID) {
	s.table.mu.Lock()
	var all []peer.ID
	for p, n := range s.table.peers {
		if len(n.topics) > 0 {
			all = append(all, p)
		}
	}
	s.table.mu.Unlock()
	for _, p := range all {
		if s.isHub(p) {
			out = append(out, p)
		}
	}
	return out
}

// askHub notes what one neighbour says. What it said before holds if it does not answer.
func (s *Service) askHub(p peer.ID) {
	ctx, cancel := context.WithTimeout(s.ctx, hubsTimeout)
	defer cancel()
	a, err := ask(ctx, s.n, p, nil)
	if err != nil {
		return
	}
	s.hubs.mu.Lock()
	defer s.hubs.mu.Unlock()
	s.hubs.said[p] = a.held
}
