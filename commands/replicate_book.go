package commands

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
	"dibber/netkit/replicate"
)

// logbook is what can be asked of a store, whichever process has it open.
type logbook interface {
	logs(ctx context.Context) (logsDoc, error)
	create(ctx context.Context, name string) (logDoc, error)
	// append adds one entry with all that src holds, appendLines one for each line.
	append(ctx context.Context, name string, src io.Reader) (appendDoc, error)
	appendLines(ctx context.Context, name string, lines [][]byte) (appendDoc, error)
	// read calls head with the log and fn with its entries; the error of either ends it.
	read(ctx context.Context, q entryQuery, head func(logDoc) error, fn func(entryLine) error) error
	// payload writes a payload that is a file.
	payload(ctx context.Context, hash bamboo.Hash, w io.Writer) error
	stats(ctx context.Context) (statsDoc, error)
	forks(ctx context.Context) (forksDoc, error)
	// verify reads all of it; on is told of entries read so far, as far as they can be known.
	verify(ctx context.Context, on func(entries int)) (verifyDoc, error)
	// export writes logs, of some authors or of all, as a bundle.
	export(ctx context.Context, w io.Writer, authors []bamboo.Author) (replicate.BundleReport, error)
}

// entryQuery says which entries of a log are read.
type entryQuery struct {
	Name     string
	From, To uint64 // numbers of the first and the last
	Last     uint64 // so many of those that are there, at most
	Follow   bool   // and what comes afterwards, until the context ends
}

// entryLine is an entry that was read.
type entryLine struct {
	entryEvent
	Payload string `json:"payload"` // its hash
}

// ownBook is a store that this process has open.
type ownBook struct {
	e     *env
	store *storeOptions
	s     *logstore.Store
	// add signs entries; the store does by itself, a replica also tells its peers.
	add func(key ed25519.PrivateKey, log uint64, payloads ...logstore.Payload) ([]logstore.Record, error)
}

func (b *ownBook) view(fn func(*logstore.View) error) (err error) {
	v, err := b.s.View()
	if err != nil {
		return err
	}
	defer closing(&err, v.Close)
	return fn(v)
}

func (b *ownBook) logs(context.Context) (doc logsDoc, err error) {
	err = b.view(func(v *logstore.View) error {
		return v.Heads(func(h logstore.Head) error {
			doc.Logs = append(doc.Logs, describeLog(h))
			return nil
		})
	})
	return doc, err
}

func (b *ownBook) create(_ context.Context, name string) (logDoc, error) {
	key, _, err := b.store.author(b.e, false)
	if err != nil {
		return logDoc{}, err
	}
	h, err := b.s.CreateLog(authorOf(key), name)
	return describeLog(h), err
}

func (b *ownBook) append(_ context.Context, name string, src io.Reader) (appendDoc, error) {
	return b.sign(name, func() ([]logstore.Payload, error) {
		p, err := b.s.NewPayload(src)
		return []logstore.Payload{p}, err
	})
}

func (b *ownBook) appendLines(_ context.Context, name string, lines [][]byte) (appendDoc, error) {
	return b.sign(name, func() (payloads []logstore.Payload, err error) {
		for _, line := range lines {
			p, err := b.s.NewPayload(bytes.NewReader(line))
			if err != nil {
				return nil, err
			}
			payloads = append(payloads, p)
		}
		return payloads, nil
	})
}

// sign adds entries to a log of one's own, all or none; nothing is read before it is known that this can be done.
func (b *ownBook) sign(name string, payloads func() ([]logstore.Payload, error)) (doc appendDoc, err error) {
	key, _, err := b.store.author(b.e, false)
	if err != nil {
		return doc, err
	}
	var h logstore.Head
	err = b.view(func(v *logstore.View) (err error) {
		h, err = findLog(v, name)
		return err
	})
	if err != nil {
		return doc, err
	}
	if h.Author != authorOf(key) {
		return doc, &failure{Exit: exitRefused, Code: "not_mine", Err: fmt.Errorf("log %q is another author's", name)}
	}
	list, err := payloads()
	if err != nil {
		return doc, err
	}
	doc.Author, doc.Log = h.Author.String(), h.Log
	if len(list) == 0 {
		return doc, nil
	}
	records, err := b.add(key, h.Log, list...)
	if err != nil {
		return doc, err
	}
	last := &records[len(records)-1]
	doc.Count, doc.First, doc.Last, doc.Head = len(records), &records[0].Seq, &last.Seq, known(last.ID.String())
	for i := range records {
		doc.Bytes += records[i].PayloadSize
	}
	return doc, nil
}

