package route

import "time"

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
	setDefault(&l.Records, 100_000)
	setDefault(&l.RecordsPerAuthor, 1_000)
	setDefault(&l.Providers, 1_000_000)
	setDefault(&l.ProvidersPerPeer, 50_000)
	setDefault(&l.RecordBytes, 8<<10)
	setDefault(&l.MessageBytes, 64<<10)
	setDefault(&l.PerPeer, 100)
	setDefault(&l.PerPrefix, 1_000)
	setDefault(&l.Streams, 1_024)
	setDefault(&l.StreamsPerPeer, 64)
	setDefault(&l.Idle, time.Minute)
	return l
}
