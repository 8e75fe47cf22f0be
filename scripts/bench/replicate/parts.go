package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"dibber/netkit/bamboo"
	"dibber/netkit/host"
	"dibber/netkit/logstore"
	"dibber/netkit/negentropy"
	"dibber/netkit/replicate"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
)

// author is the key of all entries.
func author() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) }

// fill adds n entries of a size to the log, which is made if it is not there.
func fill(s *logstore.Store, n, size int) error {
	key := author()
	if _, err := s.CreateLog(bamboo.Author(key[ed25519.SeedSize:]), "bench"); err != nil && !errors.Is(err, logstore.ErrExists) {
		return err
	}
	v, err := s.View()
	if err != nil {
		return err
	}
	seed := [32]byte{1} // no payload twice
	binary.BigEndian.PutUint64(seed[1:], uint64(v.Len()))
	if err := v.Close(); err != nil {
		return err
	}
	random := rand.NewChaCha8(seed)
	for n > 0 {
		payloads := make([]logstore.Payload, min(n, 1000, max(1, 32<<20/size)))
		for i := range payloads {
			data := make([]byte, size)
			_, _ = random.Read(data) // never fails
			p, err := s.NewPayload(bytes.NewReader(data))
			if err != nil {
				return err
			}
			payloads[i] = p
		}
		if _, err := s.Append(key, 0, payloads...); err != nil {
			return err
		}
		n -= len(payloads)
	}
	return nil
}

// pair is a store here, another process with an empty one, and a connection with it.
type pair struct {
	store   *logstore.Store
	replica *replicate.Replica
	n       *host.Node
	far     *other
	conn    network.Conn
}

func newPair(ctx context.Context, dir string) (*pair, error) {
	p := &pair{}
	var err error
	if p.store, err = openStore(filepath.Join(dir, "a")); err != nil {
		return nil, err
	}
	p.replica = replicate.NewReplica(p.store, replicate.Rules{})
	if p.n, err = newHost(); err != nil {
		return nil, err
	}
	if p.far, err = start(ctx, filepath.Join(dir, "b")); err != nil {
		return nil, err
	}
	p.conn, err = p.n.Dial(ctx, p.far.info.ID, p.far.info.Addrs)
	return p, err
}

// close returns the most memory that the other process had, in MiB.
func (p *pair) close() (int64, error) {
	err := errors.Join(p.n.Close(), p.store.Close())
	peak, stopped := p.far.stop()
	return peak, errors.Join(err, stopped)
}

func (p *pair) sync(ctx context.Context) (replicate.Result, time.Duration, error) {
	began := time.Now()
	res, err := replicate.Do(ctx, p.n, p.far.info.ID, p.replica, replicate.SyncConfig{})
	if err == nil && !res.Converged {
		err = errors.New("the stores did not come in step")
	}
	return res, time.Since(began), err
}

// small moves many small entries, then nothing, then looks for a few by negentropy.
func small(ctx context.Context, dir string, entries int) ([]limit, error) {
	const size, quiet = 256, 20
	p, err := newPair(ctx, dir)
	if err != nil {
		return nil, err
	}
	if err := fill(p.store, entries, size); err != nil {
		return nil, err
	}
	filled := peakMiB()
	first, took, err := p.sync(ctx)
	if err != nil {
		return nil, err
	}
	rate := float64(first.Pushed.Entries) / took.Seconds()
	payload := float64(entries * size)
	ratio := (payload + float64(first.Reconcile.BytesSent+first.Reconcile.BytesReceived)) / payload
	before := cpu()
	var same replicate.Result
	for range quiet {
		if same, _, err = p.sync(ctx); err != nil {
			return nil, err
		}
	}
	each := (cpu() - before) / quiet
	sameBytes := same.Reconcile.BytesSent + same.Reconcile.BytesReceived
	found, rounds, tail, err := p.differences(ctx, size)
	if err != nil {
		return nil, err
	}
	near := peakMiB()
	far, err := p.close()
	return []limit{
		{fmt.Sprintf("%d entries of 256 bytes", entries), fmt.Sprintf("%.0f a second", rate), "at least 50000", rate >= 50_000},
		{"wire to payload", fmt.Sprintf("%.3f", ratio), "at most 1.35", ratio <= 1.35},
		{"memory, sender and receiver", fmt.Sprintf("%d MiB (%d once filled), %d MiB", near, filled, far), "at most 150", near <= 150 && far <= 150},
		{"nothing to do", fmt.Sprintf("%d bytes, %d round", sameBytes, same.Reconcile.Rounds), "at most 512, 1", sameBytes <= 512 && same.Reconcile.Rounds == 1},
		{"nothing to do, CPU of one side", fmt.Sprintf("%.2f ms", float64(each.Microseconds())/1000), "at most 5 ms", each <= 5*time.Millisecond},
		{"1000 differences at the tail", fmt.Sprintf("%d bytes, %d rounds, %d found", tail, rounds, found), "at most 36000, 3", tail <= 36_000 && rounds <= 3 && found == 1000},
	}, err
}

