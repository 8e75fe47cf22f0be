package route

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"dibber/netkit/store"

	"github.com/cockroachdb/pebble/v2"
	ds "github.com/ipfs/go-datastore"
	dsq "github.com/ipfs/go-datastore/query"
)

// keyPrefix is what the keys of the hash table begin with in a database that has others.
const keyPrefix = "dht"

// pebbleStore is a database as the library wants it. A change is on disk when the next Sync, of this or another user of
// the database, is: what a crash loses was one of many copies, and is brought again.
type pebbleStore struct{ db *store.DB }

func storeKey(key ds.Key) []byte { return []byte(keyPrefix + key.String()) }

// Get implements ds.Read.
func (p *pebbleStore) Get(_ context.Context, key ds.Key) ([]byte, error) {
	v, err := p.db.Get(storeKey(key))
	if errors.Is(err, store.ErrNotFound) {
		return nil, ds.ErrNotFound // compared with == by the library
	}
	return v, err
}

// Has implements ds.Read.
func (p *pebbleStore) Has(ctx context.Context, key ds.Key) (bool, error) {
	_, err := p.Get(ctx, key)
	if errors.Is(err, ds.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// GetSize implements ds.Read.
func (p *pebbleStore) GetSize(ctx context.Context, key ds.Key) (int, error) {
	v, err := p.Get(ctx, key)
	if err != nil {
		return -1, err
	}
	return len(v), nil
}

// Put implements ds.Write.
func (p *pebbleStore) Put(_ context.Context, key ds.Key, value []byte) error {
	batch := p.db.Pebble().NewBatch()
	defer batch.Close()
	if err := errors.Join(batch.Set(storeKey(key), value, nil), p.db.CommitSoon(batch)); err != nil {
		return fmt.Errorf("keep record: %w", err)
	}
	return nil
}

// Delete implements ds.Write.
func (p *pebbleStore) Delete(_ context.Context, key ds.Key) error {
	batch := p.db.Pebble().NewBatch()
	defer batch.Close()
	if err := errors.Join(batch.Delete(storeKey(key), nil), p.db.CommitSoon(batch)); err != nil {
		return fmt.Errorf("drop record: %w", err)
	}
	return nil
}

// Sync implements ds.Datastore.
func (p *pebbleStore) Sync(context.Context, ds.Key) error {
	return p.db.Commit(p.db.Pebble().NewBatch())
}

// Close implements io.Closer; the database is its owner's to close.
func (p *pebbleStore) Close() error { return nil }

// Batch implements ds.Batching.
func (p *pebbleStore) Batch(context.Context) (ds.Batch, error) { return ds.NewBasicBatch(p), nil }

// Query implements ds.Read. Of entries that change while it is read the state at its beginning counts.
func (p *pebbleStore) Query(_ context.Context, q dsq.Query) (dsq.Results, error) {
	prefix := ds.NewKey(q.Prefix).String() // cleaned, without a slash at the end
	if prefix != "/" {
		prefix += "/"
	}
	lower := []byte(keyPrefix + prefix)
	upper := bytes.Clone(lower)
	upper[len(upper)-1]++ // a slash, so there is no carry
	it, err := p.db.Pebble().NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	it.First()
	all := dsq.ResultsFromIterator(dsq.Query{}, dsq.Iterator{
		Next: func() (dsq.Result, bool) {
			if !it.Valid() {
				err := it.Error()
				return dsq.Result{Error: err}, err != nil
			}
			e := dsq.Entry{Key: string(it.Key()[len(keyPrefix):])}
			v, err := it.ValueAndErr()
			if e.Size = len(v); !q.KeysOnly {
				e.Value = bytes.Clone(v)
			}
			it.Next()
			return dsq.Result{Entry: e, Error: err}, true
		},
		Close: it.Close,
	})
	rest := q
	rest.Prefix = "" // done
	return dsq.NaiveQueryApply(rest, all), nil
}
