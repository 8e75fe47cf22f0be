package rendezvous

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Limits are what a server allows. The zero value of each field means its
// default, which follows the specification's recommendations.
type Limits struct {
	// MinTTL is the shortest registration; zero means 2 h, as rust and the
	// specification have it. At least 1 min.
	MinTTL time.Duration `json:"-"`
	// MaxTTL is the longest registration; zero means 72 h.
	MaxTTL time.Duration `json:"-"`
	// DefaultTTL is granted when none is asked for; zero means 2 h, or MinTTL
	// where that is longer, or MaxTTL where that is shorter.
	DefaultTTL time.Duration `json:"-"`
	// PerPeer is how many namespaces a peer may be registered in; zero means
	// 1000. Refreshes are exempt.
	PerPeer int `json:"per_peer"`
	// PerNamespace is how many peers a namespace may have; zero means that
	// Total is the only limit. Refreshes are exempt.
	PerNamespace int `json:"per_namespace"`
	// PerPrefix is how many registrations the peers of one network may have,
	// an IPv4 /24 or IPv6 /56; zero means that Total is the only limit.
	// Refreshes are exempt. Peers behind a relay are in the network of the
	// relay.
	PerPrefix int `json:"per_prefix"`
	// Total is how many registrations are kept; zero means 100 000. When that
	// many are there a new one pushes out another: of the network that holds
	// the most, the oldest of the peer that holds the most.
	Total int `json:"total"`
	// PeerRegister and PeerDiscover limit how often each peer may REGISTER or
	// UNREGISTER, and DISCOVER or begin to watch; zero means 20 a second
	// after 100 at once. Above that the answer is E_UNAVAILABLE.
	PeerRegister Rate `json:"peer_register"`
	PeerDiscover Rate `json:"peer_discover"`
	// PrefixRegister and PrefixDiscover limit the peers of one network in the
	// same way, all together; zero means 400 a second after 2000 at once.
	PrefixRegister Rate `json:"prefix_register"`
	PrefixDiscover Rate `json:"prefix_discover"`
	// PageDefault is how many registrations an answer holds when the request
	// names no limit; zero means 100.
	PageDefault int `json:"page_default"`
	// PageMax is how many it holds at most; zero means 1000. Whatever the
	// limit, an answer stays below 900 KiB, since rust reads no more than
	// 1 MiB.
	PageMax int `json:"page_max"`
	// RecordBytes is the size of the largest record, of either flavour; zero
	// means 2048.
	RecordBytes int `json:"record_bytes"`
	// RecordAddrs is how many addresses a record may have; zero means 32.
	RecordAddrs int `json:"record_addrs"`
	// RefuseAddrs are kinds of addresses that do not count: a record with no
	// other is refused. Zero refuses none, so that a server works on a local
	// network.
	RefuseAddrs AddrKinds `json:"refuse_addrs"`
	// CircuitsOnly refuses records with any address that is not a circuit's, so that
	// nobody learns another one here; what was registered before is dropped when the
	// server starts.
	CircuitsOnly bool `json:"circuits_only"`
	// Namespaces are those that may be used: an entry that ends in * stands for all
	// that begin like it. Requests for another one are refused with
	// E_NOT_AUTHORIZED, and what is registered there is shown to nobody. None
	// allows all.
	Namespaces []string `json:"namespaces"`
	// Watchers is how many streams may watch; zero means 1024.
	Watchers int `json:"watchers"`
	// PeerWatchers is how many of them may be of one peer; zero means 8.
	PeerWatchers int `json:"peer_watchers"`
	// WatchQueue is how many changes wait for a slow watcher; zero means 256.
	// Of more it learns by a new snapshot.
	WatchQueue int `json:"watch_queue"`
}

// Rate is a token bucket.
type Rate struct {
	// PerSecond is how fast it fills, in tokens a second.
	PerSecond float64 `json:"per_second"`
	// Burst is how many tokens it holds.
	Burst int `json:"burst"`
}

// AddrKinds is a set of kinds of addresses.
type AddrKinds uint8

// Kinds of addresses.
const (
	// AddrPublic is an address that is reachable over the internet, and a name.
	AddrPublic AddrKinds = 1 << iota
	// AddrRelayed is an address through a relay.
	AddrRelayed
	// AddrPrivate is every other: private, link-local, loopback.
	AddrPrivate
)

