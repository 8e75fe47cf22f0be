package etcd

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	client "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"dibber/netkit/rendezvous"
)

// Config says where the registry is. Endpoints is required.
type Config struct {
	// Endpoints are the cluster's members, host:port each.
	Endpoints []string
	// Prefix begins every key; empty means "/dibber".
	Prefix string
	// TLS secures the connections; nil sends everything in the clear.
	TLS *tls.Config
	// User and Password log in; an empty user does not.
	User, Password string
	// Attempt bounds each request to the cluster; zero means 2 s. One that takes longer counts as
	// a cluster that is away.
	Attempt time.Duration
}

// Space is the registry's keys in a cluster; it is a [rendezvous.Space]. It is safe for concurrent use.
type Space struct {
	cfg    Config
	client *client.Client

	mu     sync.Mutex
	leases map[int64]time.Time // granted, by minute since 1970; when each ends
}

// Open makes a client of the cluster. It does not wait for it: a cluster that is away shows with
// the first request.
func Open(cfg Config) (*Space, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, errors.New("open etcd: no endpoint")
	}
	cfg.Prefix = strings.TrimSuffix(cmp.Or(cfg.Prefix, "/dibber"), "/") + "/"
	cfg.Attempt = cmp.Or(cfg.Attempt, 2*time.Second)
	endpoints := make([]string, len(cfg.Endpoints))
	for i, at := range cfg.Endpoints {
		endpoints[i] = "http://" + at
		if cfg.TLS != nil {
			endpoints[i] = "https://" + at
		}
	}
	c, err := client.New(client.Config{
		Endpoints: endpoints, TLS: cfg.TLS, Username: cfg.User, Password: cfg.Password, DialTimeout: 10 * time.Second,
		// A member that died without a word is noticed. etcd turns away who asks more than every 5 s.
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
		Logger: zap.NewNop(), // what it would log comes back as errors
	})
	if err != nil {
		return nil, fmt.Errorf("open etcd at %s: %w", strings.Join(cfg.Endpoints, ","), err)
	}
	return &Space{cfg: cfg, client: c, leases: make(map[int64]time.Time)}, nil
}

// Close ends the connections. What is registered stays.
func (s *Space) Close() error {
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close etcd: %w", err)
	}
	return nil
}

// attempt bounds a request, and has it refused by a member without a leader.
func (s *Space) attempt(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(client.WithRequireLeader(ctx), s.cfg.Attempt)
}

// away is the error of a request the cluster did not answer.
func away(doing string, err error) error {
	return fmt.Errorf("%s: %w: %w", doing, rendezvous.ErrSpaceAway, err)
}

// Get implements [rendezvous.Space].
func (s *Space) Get(ctx context.Context, key string) ([]byte, uint64, error) {
	ctx, cancel := s.attempt(ctx)
	defer cancel()
	got, err := s.client.Get(ctx, s.cfg.Prefix+key)
	if err != nil {
		return nil, 0, away("read etcd", err)
	}
	if len(got.Kvs) == 0 {
		return nil, 0, nil
	}
	return got.Kvs[0].Value, uint64(got.Kvs[0].ModRevision), nil
}

// Remembers implements [rendezvous.Space].
func (s *Space) Remembers(ctx context.Context, revision uint64) error {
	ctx, cancel := s.attempt(ctx)
	defer cancel()
	_, err := s.client.Get(ctx, s.cfg.Prefix, client.WithRev(int64(revision)), client.WithCountOnly())
	switch {
	case errors.Is(err, rpctypes.ErrCompacted), errors.Is(err, rpctypes.ErrFutureRev):
		return fmt.Errorf("read etcd at revision %d: %w: %w", revision, rendezvous.ErrSpaceForgotten, err)
	case err != nil:
		return away("read etcd", err)
	default:
		return nil
	}
}