// differences adds 1000 entries on both sides, and reconciles the ids of all entries there with those that were here before.
func (p *pair) differences(ctx context.Context, entry int) (found, rounds, size int, err error) {
	v, err := p.store.View()
	if err != nil {
		return 0, 0, 0, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	if err := fill(p.store, 1000, entry); err != nil {
		return 0, 0, 0, err
	}
	if _, _, err := p.sync(ctx); err != nil {
		return 0, 0, 0, err
	}
	i, err := negentropy.NewInitiator(v, 0)
	if err != nil {
		return 0, 0, 0, err
	}
	msg, err := i.OpenTail()
	for ; err == nil && msg != nil; rounds++ {
		st, err := p.n.OpenStream(ctx, p.conn, replicate.SetProtocol)
		if err != nil {
			return 0, 0, 0, err
		}
		answer, err := wire.Exchange(ctx, st, msg, 1<<20)
		if err != nil {
			return 0, 0, 0, err
		}
		size += len(msg) + len(answer)
		var d negentropy.Diff
		if msg, d, err = i.Next(answer); err != nil {
			return 0, 0, 0, err
		}
		found += len(d.Have) + len(d.Need)
	}
	return found, rounds, size, err
}

// files moves payloads that are files, and as many bytes from one file to another over a bare stream, in turns: what else the machine
// does meanwhile slows both. The middle one of the ratios counts.
func files(ctx context.Context, dir string, size, mib, turns int) ([]limit, error) {
	p, err := newPair(ctx, dir)
	if err != nil {
		return nil, err
	}
	from := filepath.Join(dir, "a", "bare")
	if err := noise(from, mib); err != nil {
		return nil, err
	}
	type turn struct{ rate, bare float64 }
	all := make([]turn, turns)
	for i := range all {
		if err := fill(p.store, mib<<20/size, size); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := p.bare(ctx, from); err != nil {
			return nil, err
		}
		all[i].bare = float64(mib) / time.Since(began).Seconds()
		_, took, err := p.sync(ctx)
		if err != nil {
			return nil, err
		}
		all[i].rate = float64(mib) / took.Seconds()
	}
	_, err = p.close()
	slices.SortFunc(all, func(a, b turn) int { return cmp.Compare(a.rate/a.bare, b.rate/b.bare) })
	mid, ratio := all[turns/2], func(t turn) float64 { return t.rate / t.bare }
	return []limit{{
		fmt.Sprintf("payloads of %d KiB", size>>10),
		fmt.Sprintf("%.0f MiB/s, bare stream %.0f: %.2f (%.2f to %.2f)", mid.rate, mid.bare, ratio(mid), ratio(all[0]), ratio(all[turns-1])),
		"at least 0.80", ratio(mid) >= 0.8,
	}}, err
}

// noise makes a file of so many MiB that cannot be packed.
func noise(path string, mib int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{2}), int64(mib)<<20)
	return errors.Join(err, f.Sync(), f.Close())
}

// bare sends a file over a stream, and waits until the other process has it on disk.
func (p *pair) bare(ctx context.Context, path string) error {
	st, err := p.n.OpenStream(ctx, p.conn, sink)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // it was only read
	if err := pour(st, f); err != nil {
		return err
	}
	if err := st.CloseWrite(); err != nil {
		return err
	}
	_, err = io.ReadFull(st, make([]byte, 1))
	return errors.Join(err, st.Close())
}

// land writes a stream to a file, and answers when it is on disk.
func land(st network.Stream, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = pour(f, st)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if _, err := st.Write([]byte{1}); err != nil {
		return err
	}
	return st.Close()
}

// pour copies in large pieces.
func pour(dst io.Writer, src io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, 1<<20))
	return err
}

// verification compares proving a run with checking its signatures, one by one and many at once.
func verification() ([]limit, error) {
	const n = 4096
	var run []bamboo.Signed
	var previous *bamboo.Signed
	for seq := uint64(1); seq <= n; seq++ {
		var skip bamboo.Hash
		if bamboo.HasSkiplink(seq) {
			skip = run[bamboo.Lipmaa(seq)-1].ID
		}
		s, err := bamboo.Sign(author(), 0, previous, skip, make([]byte, 256))
		if err != nil {
			return nil, err
		}
		run = append(run, s)
		previous = &run[len(run)-1]
	}
	perSecond := func(fn func() error) (float64, error) {
		began := time.Now()
		err := fn()
		return n / time.Since(began).Seconds(), err
	}
	one, err := perSecond(func() error {
		for i := range run {
			s := &run[i]
			if !ed25519.Verify(s.Author[:], s.Raw[:len(s.Raw)-ed25519.SignatureSize], s.Signature[:]) {
				return bamboo.ErrSignature
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	batch, err := perSecond(func() error { return bamboo.VerifySignatures(run) })
	if err != nil {
		return nil, err
	}
	chain, err := perSecond(func() error {
		whole := make([]bamboo.Signed, 0, n)
		for i := range run {
			s, err := bamboo.Parse(run[i].Raw) // with its hash
			if err != nil {
				return err
			}
			whole = append(whole, s)
		}
		return bamboo.VerifyRun(whole, func(uint64) (bamboo.Hash, bool) { return bamboo.Hash{}, false })
	})
	return []limit{
		{"a run proven by its chain", fmt.Sprintf("%.0f a second, %.0f times one by one", chain, chain/one), "at least 50", chain/one >= 50},
		{"signatures many at once", fmt.Sprintf("%.0f a second, %.1f times one by one", batch, batch/one), "at least 4", batch/one >= 4},
	}, err
}
