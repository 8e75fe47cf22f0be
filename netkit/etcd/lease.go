package etcd

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	client "go.etcd.io/etcd/client/v3"

	"dibber/netkit/rendezvous"
)

// leaseSlack is how long a lease outlives its minute, so that a clock which is off by a second, as
// clocks may be, ends no key early.
const leaseSlack = 30 * time.Second

// minuteOf is the minute at whose end something that expires then may go.
func minuteOf(expires time.Time) int64 { return expires.Unix() / 60 }

// leaseID is the id of a minute's lease, which every server makes the same.
func (s *Space) leaseID(minute int64) client.LeaseID {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("lease "+s.cfg.Prefix), uint64(minute)))
	return client.LeaseID(binary.BigEndian.Uint64(sum[:]) >> 1) // ids are positive
}

// leases are those that are known to be granted. They are safe for concurrent use.
type leases struct {
	mu      sync.Mutex
	granted map[int64]time.Time // by minute since 1970; when each ends
}

func (l *leases) has(minute int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, granted := l.granted[minute]
	return granted
}

func (l *leases) add(minute int64, ends time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.granted[minute] = ends
	maps.DeleteFunc(l.granted, func(_ int64, ends time.Time) bool { return time.Since(ends) > 0 })
}

// forget has the leases of puts granted again.
func (l *leases) forget(puts []rendezvous.SpacePut) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range puts {
		delete(l.granted, minuteOf(p.Expires))
	}
}

// lease returns the lease of what expires at a time, and grants it if need be.
func (s *Space) lease(ctx context.Context, expires time.Time) (client.LeaseID, error) {
	minute := minuteOf(expires)
	id := s.leaseID(minute)
	if s.leases.has(minute) {
		return id, nil
	}
	ends := time.Unix((minute+1)*60, 0).Add(leaseSlack)
	if err := s.grant(ctx, id, max(int64(time.Until(ends)/time.Second), 1)); err != nil {
		return 0, err
	}
	s.leases.add(minute, ends)
	return id, nil
}

// grant grants a lease with an id of our own choice, for which the client's Grant has no argument.
func (s *Space) grant(ctx context.Context, id client.LeaseID, seconds int64) error {
	_, err := client.RetryLeaseClient(s.client).LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: int64(id), TTL: seconds})
	if err = client.ContextError(ctx, err); err != nil && !errors.Is(err, rpctypes.ErrLeaseExist) {
		return fmt.Errorf("grant lease: %w", err)
	}
	return nil
}