func (b *ownBook) read(ctx context.Context, q entryQuery, head func(logDoc) error, fn func(entryLine) error) error {
	told := false
	for {
		changed := b.s.Changed()
		err := b.view(func(v *logstore.View) error {
			h, err := findLog(v, q.Name)
			if err != nil {
				return err
			}
			if !told {
				told = true
				q.begin(h.Height)
				if err := head(describeLog(h)); err != nil {
					return err
				}
			}
			return v.Run(h.Author, h.Log, q.From, q.To, func(r logstore.Record) error {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				q.From = r.Seq + 1
				return fn(lineOf(&r))
			})
		})
		if q.awaits(err) {
			q.Last, err = math.MaxUint64, nil // all of it is still to come
		}
		if err != nil || !q.Follow || q.From > q.To {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// begin applies Last to a log of that height.
func (q *entryQuery) begin(height uint64) {
	if height > q.Last {
		q.From = max(q.From, height-q.Last+1)
	}
	q.Last = math.MaxUint64
}

// awaits reports whether an error says no more than that the log has not come yet.
func (q *entryQuery) awaits(err error) bool {
	return q.Follow && strings.Contains(q.Name, "/") && errors.Is(err, logstore.ErrNotFound)
}

func lineOf(r *logstore.Record) entryLine {
	l := entryLine{Payload: r.PayloadHash.String(), entryEvent: entryEvent{
		Author: r.Author.String(), Log: r.Log, Seq: r.Seq, ID: r.ID.String(), TimeMS: r.Time, Bytes: r.PayloadSize,
	}}
	if r.Payload != nil {
		l.Data = &r.Payload
	}
	return l
}

func (b *ownBook) payload(_ context.Context, hash bamboo.Hash, w io.Writer) error {
	return b.s.ReadPayload(w, hash)
}

func (b *ownBook) stats(context.Context) (doc statsDoc, err error) {
	doc.Store, doc.Guard = b.store.dir(b.e), b.s.Guarded() == nil
	err = b.view(func(v *logstore.View) error {
		root := v.Root()
		doc.Entries, doc.Bytes, doc.Arrivals, doc.Root = v.Len(), v.Bytes(), v.Arrivals(), hex.EncodeToString(root[:])
		return v.Heads(func(h logstore.Head) error {
			doc.Logs++
			if h.Mine {
				doc.Mine++
			}
			if h.Fork > 0 {
				doc.Forked++
			}
			return nil
		})
	})
	return doc, err
}

func (b *ownBook) verify(ctx context.Context, on func(int)) (verifyDoc, error) {
	report, err := b.s.Verify(ctx, logstore.VerifyConfig{On: on})
	return verifyDoc{report}, err
}

func (b *ownBook) export(ctx context.Context, w io.Writer, authors []bamboo.Author) (replicate.BundleReport, error) {
	return replicate.NewReplica(b.s, replicate.Rules{}).Export(ctx, w, authors)
}

func (b *ownBook) forks(context.Context) (doc forksDoc, err error) {
	err = b.view(func(v *logstore.View) error {
		return v.Forks(func(f logstore.Fork) error {
			doc.Forks = append(doc.Forks, forkDoc{
				Author: f.Author.String(), Log: f.Log, Seq: f.Seq, Kept: f.Kept.ID.String(), Other: f.Other.ID.String(),
				KeptEntry: f.Kept.Raw, OtherEntry: f.Other.Raw,
			})
			return nil
		})
	})
	return doc, err
}
