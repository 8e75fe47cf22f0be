package mdns

import (
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// maxAddrs is the most addresses kept of one peer, and announced of ourselves.
	maxAddrs = 32
	// maxTTL is the longest a record is believed; RFC 6762 section 10 recommends no more than 75 minutes.
	maxTTL = 75 * time.Minute
)

// cache holds the peers of a link and when each of their addresses expires. Time is an argument.
type cache struct {
	max   int // peers
	peers map[peer.ID]*entry
}

type entry struct {
	instance string
	addrs    []liveAddr // in the order in which they were told
}

type liveAddr struct {
	addr    ma.Multiaddr
	expires time.Time
}

func (e *entry) event(kind EventKind, id peer.ID, now time.Time) Event {
	ev := Event{Kind: kind, Peer: peer.AddrInfo{ID: id}}
	for _, a := range e.addrs {
		ev.Peer.Addrs = append(ev.Peer.Addrs, a.addr)
		ev.TTL = max(ev.TTL, a.expires.Sub(now))
	}
	return ev
}

// update takes in what a packet told.
func (c *cache) update(now time.Time, f found) []Event {
	if f.ttl == 0 {
		return c.remove(f)
	}
	e, known := c.peers[f.info.ID]
	if len(f.info.Addrs) == 0 || !known && len(c.peers) >= c.max {
		return nil
	}
	if !known {
		e = new(entry)
		c.peers[f.info.ID] = e
	}
	e.instance = f.instance
	grown := false
	for _, a := range f.info.Addrs {
		grown = e.extend(a, now.Add(min(f.ttl, maxTTL))) || grown
	}
	switch {
	case !known:
		return []Event{e.event(Found, f.info.ID, now)}
	case grown:
		return []Event{e.event(Updated, f.info.ID, now)}
	}
	return nil
}

// extend keeps a until expires and reports whether it is new.
func (e *entry) extend(a ma.Multiaddr, expires time.Time) bool {
	for i := range e.addrs {
		if e.addrs[i].addr.Equal(a) {
			e.addrs[i].expires = expires
			return false
		}
	}
	if len(e.addrs) >= maxAddrs {
		return false
	}
	e.addrs = append(e.addrs, liveAddr{a, expires})
	return true
}

// remove forgets a peer that took its leave, by its id or else by the name of its records.
func (c *cache) remove(f found) []Event {
	id := f.info.ID
	if id == "" {
		for known, e := range c.peers {
			if e.instance == f.instance {
				id = known
			}
		}
	}
	if _, known := c.peers[id]; !known {
		return nil
	}
	delete(c.peers, id)
	return []Event{{Kind: Expired, Peer: peer.AddrInfo{ID: id}}}
}

// sweep forgets what has expired.
func (c *cache) sweep(now time.Time) []Event {
	var events []Event
	for _, id := range slices.Sorted(maps.Keys(c.peers)) {
		e := c.peers[id]
		before := len(e.addrs)
		e.addrs = slices.DeleteFunc(e.addrs, func(a liveAddr) bool { return !now.Before(a.expires) })
		switch len(e.addrs) {
		case before:
		case 0:
			delete(c.peers, id)
			events = append(events, e.event(Expired, id, now))
		default:
			events = append(events, e.event(Updated, id, now))
		}
	}
	return events
}

// next returns when the first address expires; it is zero if there is none.
func (c *cache) next() time.Time {
	var first time.Time
	for _, e := range c.peers {
		for _, a := range e.addrs {
			first = sooner(first, a.expires)
		}
	}
	return first
}

// sooner returns the earlier of two times, of which zero stands for never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
