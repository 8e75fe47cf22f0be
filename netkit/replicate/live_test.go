package replicate

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"dibber/netkit/bamboo"
	"dibber/netkit/gossip"
	"dibber/netkit/host"
	"dibber/netkit/logstore"
	"dibber/netkit/negentropy"
)

// TestJudge weighs runs against a log of ten entries, one of which has a file.
func TestJudge(t *testing.T) {
	run := branch(t, 1, nil, 20, "a payload")
	other := branch(t, 2, nil, 20, "a payload")
	forked := branch(t, 1, run[:12], 3, "another payload")
	altered := func(from, to int, change func(*logstore.Record)) []logstore.Record {
		out := slices.Clone(run[from:to])
		change(&out[len(out)-1])
		return out
	}
	file := branch(t, 1, run[:10], 1, string(bytes.Repeat([]byte("x"), logstore.InlineMax+1)))[10:]
	file[0].Payload = nil
	for _, c := range []struct {
		name string
		run  []logstore.Record
		want worth
	}{
		{"the next", run[10:11], liveNext},
		{"the next, and more", run[10:20], liveNext},
		{"some of them are here", run[5:15], liveNext},
		{"all are here", run[5:10], liveKnown},
		{"one is missing", run[11:12], liveAhead},
		{"a file", file, liveAhead},
		{"a fork further on", forked[12:14], liveAhead},
		{"a fork that begins elsewhere", forked[13:14], liveAhead},
		{"another author's are not taken", other[:1], liveBarred},
		{"the quota is used up", branch(t, 1, run[:10], 3, string(make([]byte, logstore.InlineMax)))[10:], liveBarred},
		{"two authors", []logstore.Record{run[10], other[11]}, liveBad},
		{"numbers with a gap", []logstore.Record{run[10], run[12]}, liveBad},
		{"another payload", altered(10, 12, func(r *logstore.Record) { r.Payload = []byte("b payload") }), liveBad},
		{"another signature", altered(10, 12, func(r *logstore.Record) {
			raw := slices.Clone(r.Raw)
			raw[len(raw)-1] ^= 1
			r.Signed, _ = bamboo.Parse(raw)
		}), liveBad},
		{"behind all times", altered(10, 12, func(r *logstore.Record) { r.Time = negentropy.Forever }), liveBad},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewReplica(openStore(t), Rules{Authors: map[bamboo.Author]bool{authorN(1): true}, PerAuthor: 40000})
			if _, err := r.Store.Put(run[:10]); err != nil {
				t.Fatal(err)
			}
			message, n := encodeLive(c.run)
			if n != len(c.run) {
				t.Fatalf("%d of %d entries in a message", n, len(c.run))
			}
			_, got, added, err := r.hear("peer", message)
			if err != nil || got != c.want {
				t.Errorf("worth %d, %v; want %d", got, err, c.want)
			}
			last := c.run[len(c.run)-1]
			if h := logOf(t, r.Store, 1); c.want == liveNext && h.ID != last.ID || c.want != liveNext && (h.Height != 10 || added != 0) {
				t.Errorf("the log ends with entry %d, %d added", h.Height, added)
			}
		})
	}
}

// TestLiveFork keeps the proof of a fork that a message shows.
func TestLiveFork(t *testing.T) {
	run := branch(t, 1, nil, 10, "a payload")
	r := holding(t, run)
	message, _ := encodeLive(branch(t, 1, run[:5], 3, "another payload")[5:])
	if _, w, added, err := r.hear("peer", message); w != liveNext || added != 0 || !errors.Is(err, logstore.ErrForked) {
		t.Errorf("worth %d, %d added, %v", w, added, err)
	}
	if h := logOf(t, r.Store, 1); h.Fork != 6 || h.Height != 10 {
		t.Errorf("%+v", h)
	}
	if _, w, _, err := r.hear("peer", message); w != liveBarred || err != nil {
		t.Errorf("again: worth %d, %v", w, err)
	}
}

// TestLiveMessagesAreBounded puts what is long into several.
func TestLiveMessagesAreBounded(t *testing.T) {
	run := branch(t, 1, nil, 20, string(make([]byte, logstore.InlineMax)))
	count := 0
	for rest := run; len(rest) > 0; count++ {
		message, n := encodeLive(rest)
		if len(message) > liveBytes+64 {
			t.Errorf("a message of %d bytes", len(message))
		}
		rest = rest[n:]
	}
	if count < 5 || count > 10 {
		t.Errorf("%d messages", count)
	}
}

// telling is a node with a service and gossip.
func telling(t *testing.T, r *Replica) (*host.Node, <-chan Live) {
	t.Helper()
	n := node(t)
	g, err := gossip.New(n, gossip.Config{Heartbeat: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	came := make(chan Live, 1000)
	s, err := New(n, r, Config{Every: time.Hour, Gossip: g, OnLive: func(l Live) { came <- l }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return n, came
}

// TestLive tells three nodes in a row of what the first signs, until the last has heard of some of it by gossip; whatever got lost comes
// by sessions.
func TestLive(t *testing.T) {
	a, b, c := replicaOf(t), replicaOf(t), replicaOf(t)
	na, _ := telling(t, a)
	nb, _ := telling(t, b)
	nc, came := telling(t, c)
	connect(t, na, nb)
	connect(t, nb, nc)
	h, err := a.Store.CreateLog(authorN(1), "log")
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for heard := false; !heard; {
		select {
		case l := <-came:
			heard = true
			if l.Via != nb.ID() || l.Author != authorN(1) || l.From > l.To || l.Bytes == 0 || l.Stored.Before(l.Received) {
				t.Errorf("%+v", l)
			}
		case <-tick.C:
			if _, err := a.Append(keyN(1), h.Log, logstore.PayloadOf([]byte("text"))); err != nil {
				t.Fatal(err)
			}
		}
	}
	for rootOf(t, a) != rootOf(t, c) {
		<-tick.C
	}
}

// TestWhoGossipDoesNotReach gets what is signed by a session, and so do those behind it.
func TestWhoGossipDoesNotReach(t *testing.T) {
	a, b, c := replicaOf(t), replicaOf(t), replicaOf(t)
	na, _ := telling(t, a)
	nb, _ := serving(t, b, Config{Every: time.Hour})
	nc, _ := telling(t, c)
	connect(t, na, nb)
	connect(t, nb, nc)
	h, err := a.Store.CreateLog(authorN(1), "log")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := a.Append(keyN(1), h.Log, logstore.PayloadOf([]byte("text"))); err != nil {
			t.Fatal(err)
		}
		for rootOf(t, a) != rootOf(t, c) {
			time.Sleep(10 * time.Millisecond)
		}
	}
}
