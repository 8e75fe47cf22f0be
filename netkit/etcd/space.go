package etcd

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	client "go.etcd.io/etcd/client/v3"

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
	leases leases
}

// Open makes a client of the cluster. It does not wait for it: a cluster that is away, or
// does not let this client in, shows with the first request.
func Open(cfg Config) (*Space, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, errors.New("open etcd: no endpoint")
	}
	cfg.Prefix = strings.TrimSuffix(cmp.Or(cfg.Prefix, "/dibber"), "/") + "/"
	cfg.Attempt = cmp.Or(cfg.Attempt, 2*time.Second)
	c, err := newClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("open etcd at %s: %w", strings.Join(cfg.Endpoints, ","), err)
	}
	return &Space{cfg: cfg, client: c, leases: leases{granted: make(map[int64]time.Time)}}, nil
}

// Close ends the connections. What is registered stays.
func (s *Space) Close() error {
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close etcd: %w", err)
	}
	return nil
}

// attempt makes a request within a time, and has it refused by a member without a leader.
func (s *Space) attempt(ctx context.Context, most time.Duration, doing string, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(client.WithRequireLeader(ctx), most)
	defer cancel()
	ctx, last := withCause(ctx)
	err := do(ctx)
	if err == nil {
		return nil
	}
	if timeUp(err) {
		err = cmp.Or(s.handshake(ctx), last.of(err))
	}
	return failed(doing, err)
}

// Get implements [rendezvous.Space].
func (s *Space) Get(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	err = s.attempt(ctx, s.cfg.Attempt, "read etcd", func(ctx context.Context) error {
		got, err := s.client.Get(ctx, s.cfg.Prefix+key)
		if err == nil && len(got.Kvs) > 0 {
			value, revision = got.Kvs[0].Value, uint64(got.Kvs[0].ModRevision)
		}
		return err
	})
	return value, revision, err
}

// Remembers implements [rendezvous.Space].
func (s *Space) Remembers(ctx context.Context, revision uint64) error {
	return s.attempt(ctx, s.cfg.Attempt, fmt.Sprintf("read etcd at revision %d", revision), func(ctx context.Context) error {
		_, err := s.client.Get(ctx, s.cfg.Prefix, client.WithRev(int64(revision)), client.WithCountOnly())
		return err
	})
}

// Commit implements [rendezvous.Space].
func (s *Space) Commit(ctx context.Context, w rendezvous.SpaceWrite) (revision uint64, kept bool, err error) {
	err = s.attempt(ctx, s.cfg.Attempt, "write etcd", func(ctx context.Context) error {
		for {
			done, err := s.txn(ctx, w)
			if is(err, rpctypes.ErrLeaseNotFound) {
				// Expired or revoked while it was thought to be there: granted again, unless time is up.
				s.leases.forget(w.Puts)
				continue
			}
			if err != nil {
				return err
			}
			if kept = done.Succeeded; kept {
				revision = uint64(done.Header.Revision)
			} else {
				revision = s.broken(w, done)
			}
			return nil
		}
	})
	return revision, kept, err
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
	var guards []client.Cmp
	var reads []client.Op
	for name, revision := range w.Guards {
		key := s.cfg.Prefix + name
		guards = append(guards, client.Compare(client.ModRevision(key), "=", int64(revision)))
		reads = append(reads, client.OpGet(key))
	}
	return s.client.Txn(ctx).If(guards...).Then(ops...).Else(reads...).Commit()
}

// broken is the revision of a guard that did not hold, 0 for not there.
func (s *Space) broken(w rendezvous.SpaceWrite, done *client.TxnResponse) uint64 {
	there := make(map[string]uint64)
	for _, r := range done.Responses {
		for _, kv := range r.GetResponseRange().GetKvs() {
			there[strings.TrimPrefix(string(kv.Key), s.cfg.Prefix)] = uint64(kv.ModRevision)
		}
	}
	for name, revision := range w.Guards {
		if there[name] != revision {
			return there[name]
		}
	}
	return 0
}

// All implements [rendezvous.Space].
func (s *Space) All(ctx context.Context) (all []rendezvous.SpaceChange, revision uint64, err error) {
	err = s.attempt(ctx, 15*s.cfg.Attempt, "read etcd", func(ctx context.Context) error {
		got, err := s.client.Get(ctx, s.cfg.Prefix, client.WithPrefix(), client.WithSort(client.SortByModRevision, client.SortAscend))
		if err != nil {
			return err
		}
		revision, all = uint64(got.Header.Revision), make([]rendezvous.SpaceChange, len(got.Kvs))
		for i, kv := range got.Kvs {
			all[i] = s.change(kv.Key, kv.Value, kv.ModRevision)
		}
		return nil
	})
	return all, revision, err
}

func (s *Space) change(key, value []byte, revision int64) rendezvous.SpaceChange {
	return rendezvous.SpaceChange{Key: strings.TrimPrefix(string(key), s.cfg.Prefix), Value: value, Revision: uint64(revision)}
}

// Follow implements [rendezvous.Space].
func (s *Space) Follow(ctx context.Context, after uint64, fn func(uint64, []rendezvous.SpaceChange)) error {
	ctx, cancel := context.WithCancel(client.WithRequireLeader(ctx))
	defer cancel()
	doing := fmt.Sprintf("watch etcd from revision %d", after+1)
	watch := s.client.Watch(ctx, s.cfg.Prefix, client.WithPrefix(), client.WithRev(int64(after)+1))
	for got := range watch {
		if err := got.Err(); err != nil {
			return failed(doing, err)
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
	return failed(doing, errors.New("the watch ended"))
}