// longestTTL is the longest a registration can be made to last.
const longestTTL = 10 * 365 * 24 * time.Hour

// maxNamespace is the length in bytes of the longest namespace (specification).
const maxNamespace = 255

// pageBytes is the budget of an answer's registrations.
const pageBytes = 900 << 10

// WithDefaults fills in what is not set, and tells which limit makes no sense.
func (l Limits) WithDefaults() (Limits, error) {
	l.MinTTL = cmp.Or(l.MinTTL, 2*time.Hour)
	l.MaxTTL = cmp.Or(l.MaxTTL, 72*time.Hour)
	l.DefaultTTL = cmp.Or(l.DefaultTTL, min(max(2*time.Hour, l.MinTTL), l.MaxTTL))
	l.PerPeer = cmp.Or(l.PerPeer, 1000)
	l.Total = cmp.Or(l.Total, 100_000)
	l.PeerRegister.setDefault(20, 100)
	l.PeerDiscover.setDefault(20, 100)
	l.PrefixRegister.setDefault(400, 2000)
	l.PrefixDiscover.setDefault(400, 2000)
	l.PageDefault = cmp.Or(l.PageDefault, 100)
	l.PageMax = cmp.Or(l.PageMax, 1000)
	l.RecordBytes = cmp.Or(l.RecordBytes, 2048)
	l.RecordAddrs = cmp.Or(l.RecordAddrs, 32)
	l.Watchers = cmp.Or(l.Watchers, 1024)
	l.PeerWatchers = cmp.Or(l.PeerWatchers, 8)
	l.WatchQueue = cmp.Or(l.WatchQueue, 256)
	l.PageDefault = min(l.PageDefault, l.PageMax)
	return l, l.check()
}

func (r *Rate) setDefault(perSecond float64, burst int) {
	r.PerSecond = cmp.Or(r.PerSecond, perSecond)
	r.Burst = cmp.Or(r.Burst, burst)
}

// check tells which limit makes no sense.
func (l Limits) check() error {
	counts := []int{
		l.PerPeer, l.PerNamespace + 1, l.PerPrefix + 1, l.Total, l.PageDefault, l.PageMax, l.RecordBytes, l.RecordAddrs,
		l.Watchers, l.PeerWatchers, l.WatchQueue,
	}
	for _, r := range []Rate{l.PeerRegister, l.PeerDiscover, l.PrefixRegister, l.PrefixDiscover} {
		counts = append(counts, r.Burst)
		if !(r.PerSecond > 0) {
			return fmt.Errorf("rendezvous limits: a rate of %g a second", r.PerSecond)
		}
	}
	for _, ns := range l.Namespaces {
		if ns == "" || len(ns) > maxNamespace {
			return fmt.Errorf("rendezvous limits: a namespace has 1 to %d bytes, not %d", maxNamespace, len(ns))
		}
	}
	switch {
	case l.MinTTL < time.Minute:
		return fmt.Errorf("rendezvous limits: minimum ttl %s is below 1m", l.MinTTL)
	case l.MaxTTL < l.MinTTL:
		return fmt.Errorf("rendezvous limits: maximum ttl %s is below the minimum %s", l.MaxTTL, l.MinTTL)
	case l.MaxTTL > longestTTL:
		return fmt.Errorf("rendezvous limits: maximum ttl %s is above %s", l.MaxTTL, longestTTL)
	case l.DefaultTTL < l.MinTTL || l.DefaultTTL > l.MaxTTL:
		return fmt.Errorf("rendezvous limits: default ttl %s is not between %s and %s", l.DefaultTTL, l.MinTTL, l.MaxTTL)
	case slices.Min(counts) < 1:
		return errors.New("rendezvous limits: a limit is below 1")
	case l.RecordBytes > 8<<10:
		return fmt.Errorf("rendezvous limits: records of %d bytes do not fit a request", l.RecordBytes)
	}
	return nil
}

// allows reports whether a namespace may be used; "" stands for all that may.
func (l *Limits) allows(ns string) bool {
	return ns == "" || len(l.Namespaces) == 0 || slices.ContainsFunc(l.Namespaces, func(listed string) bool {
		begin, all := strings.CutSuffix(listed, "*")
		return ns == listed || all && strings.HasPrefix(ns, begin)
	})
}
