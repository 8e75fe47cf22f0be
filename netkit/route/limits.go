package route

import (
	"cmp"
	"time"
)

// Limits bound what others can make a server do and keep. Zero fields take the default named.
type Limits struct {
	Records          int           // kept in all; 0 means 100,000
	RecordsPerAuthor int           // kept of one author; 0 means 1,000
	Providers        int           // provider entries kept in all; 0 means 1,000,000
	ProvidersPerPeer int           // kept of one provider; 0 means 50,000
	RecordBytes      int           // of one record with its signature; 0 means 8,192
	MessageBytes     int           // of one request; 0 means 65,536
	PerPeer          float64       // requests a second of one peer, after a burst of twice that; 0 means 100
	PerPrefix        float64       // the same of one network, an IPv4 /24 or IPv6 /56; 0 means 1,000
	Streams          int           // open at once in all; 0 means 1,024
	StreamsPerPeer   int           // open at once of one peer; 0 means 64
	Idle             time.Duration // for which a stream may wait for its next request; 0 means 1 min
}

func (l Limits) withDefaults() Limits {
	l.Records = cmp.Or(l.Records, 100_000)
	l.RecordsPerAuthor = cmp.Or(l.RecordsPerAuthor, 1_000)
	l.Providers = cmp.Or(l.Providers, 1_000_000)
	l.ProvidersPerPeer = cmp.Or(l.ProvidersPerPeer, 50_000)
	l.RecordBytes = cmp.Or(l.RecordBytes, 8<<10)
	l.MessageBytes = cmp.Or(l.MessageBytes, 64<<10)
	l.PerPeer = cmp.Or(l.PerPeer, 100)
	l.PerPrefix = cmp.Or(l.PerPrefix, 1_000)
	l.Streams = cmp.Or(l.Streams, 1_024)
	l.StreamsPerPeer = cmp.Or(l.StreamsPerPeer, 64)
	l.Idle = cmp.Or(l.Idle, time.Minute)
	return l
}
