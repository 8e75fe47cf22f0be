package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"dibber/netkit/bamboo"
	"dibber/netkit/gossip"
	"dibber/netkit/host"
	"dibber/netkit/logstore"
	"dibber/netkit/replicate"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
)

const (
	// arrivals answers with when every entry was received and stored, in nanoseconds since 1970; the processes share a clock.
	arrivals protocol.ID = "/bench/arrivals/1.0.0"
	// echo answers a small request with one byte.
	echo protocol.ID = "/bench/echo/1.0.0"
	// pushes is how many entries are told, one after the other.
	pushes = 300
	pause  = 5 * time.Millisecond
)

// journal is when entries came.
type journal struct {
	mu   sync.Mutex
	came []uint64 // received, stored, for each entry
}

func (j *journal) note(e replicate.Live) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for range e.To - e.From + 1 {
		j.came = append(j.came, uint64(e.Received.UnixNano()), uint64(e.Stored.UnixNano()))
	}
}

func (j *journal) answer(st network.Stream) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := binary.Write(st, binary.BigEndian, j.came); err != nil {
		_ = st.Reset() // the other side learns that it failed
		return
	}
	_ = st.Close() // the answer is on its way
}

func answerEcho(st network.Stream) {
	if _, err := io.Copy(io.Discard, st); err == nil {
		if _, err = st.Write([]byte{1}); err == nil {
			_ = st.Close() // the answer is on its way
			return
		}
	}
	_ = st.Reset() // the other side learns that it failed
}

// newGossip speaks gossip for entries alone.
func newGossip(n *host.Node) (*gossip.Service, error) {
	return gossip.New(n, gossip.Config{Topics: func(name string) bool { return name == replicate.LiveTopic }})
}

// pushed measures how long an entry takes from when it is on disk here to when it is proven, and on disk, there.
func pushed(ctx context.Context, dir string) (_ []limit, err error) {
	p, err := newPair(ctx, dir)
	if err != nil {
		return nil, err
	}
	g, err := newGossip(p.n)
	if err != nil {
		return nil, err
	}
	s, err := replicate.New(p.n, p.replica, replicate.Config{Every: -1, Gossip: g})
	if err != nil {
		return nil, err
	}
	key := author()
	h, err := p.store.CreateLog(bamboo.Author(key[32:]), "live")
	if err != nil {
		return nil, err
	}
	topic, err := g.Join(replicate.LiveTopic, gossip.TopicConfig{})
	if err != nil {
		return nil, err
	}
	if err := topic.AwaitPeers(ctx, 1); err != nil {
		return nil, err
	}
	time.Sleep(3 * gossip.DefaultHeartbeat) // until the mesh stands
	var asked, signed []time.Time
	var rounds []time.Duration
	payload := make([]byte, 256)
	for i := range pushes {
		began := time.Now()
		if err := p.round(ctx); err != nil {
			return nil, err
		}
		rounds = append(rounds, time.Since(began))
		time.Sleep(pause)
		binary.BigEndian.PutUint64(payload, uint64(i))
		asked = append(asked, time.Now())
		if _, err := p.replica.Append(key, h.Log, logstore.PayloadOf(slices.Clone(payload))); err != nil {
			return nil, err
		}
		signed = append(signed, time.Now())
		time.Sleep(pause)
	}
	came, err := p.arrived(ctx)
	if err = errors.Join(err, topic.Close(), s.Close(), g.Close()); err != nil {
		return nil, err
	}
	if _, err := p.close(); err != nil {
		return nil, err
	}
	return told(rounds, asked, signed, came), nil
}

// round is one small request on a stream of its own, and the answer.
func (p *pair) round(ctx context.Context) error {
	st, err := p.n.OpenStream(ctx, p.conn, echo)
	if err != nil {
		return err
	}
	if _, err = st.Write(make([]byte, 256)); err == nil {
		err = st.CloseWrite()
	}
	if err == nil {
		_, err = io.ReadFull(st, make([]byte, 1))
	}
	return errors.Join(err, st.Close())
}

// arrived waits until every entry has come, and returns when.
func (p *pair) arrived(ctx context.Context) ([]uint64, error) {
	for range 100 {
		st, err := p.n.OpenStream(ctx, p.conn, arrivals)
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(st)
		_ = st.Close() // all that was to be heard was heard
		if err != nil {
			return nil, err
		}
		if len(data) >= 16*pushes {
			out := make([]uint64, 2*pushes)
			_, err = binary.Decode(data, binary.BigEndian, out)
			return out, err
		}
		time.Sleep(10 * pause)
	}
	return nil, errors.New("not every entry came by gossip")
}

// told sums up.
func told(rounds []time.Duration, asked, signed []time.Time, came []uint64) []limit {
	var proven, stored, all []time.Duration
	for i := range signed {
		received, kept := time.Unix(0, int64(came[2*i])), time.Unix(0, int64(came[2*i+1]))
		proven = append(proven, received.Sub(signed[i].Round(0)))
		stored = append(stored, kept.Sub(signed[i].Round(0)))
		all = append(all, kept.Sub(asked[i].Round(0)))
	}
	bare := median(rounds)
	row := func(name string, d []time.Duration) limit {
		ratio := float64(median(d)) / float64(bare)
		return limit{name, fmt.Sprintf("%.2f ms, bare round trip %.2f (%.2f)", ms(median(d)), ms(bare), ratio), "", true}
	}
	first := row("live push, to proven there", proven)
	first.want, first.met = "at most 3.00", median(proven) <= 3*bare
	return []limit{first, row("live push, to disk there", stored), row("live push, from disk to disk", all)}
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
