package replicate

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"dibber/netkit/logstore"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// world is a number of peers with a store each, some of which cannot reach each other.
type world struct {
	t      *testing.T
	random *rand.Rand
	disks  []*vfs.MemFS
	peers  []*Replica
	side   []int // of the partition
	mail   []letter
}

// letter is a live message on its way.
type letter struct {
	to      int
	message []byte
}

// TestConvergence lets peers write, tell each other and meet in random order, with partitions, cuts at every place, live messages that
// are lost, repeated and overtaken, both sides of a pair at once and crashes that lose what was not on disk. In the end, when all can reach each other, all hold the same, and everything that was
// ever written.
func TestConvergence(t *testing.T) {
	for seed := range uint64(rounds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := &world{t: t, random: rand.New(rand.NewPCG(seed, 7)), side: make([]int, 5)} //nolint:gosec // to be repeated
			for range w.side {
				disk := vfs.NewCrashableMem()
				w.disks, w.peers = append(w.disks, disk), append(w.peers, inMemory(t, disk))
			}
			written := make([]int, len(w.peers))
			for range 60 {
				i := w.random.IntN(len(w.peers))
				switch w.random.IntN(10) {
				case 0, 1:
					n := 1 + w.random.IntN(300)
					w.tell(i, write(t, w.peers[i].Store, i+1, n, 1+w.random.IntN(600)), uint64(n))
					written[i] += n
				case 8, 9:
					w.deliver(1 + w.random.IntN(8))
				case 2:
					w.crash(i)
				case 3:
					for j := range w.side {
						w.side[j] = w.random.IntN(2)
					}
				default:
					w.meet(i, w.random.IntN(len(w.peers)))
				}
			}
			w.heal(written)
		})
	}
}

// meet lets two peers have a session that may be cut anywhere on either side, if they can reach each other.
func (w *world) meet(i, j int) {
	if i == j || w.side[i] != w.side[j] {
		return
	}
	x, y := wires(w.t)
	var a, b Stream = x, y
	switch w.random.IntN(4) {
	case 0:
		a = &cutStream{Stream: x, left: w.random.Int64N(200_000)}
	case 1:
		b = &cutStream{Stream: y, left: w.random.Int64N(200_000)}
	}
	algo := []Algo{Auto, Auto, Cursor, Vector, Ranges}[w.random.IntN(5)]
	ra, rb := meetOver(w.t, a, b, w.peers[i], w.peers[j], SessionConfig{Peer: fmt.Sprint(j), Algo: algo}, SessionConfig{Peer: fmt.Sprint(i)})
	for _, r := range []outcome{ra, rb} {
		if errors.Is(r.err, ErrProtocol) || len(r.Forks) > 0 {
			w.t.Fatalf("honest peers: %v, forks %v", r.err, r.Forks)
		}
	}
}

// tell sends what a peer has signed last to those who can hear it, now or later, not at all or twice.
func (w *world) tell(i int, h logstore.Head, n uint64) {
	var records []logstore.Record
	see(w.t, w.peers[i].Store, func(v *logstore.View) {
		err := v.Run(h.Author, h.Log, h.Height-n+1, h.Height, func(r logstore.Record) error {
			records = append(records, r)
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
	})
	for len(records) > 0 {
		message, k := encodeLive(records)
		records = records[k:]
		for j := range w.peers {
			if j == i || w.side[j] != w.side[i] {
				continue
			}
			for range w.random.IntN(3) {
				w.mail = append(w.mail, letter{j, message})
			}
		}
	}
	w.deliver(w.random.IntN(8))
}

// deliver lets some messages arrive, in any order.
func (w *world) deliver(n int) {
	for range min(n, len(w.mail)) {
		k := w.random.IntN(len(w.mail))
		m := w.mail[k]
		w.mail = slices.Delete(w.mail, k, k+1)
		if _, worth, _, err := w.peers[m.to].hear("", m.message); err != nil || worth == liveBad || worth == liveBarred {
			w.t.Fatalf("honest peers: a message is worth %d, %v", worth, err)
		}
	}
}

// crash takes the power from a peer: what it did not sync is gone, or half of it.
func (w *world) crash(i int) {
	disk := w.disks[i].CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * w.random.IntN(3), RNG: w.random})
	if err := w.peers[i].Store.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.disks[i], w.peers[i] = disk, inMemory(w.t, disk)
}

// heal lets everybody meet everybody, and compares.
func (w *world) heal(written []int) {
	clear(w.side)
	for range 2 {
		for i := range w.peers {
			next := (i + 1) % len(w.peers)
			ra, rb := meet(w.t, w.peers[i], w.peers[next], SessionConfig{Peer: fmt.Sprint(next)}, SessionConfig{Peer: fmt.Sprint(i)})
			if ra.err != nil || rb.err != nil {
				w.t.Fatal(ra.err, rb.err)
			}
			if !ra.Converged { // what a cursor did not lead to, the next session finds
				met(w.t, w.peers[i], w.peers[next], SessionConfig{Peer: fmt.Sprint(next)}, SessionConfig{Peer: fmt.Sprint(i)})
			}
		}
	}
	root := rootOf(w.t, w.peers[0])
	for i, p := range w.peers {
		if rootOf(w.t, p) != root {
			w.t.Errorf("peer %d has another root", i)
		}
		for j, n := range written {
			if n > 0 && int(logOf(w.t, p.Store, j+1).Height) != n {
				w.t.Errorf("peer %d has %d entries of %d, want %d", i, logOf(w.t, p.Store, j+1).Height, j, n)
			}
		}
	}
	// Peers are alike and reading a store through is half of all the work: two of them stand for the others.
	for _, i := range w.random.Perm(len(w.peers))[:2] {
		if report, err := w.peers[i].Store.Verify(w.t.Context(), logstore.VerifyConfig{}); err != nil || report.Found > 0 {
			w.t.Errorf("peer %d: %v %v", i, slices.Clip(report.Problems), err)
		}
	}
}
