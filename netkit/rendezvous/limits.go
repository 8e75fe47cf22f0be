package rendezvous

import (
	"fmt"
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
	// Total is how many registrations are kept; zero means 100 000.
	Total int `json:"total"`
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
}

// maxNamespace is the length in bytes of the longest namespace (specification).
const maxNamespace = 255

// pageBytes is the budget of an answer's registrations.
const pageBytes = 900 << 10

func (l Limits) withDefaults() (Limits, error) {
	setDefault(&l.MinTTL, 2*time.Hour)
	setDefault(&l.MaxTTL, 72*time.Hour)
	setDefault(&l.DefaultTTL, min(max(2*time.Hour, l.MinTTL), l.MaxTTL))
	setDefault(&l.PerPeer, 1000)
	setDefault(&l.Total, 100_000)
	setDefault(&l.PageDefault, 100)
	setDefault(&l.PageMax, 1000)
	setDefault(&l.RecordBytes, 2048)
	setDefault(&l.RecordAddrs, 32)
	switch {
	case l.MinTTL < time.Minute:
		return l, fmt.Errorf("rendezvous limits: minimum ttl %s is below 1m", l.MinTTL)
	case l.MaxTTL < l.MinTTL:
		return l, fmt.Errorf("rendezvous limits: maximum ttl %s is below the minimum %s", l.MaxTTL, l.MinTTL)
	case l.DefaultTTL < l.MinTTL || l.DefaultTTL > l.MaxTTL:
		return l, fmt.Errorf("rendezvous limits: default ttl %s is not between %s and %s", l.DefaultTTL, l.MinTTL, l.MaxTTL)
	case l.PerPeer < 1, l.Total < 1, l.PageDefault < 1, l.PageMax < 1, l.RecordBytes < 1, l.RecordAddrs < 1:
		return l, fmt.Errorf("rendezvous limits: a limit is below 1")
	case l.RecordBytes > 8<<10:
		return l, fmt.Errorf("rendezvous limits: records of %d bytes do not fit a request", l.RecordBytes)
	}
	l.PageDefault = min(l.PageDefault, l.PageMax)
	return l, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