// Commit implements [rendezvous.Space].
func (s *Space) Commit(ctx context.Context, w rendezvous.SpaceWrite) (uint64, bool, error) {
	ctx, cancel := s.attempt(ctx)
	defer cancel()
	for {
		done, err := s.txn(ctx, w)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			// Expired or revoked while it was thought to be there: granted again, unless time is up.
			s.forget(w.Puts)
			continue
		}
		if err != nil {
			return 0, false, away("write etcd", err)
		}
		if done.Succeeded {
			return uint64(done.Header.Revision), true, nil
		}
		var at uint64
		if kvs := done.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
			at = uint64(kvs[0].ModRevision)
		}
		return at, false, nil
	}
}

func (s *Space) txn(ctx context.Context, w rendezvous.SpaceWrite) (*client.TxnResponse, error) {
	var ops []client.Op
	for _, p := range w.Puts {
		var opts []client.OpOption
		if !p.Expires.IsZero() {
			id, err := s.lease(ctx, p.Expires)
			if err != nil {
				return nil, err
			}
			opts = append(opts, client.WithLease(id))
		}
		ops = append(ops, client.OpPut(s.cfg.Prefix+p.Key, string(p.Value), opts...))
	}
	for _, key := range w.Deletes {
		ops = append(ops, client.OpDelete(s.cfg.Prefix+key))
	}
	if w.Guard != "" {
		key := s.cfg.Prefix + w.Guard
		guard := client.Compare(client.ModRevision(key), "=", int64(w.GuardRevision))
		return s.client.Txn(ctx).If(guard).Then(ops...).Else(client.OpGet(key)).Commit()
	}
	return s.client.Txn(ctx).Then(ops...).Commit()
}

// All implements [rendezvous.Space].
func (s *Space) All(ctx context.Context) ([]rendezvous.SpaceChange, uint64, error) {
	ctx, cancel := context.WithTimeout(client.WithRequireLeader(ctx), 15*s.cfg.Attempt)
	defer cancel()
	got, err := s.client.Get(ctx, s.cfg.Prefix, client.WithPrefix(), client.WithSort(client.SortByModRevision, client.SortAscend))
	if err != nil {
		return nil, 0, away("read etcd", err)
	}
	all := make([]rendezvous.SpaceChange, len(got.Kvs))
	for i, kv := range got.Kvs {
		all[i] = s.change(kv.Key, kv.Value, kv.ModRevision)
	}
	return all, uint64(got.Header.Revision), nil
}

func (s *Space) change(key, value []byte, revision int64) rendezvous.SpaceChange {
	return rendezvous.SpaceChange{Key: strings.TrimPrefix(string(key), s.cfg.Prefix), Value: value, Revision: uint64(revision)}
}

// Follow implements [rendezvous.Space].
func (s *Space) Follow(ctx context.Context, after uint64, fn func(uint64, []rendezvous.SpaceChange)) error {
	ctx, cancel := context.WithCancel(client.WithRequireLeader(ctx))
	defer cancel()
	watch := s.client.Watch(ctx, s.cfg.Prefix, client.WithPrefix(), client.WithRev(int64(after)+1))
	for got := range watch {
		if err := got.Err(); err != nil {
			if errors.Is(err, rpctypes.ErrCompacted) {
				return fmt.Errorf("watch etcd from revision %d: %w: %w", after+1, rendezvous.ErrSpaceForgotten, err)
			}
			return away("watch etcd", err)
		}
		var one []rendezvous.SpaceChange
		for i, e := range got.Events {
			c := s.change(e.Kv.Key, e.Kv.Value, e.Kv.ModRevision)
			c.Gone = e.Type == client.EventTypeDelete
			one = append(one, c)
			if i+1 == len(got.Events) || got.Events[i+1].Kv.ModRevision != e.Kv.ModRevision {
				fn(c.Revision, one)
				one = nil
			}
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return away("watch etcd", errors.New("the watch ended"))
}
