package route

import (
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"sync"

	ds "github.com/ipfs/go-datastore"
	dsq "github.com/ipfs/go-datastore/query"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/libp2p/go-libp2p/core/peer"
)

// errEnded is the answer to those who are still at work when the node's part has ended.
var errEnded = errors.New("the node's part in the network has ended")

// ErrFull means that as many records or provider entries are kept as the limits allow.
var ErrFull = errors.New("no room for more")

// keeper keeps what the library stores within limits. What is kept already may always be replaced.
type keeper struct {
	below  ds.Batching
	limits Limits

	mu        sync.RWMutex // guards following, and the order of changes
	closed    bool         // below may not be used any more
	records   int
	providers int
	byAuthor  map[string]int // records, by the author as the key has it
	byPeer    map[string]int // provider entries, by the provider as the key has it
}

// newKeeper counts what below has.
func newKeeper(below ds.Batching, l Limits) (*keeper, error) {
	k := &keeper{below: below, limits: l, byAuthor: make(map[string]int), byPeer: make(map[string]int)}
	for e, err := range ds.QueryIter(context.Background(), below, dsq.Query{KeysOnly: true}) {
		if err != nil {
			return nil, fmt.Errorf("count records: %w", err)
		}
		k.count(ds.RawKey(e.Key), 1)
	}
	return k, nil
}

// held is how many records and provider entries there are.
func (k *keeper) held() (records, providers int) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.records, k.providers
}

// owner says what a key of the library stands for: an entry of a provider, or a record of an author.
func owner(key ds.Key) (who string, provider bool) {
	text := key.String()
	if rest, ok := strings.CutPrefix(text, records.ProvidersKeyPrefix); ok {
		_, who, _ = strings.Cut(rest, "/")
		return who, true
	}
	name, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(text[strings.LastIndexByte(text, '/')+1:])
	if err != nil {
		return text, false
	}
	// /dibber/AUTHOR/NAME, /pk/AUTHOR and /ipns/AUTHOR; the author of the last two is bytes.
	_, who, _ = strings.Cut(strings.TrimPrefix(string(name), "/"), "/")
	if strings.HasPrefix(string(name), "/"+Namespace+"/") {
		who, _, _ = strings.Cut(who, "/")
	}
	return who, false
}

// count changes the counts by one key more or less. The caller holds k.mu.
func (k *keeper) count(key ds.Key, by int) {
	who, provider := owner(key)
	total, per := &k.records, k.byAuthor
	if provider {
		total, per = &k.providers, k.byPeer
	}
	*total += by
	if per[who] += by; per[who] <= 0 {
		delete(per, who)
	}
}

// room says whether a new key may be kept. The caller holds k.mu.
func (k *keeper) room(key ds.Key) error {
	who, provider := owner(key)
	switch l := k.limits; {
	case provider && k.providers >= l.Providers:
		return fmt.Errorf("%w: %d provider entries are kept", ErrFull, k.providers)
	case provider && k.byPeer[who] >= l.ProvidersPerPeer:
		return fmt.Errorf("%w: %d entries of this provider are kept", ErrFull, k.byPeer[who])
	case !provider && k.records >= l.Records:
		return fmt.Errorf("%w: %d records are kept", ErrFull, k.records)
	case !provider && k.byAuthor[who] >= l.RecordsPerAuthor:
		return fmt.Errorf("%w: %d records of this author are kept", ErrFull, k.byAuthor[who])
	}
	return nil
}

// full reports whether what a request brings cannot be kept for want of room.
func (k *keeper) full(req *pb.Message, from peer.ID) bool {
	encode := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString
	var key ds.Key
	switch req.GetType() {
	case pb.Message_PUT_VALUE:
		ns, _, _ := strings.Cut(strings.TrimPrefix(string(req.GetKey()), "/"), "/")
		key = ds.NewKey("/" + ns + "/" + encode(req.GetKey()))
	case pb.Message_ADD_PROVIDER:
		key = ds.NewKey(records.ProvidersKeyPrefix + encode(req.GetKey()) + "/" + encode([]byte(from)))
	default:
		return false
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.closed {
		return false
	}
	has, err := k.below.Has(context.Background(), key)
	return err == nil && !has && k.room(key) != nil
}

// Put implements ds.Write.
func (k *keeper) Put(ctx context.Context, key ds.Key, value []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return errEnded
	}
	has, err := k.below.Has(ctx, key)
	if err != nil {
		return err
	}
	if !has {
		if err := k.room(key); err != nil {
			return err
		}
	}
	if err := k.below.Put(ctx, key, value); err != nil {
		return err
	}
	if !has {
		k.count(key, 1)
	}
	return nil
}

// Delete implements ds.Write.
func (k *keeper) Delete(ctx context.Context, key ds.Key) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return errEnded
	}
	has, err := k.below.Has(ctx, key)
	if err != nil || !has {
		return err
	}
	if err := k.below.Delete(ctx, key); err != nil {
		return err
	}
	k.count(key, -1)
	return nil
}

// reading calls read while below may be used.
func reading[T any](k *keeper, read func() (T, error)) (T, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.closed {
		var none T
		return none, errEnded
	}
	return read()
}

// Get implements ds.Read.
func (k *keeper) Get(ctx context.Context, key ds.Key) ([]byte, error) {
	return reading(k, func() ([]byte, error) { return k.below.Get(ctx, key) })
}

// Has implements ds.Read.
func (k *keeper) Has(ctx context.Context, key ds.Key) (bool, error) {
	return reading(k, func() (bool, error) { return k.below.Has(ctx, key) })
}

// GetSize implements ds.Read.
func (k *keeper) GetSize(ctx context.Context, key ds.Key) (int, error) {
	return reading(k, func() (int, error) { return k.below.GetSize(ctx, key) })
}

// Query implements ds.Read.
func (k *keeper) Query(ctx context.Context, q dsq.Query) (dsq.Results, error) {
	return reading(k, func() (dsq.Results, error) { return k.below.Query(ctx, q) })
}

// Sync implements ds.Datastore.
func (k *keeper) Sync(ctx context.Context, prefix ds.Key) error {
	_, err := reading(k, func() (struct{}, error) { return struct{}{}, k.below.Sync(ctx, prefix) })
	return err
}

// Batch implements ds.Batching: the changes are made one by one, each within the limits.
func (k *keeper) Batch(context.Context) (ds.Batch, error) { return ds.NewBasicBatch(k), nil }

// Close implements io.Closer: what is below is used no more, and its owner's to close.
func (k *keeper) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	return nil
}

// noCache stands for the library's cache of providers, which would serve entries that the limits have refused.
type noCache struct{}

// Add implements simplelru.LRUCache, as the other methods do.
func (noCache) Add(any, any) bool              { return false }
func (noCache) Get(any) (any, bool)            { return nil, false }
func (noCache) Contains(any) bool              { return false }
func (noCache) Peek(any) (any, bool)           { return nil, false }
func (noCache) Remove(any) bool                { return false }
func (noCache) RemoveOldest() (any, any, bool) { return nil, nil, false }
func (noCache) GetOldest() (any, any, bool)    { return nil, nil, false }
func (noCache) Keys() []any                    { return nil }
func (noCache) Len() int                       { return 0 }
func (noCache) Purge()                         {}
func (noCache) Resize(int) int                 { return 0 }
