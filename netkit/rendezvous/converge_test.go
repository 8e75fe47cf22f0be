package rendezvous

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// mirror builds from events what a server holds.
type mirror struct {
	mu    sync.Mutex
	held  map[entryKey]uint64 // record seq
	fresh map[entryKey]uint64 // of a full snapshot under way
}

func (m *mirror) on(e WatchEvent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Full {
		m.fresh = make(map[entryKey]uint64)
	}
	for _, entry := range e.Entries {
		key := entryKey{entry.Namespace, entry.Peer}
		m.held[key] = entry.Seq
		if m.fresh != nil {
			m.fresh[key] = entry.Seq
		}
	}
	switch e.Kind {
	case WatchRemove, WatchExpire:
		delete(m.held, entryKey{e.Namespace, e.Peer})
	case WatchSynced:
		if m.fresh != nil {
			m.held, m.fresh = m.fresh, nil
		}
	default: // what it holds is in the entries
	}
}

func (m *mirror) copy() map[entryKey]uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.held)
}

// TestWatchersConverge registers, refreshes and removes from many goroutines,
// with and without a database, while watchers with short queues follow: all of
// them end with what the registry has.
func TestWatchersConverge(t *testing.T) {
	for name, db := range map[string]DB{"memory": nil, "database": &memDB{data: make(map[string][]byte)}} {
		t.Run(name, func(t *testing.T) {
			point, reader := newHost(t), newHost(t)
			s := newServer(t, point, ServerConfig{DB: db, Limits: Limits{WatchQueue: 4}})
			ids := sealedPeers(t, 8)
			mirrors := make(map[string]*mirror)
			ctx, cancel := context.WithCancel(testContext(t))
			var watchers sync.WaitGroup
			for _, ns := range []string{"", "a", "b"} {
				m := &mirror{held: make(map[entryKey]uint64)}
				mirrors[ns] = m
				watchers.Go(func() {
					if err := Watch(ctx, reader, infoOf(point), WatchRequest{Namespace: ns}, m.on); !errors.Is(err, context.Canceled) {
						t.Errorf("watch %q: %v", ns, err)
					}
				})
			}
			var workers sync.WaitGroup
			for i, p := range ids {
				workers.Go(func() {
					chance := rand.New(rand.NewPCG(uint64(i), 1))
					for seq := uint64(1); seq <= 150; seq++ {
						key := entryKey{[]string{"a", "b"}[chance.IntN(2)], p.id}
						if chance.IntN(3) == 0 {
							if c := s.reg.remove(key); c != nil && c.commit != nil {
								_ = c.commit.wait()
							}
							continue
						}
						if _, why := s.put(t.Context(), p.claim(t, key.ns, seq)); why != nil {
							t.Error(why)
						}
					}
				})
			}
			workers.Wait()
			for ns, m := range mirrors {
				want := make(map[entryKey]uint64)
				for _, e := range everything(s.reg) {
					if ns == "" || e.space.ns == ns {
						want[e.key()] = e.packed.recordSeq(e.owner.id, Standard)
					}
				}
				var got map[entryKey]uint64
				for ctx.Err() == nil {
					if got = m.copy(); maps.Equal(want, got) {
						break
					}
					time.Sleep(time.Millisecond)
				}
				if diff := cmp.Diff(want, got, cmp.AllowUnexported(entryKey{})); diff != "" {
					t.Errorf("namespace %q: %s", ns, diff)
				}
			}
			cancel()
			watchers.Wait()
		})
	}
}
