package mdns

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// The times of RFC 6762.
const (
	// recordTTL is how long our records may be kept (section 10: 120 s where an address is concerned).
	recordTTL = 120 * time.Second
	// minGap is between two times that a record is sent to a link (section 6), and two questions (section 5.2).
	minGap = time.Second
	// An answer that several peers may give waits a random time (section 6), so that they do not collide.
	minDelay, maxDelay = 20 * time.Millisecond, 120 * time.Millisecond
	// announcements is how often a change is told unasked (section 8.3).
	announcements = 2
)

// link is one interface in one address family.
type link struct {
	iface int // index of the interface; 0 stands for all, in both families
	ip6   bool
}

// covers reports whether what is sent to l goes to the single link one.
func (l link) covers(one link) bool { return l.iface == 0 || l == one }

// send is something to send.
type send struct {
	to      link
	packets [][]byte
}

// engine decides what is asked, answered and believed. It takes time as an argument and does no I/O.
type engine struct {
	names    names
	query    []byte // the packets that never change
	services []byte
	self     peer.ID
	announce bool
	browse   bool
	interval time.Duration // longest between two questions
	cache    cache

	addrs []ma.Multiaddr // what we announce
	local []netip.Addr   // the addresses of our interfaces

	nextQuery  time.Time
	queryGap   time.Duration
	nextTell   time.Time // the next unasked announcement
	tellLeft   int
	due        map[link]answer
	last       map[link]time.Time // when we last answered
	lastToAll  time.Time
	everSpoken bool
}

// answer is an answer that waits.
type answer struct {
	at       time.Time
	peers    bool // tell of ourselves
	services bool // tell that there is the service
}

func newEngine(us names, self peer.ID, config Config) (*engine, error) {
	query, errQuery := buildQuery(us)
	services, errServices := buildServices(us)
	return &engine{
		names: us, query: query, services: services, self: self,
		announce: config.Announce, browse: config.Browse, interval: config.Interval,
		cache: cache{max: config.MaxPeers, peers: make(map[peer.ID]*entry)},
		due:   make(map[link]answer), last: make(map[link]time.Time),
	}, errors.Join(errQuery, errServices)
}

// restart begins anew with questions and announcements: at the start, and when there are new links.
func (e *engine) restart(now time.Time) {
	if e.browse {
		e.nextQuery, e.queryGap = now, minGap
	}
	if e.announce {
		e.tell(now)
	}
}

// setAddrs takes the addresses of the host and of the machine, and announces a change.
func (e *engine) setAddrs(now time.Time, addrs []ma.Multiaddr, local []netip.Addr) {
	e.local = local
	if !e.announce {
		return
	}
	addrs = announceable(addrs, local)
	if !slices.EqualFunc(addrs, e.addrs, ma.Multiaddr.Equal) {
		e.addrs = addrs
		e.tell(now)
	}
}

func (e *engine) tell(now time.Time) {
	e.tellLeft = announcements
	e.nextTell = now
	if earliest := e.lastToAll.Add(minGap); earliest.After(now) {
		e.nextTell = earliest
	}
}

// receive takes in a packet.
func (e *engine) receive(now time.Time, r received) []Event {
	msg, err := parse(r.data, e.names)
	if err != nil {
		return nil
	}
	if e.announce && (msg.asks || msg.asksServices) {
		e.schedule(now, r.on, msg)
	}
	if !e.browse {
		return nil
	}
	// The loopback addresses of another machine would lead to this one.
	fromHere := r.loopback || slices.Contains(e.local, r.from)
	var events []Event
	for _, f := range msg.found {
		if f.info.ID == e.self {
			continue
		}
		if !fromHere {
			f.info.Addrs = withoutLoopback(f.info.Addrs)
		}
		events = append(events, e.cache.update(now, f)...)
	}
	return events
}

// schedule lets one answer serve all questions that come before it is sent.
func (e *engine) schedule(now time.Time, on link, msg message) {
	a, waiting := e.due[on]
	if !waiting {
		a.at = now.Add(minDelay + rand.N(maxDelay-minDelay))
		for _, last := range []time.Time{e.last[on], e.lastToAll} {
			if earliest := last.Add(minGap); earliest.After(a.at) {
				a.at = earliest
			}
		}
	}
	a.peers = a.peers || msg.asks
	a.services = a.services || msg.asksServices
	e.due[on] = a
}

// step returns what is to be sent and reported now, and when it wants to be called again at the
// latest; zero stands for never.
func (e *engine) step(now time.Time) (out []send, events []Event, next time.Time) {
	if e.browse && !now.Before(e.nextQuery) {
		out = append(out, send{packets: [][]byte{e.query}})
		e.nextQuery = now.Add(e.queryGap)
		e.queryGap = min(2*e.queryGap, e.interval)
	}
	if e.tellLeft > 0 && !now.Before(e.nextTell) {
		out = append(out, send{packets: e.records(recordTTL)})
		e.tellLeft--
		e.lastToAll, e.nextTell = now, now.Add(minGap)
		e.answered()
	}
	out = append(out, e.answers(now)...)
	return out, e.cache.sweep(now), e.next()
}

// records returns the packets with our records.
func (e *engine) records(ttl time.Duration) [][]byte {
	packets := buildAnswers(e.names, e.self, e.addrs, ttl)
	e.everSpoken = e.everSpoken || len(packets) > 0
	return packets
}

// answered drops the waiting answers that an announcement to all links has given.
func (e *engine) answered() {
	for on, a := range e.due {
		a.peers = false
		e.due[on] = a
		if !a.services {
			delete(e.due, on)
		}
	}
}

// answers returns the answers that have waited long enough.
func (e *engine) answers(now time.Time) []send {
	var out []send
	for on, a := range e.due {
		if now.Before(a.at) {
			continue
		}
		delete(e.due, on)
		e.last[on] = now
		one := send{to: on}
		if a.peers {
			one.packets = e.records(recordTTL)
		}
		if a.services {
			one.packets = append(one.packets, e.services)
		}
		out = append(out, one)
	}
	return out
}

func (e *engine) next() time.Time {
	first := e.cache.next()
	if e.browse {
		first = sooner(first, e.nextQuery)
	}
	if e.tellLeft > 0 {
		first = sooner(first, e.nextTell)
	}
	for _, a := range e.due {
		first = sooner(first, a.at)
	}
	return first
}

// goodbye returns the packets that take back what was announced (RFC 6762 section 10.1).
func (e *engine) goodbye() [][]byte {
	if !e.everSpoken {
		return nil
	}
	return e.records(0)
}
