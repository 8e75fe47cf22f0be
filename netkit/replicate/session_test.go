package replicate

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"

	"github.com/google/go-cmp/cmp"
)

func TestBothWays(t *testing.T) {
	a, b := replicaOf(t), replicaOf(t)
	write(t, a.Store, 1, 5000, 256)
	write(t, b.Store, 2, 3000, 256)
	ra, rb := met(t, a, b, SessionConfig{Peer: "b"}, SessionConfig{Peer: "a"})
	if ra.Pulled.Entries != 3000 || ra.Pushed.Entries != 5000 || rb.Pulled.Entries != 5000 || ra.Pulled.Bytes != 3000*256 {
		t.Errorf("moved: %+v; %+v", ra.Result, rb.Result)
	}
	if ra.Reconcile.Algo != "vector" || ra.Reconcile.Have != 5000 || ra.Reconcile.Need != 3000 || ra.Reconcile.Rounds != 1 {
		t.Errorf("reconcile: %+v", ra.Reconcile)
	}
	wire := float64(ra.Reconcile.BytesSent+ra.Reconcile.BytesReceived)/(8000*256) + 1
	t.Logf("wire %.3f × payload, overhead %.3f", wire, *ra.Reconcile.Overhead)
	if wire > 1.35 {
		t.Errorf("the wire carried %.3f × the payload", wire)
	}

	// The next time there is nothing to do.
	ra, rb = met(t, a, b, SessionConfig{Peer: "b"}, SessionConfig{Peer: "a"})
	if n := ra.Reconcile.BytesSent + ra.Reconcile.BytesReceived; n > 512 || ra.Reconcile.Rounds != 1 || ra.Reconcile.Algo != "none" {
		t.Errorf("nothing to do took %d bytes: %+v", n, ra.Reconcile)
	}
	if rb.Pulled.Entries != 0 {
		t.Errorf("something came: %+v", rb.Result)
	}

	// After that only what has grown is listed.
	write(t, a.Store, 1, 10, 256)
	write(t, a.Store, 3, 10, 256)
	ra, _ = met(t, a, b, SessionConfig{Peer: "b"}, SessionConfig{Peer: "a"})
	if ra.Reconcile.Algo != "cursor" || ra.Pushed.Entries != 20 {
		t.Errorf("after growth: %+v", ra.Result)
	}
}

// TestManyLogs reconciles the heads of more logs than are listed.
func TestManyLogs(t *testing.T) {
	a, b := replicaOf(t), replicaOf(t)
	const logs = 2000
	key := keyN(1)
	for _, r := range []*Replica{a} {
		for i := range logs {
			h, err := r.Store.CreateLog(authorN(1), fmt.Sprint(i))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Store.Append(key, h.Log, logstore.PayloadOf(fmt.Append(nil, i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	ra, _ := met(t, a, b, SessionConfig{}, SessionConfig{})
	if ra.Reconcile.Algo != "rbsr" || ra.Pushed.Entries != logs {
		t.Fatalf("first: %+v", ra.Result)
	}
	for i := range uint64(7) {
		if _, err := a.Store.Append(key, 100*i, logstore.PayloadOf([]byte("more")), logstore.PayloadOf([]byte("and more"))); err != nil {
			t.Fatal(err)
		}
	}
	write(t, b.Store, 2, 5, 100)
	for _, dialled := range []struct{ from, to *Replica }{{a, b}, {b, a}} {
		list, _ := meet(t, dialled.from, dialled.to, SessionConfig{List: true}, SessionConfig{})
		have, need := uint64(14), uint64(5)
		if dialled.from == b {
			have, need = need, have
		}
		if list.err != nil || list.Reconcile.Have != have || list.Reconcile.Need != need || list.Pulled.Entries+list.Pushed.Entries > 0 {
			t.Fatalf("listed: %+v %v", list.Result, list.err)
		}
	}
	ra, _ = met(t, b, a, SessionConfig{Algo: Ranges}, SessionConfig{})
	if ra.Reconcile.Algo != "rbsr" || ra.Pulled.Entries != 14 || ra.Pushed.Entries != 5 || ra.Reconcile.Rounds > 4 {
		t.Fatalf("after growth: %+v", ra.Result)
	}
}

// TestDirections transfers one way, or nothing.
func TestDirections(t *testing.T) {
	a, b := replicaOf(t), replicaOf(t)
	write(t, a.Store, 1, 10, 100)
	write(t, b.Store, 2, 20, 100)
	ra, rb := meet(t, a, b, SessionConfig{Compare: true}, SessionConfig{})
	if ra.err != nil || ra.Converged || rb.Converged || !ra.Ended || ra.Reconcile.BytesSent+ra.Reconcile.BytesReceived > 512 {
		t.Fatalf("compared: %+v %v", ra.Result, ra.err)
	}
	var missing []Missing
	ra, _ = meet(t, a, b, SessionConfig{List: true, OnMissing: func(m Missing) { missing = append(missing, m) }}, SessionConfig{})
	want := []Missing{{authorN(2), 0, 1, 20, true}, {authorN(1), 0, 1, 10, false}}
	if diff := cmp.Diff(want, missing); diff != "" || ra.err != nil {
		t.Fatalf("listed: %s %v", diff, ra.err)
	}
	ra, rb = meet(t, a, b, SessionConfig{NoPush: true}, SessionConfig{})
	if ra.err != nil || rb.err != nil || ra.Pulled.Entries != 20 || ra.Pushed.Entries != 0 || !ra.Complete || ra.Converged {
		t.Fatalf("pulled: %+v %v", ra.Result, ra.err)
	}
	write(t, b.Store, 2, 1, 100)
	ra, rb = meet(t, a, b, SessionConfig{NoPull: true}, SessionConfig{})
	if ra.err != nil || rb.err != nil || ra.Pulled.Entries != 0 || ra.Pushed.Entries != 10 || !rb.Complete || ra.Converged {
		t.Fatalf("pushed: %+v %v", ra.Result, ra.err)
	}
	met(t, a, b, SessionConfig{}, SessionConfig{})
}

// TestFiles moves payloads that are files, several in one batch and the same one twice, both ways.
func TestFiles(t *testing.T) {
	a, b := replicaOf(t), replicaOf(t)
	big := func(n int) []byte { return bytes.Repeat([]byte{byte(n), byte(n >> 8), 7}, 50_000+n) }
	for i, r := range []*Replica{a, b} {
		h, err := r.Store.CreateLog(authorN(i), "files")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 2 + i, 3, 1} {
			p, err := r.Store.NewPayload(bytes.NewReader(big(n)))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Store.Append(keyN(i), h.Log, p, logstore.PayloadOf([]byte("small"))); err != nil {
				t.Fatal(err)
			}
		}
	}
	met(t, a, b, SessionConfig{}, SessionConfig{})
	for _, r := range []*Replica{a, b} {
		report, err := r.Store.Verify(t.Context(), logstore.VerifyConfig{})
		if err != nil || report.Found > 0 || report.Entries != 16 {
			t.Errorf("%+v %v", report, err)
		}
	}
}

// TestCut cuts sessions again and again: each keeps what it brought but for a batch.
func TestCut(t *testing.T) {
	a, b := replicaOf(t), replicaOf(t)
	write(t, a.Store, 1, 20_000, 256)
	h, err := a.Store.CreateLog(authorN(9), "file")
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.Store.NewPayload(bytes.NewReader(make([]byte, 3<<20)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Store.Append(keyN(9), h.Log, p); err != nil {
		t.Fatal(err)
	}
	var sent, brought uint64
	sessions := 0
	for after := int64(1_000_000); ; after += 100_000 {
		x, y := wires(t)
		ra, rb := meetOver(t, &cutStream{Stream: x, left: after}, y, a, b, SessionConfig{}, SessionConfig{})
		sent += uint64(ra.Pushed.Entries)
		brought += uint64(rb.Pulled.Entries)
		if sessions++; ra.err == nil {
			if !ra.Converged {
				t.Fatalf("not converged: %+v", ra.Result)
			}
			break
		}
		if sessions > 40 { // without going on where it was it would take 75
			t.Fatal("it comes to no end")
		}
	}
	// What is sent twice is at most what may be under way at each cut.
	if most := brought + uint64(sessions-1)*(window+runBytes)/256; sent > most || brought != 20_001 {
		t.Errorf("%d entries sent in %d sessions, %d brought", sent, sessions, brought)
	}
}

// cutStream ends after so many bytes were written.
type cutStream struct {
	Stream
	left int64
}

func (c *cutStream) Write(p []byte) (int, error) {
	if c.left -= int64(len(p)); c.left < 0 {
		_ = c.Reset()
		return 0, io.ErrUnexpectedEOF
	}
	return c.Stream.Write(p)
}

// TestAdmission refuses authors and sizes before anything of them is transferred, and takes the rest.
func TestAdmission(t *testing.T) {
	for name, c := range map[string]struct {
		rules   Rules
		refused int
	}{
		"author":       {Rules{Authors: map[bamboo.Author]bool{authorN(1): true}}, 1},
		"nobody":       {Rules{Authors: map[bamboo.Author]bool{}}, 2},
		"author quota": {Rules{PerAuthor: 1500}, 1},
		"peer quota":   {Rules{PerPeer: 1500}, 1},
		"store quota":  {Rules{Total: 1500}, 1},
		"enough":       {Rules{PerAuthor: 2000, PerPeer: 3000, Total: 3000}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			a := replicaOf(t)
			write(t, a.Store, 1, 10, 100)
			write(t, a.Store, 2, 20, 100)
			b := NewReplica(openStore(t), c.rules)
			ra, rb := meet(t, a, b, SessionConfig{Peer: "b"}, SessionConfig{Peer: "a"})
			if ra.err != nil || rb.err != nil || rb.Refused != c.refused || ra.RefusedThere != uint64(c.refused) {
				t.Fatalf("%+v %v; %+v %v", ra.Result, ra.err, rb.Result, rb.err)
			}
			if want := []int{30, 10, 0}[c.refused]; rb.Pulled.Entries != want && rb.Pulled.Entries != 20*(1-c.refused)+10 || ra.Pushed != rb.Pulled {
				t.Errorf("%d entries came", rb.Pulled.Entries)
			}
			if (rb.Reason == "") != (c.refused == 0) {
				t.Errorf("reason %q", rb.Reason)
			}
			// What was refused is asked for again when it is allowed.
			b.rules = Rules{}
			met(t, a, b, SessionConfig{Peer: "b"}, SessionConfig{Peer: "a"})
		})
	}
}

// TestDiskFull refuses before the transfer.
func TestDiskFull(t *testing.T) {
	a := replicaOf(t)
	write(t, a.Store, 1, 10, 100)
	dir := t.TempDir()
	s, err := logstore.Open(logstore.Config{Dir: dir + "/store", Guard: dir + "/guard/own-heads", MinFree: 1 << 62})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ra, rb := meet(t, a, NewReplica(s, Rules{}), SessionConfig{}, SessionConfig{})
	if ra.err != nil || rb.err != nil || rb.Refused != 1 || ra.Pushed.Entries != 0 {
		t.Fatalf("%+v %v; %v", ra.Result, ra.err, rb.err)
	}
}
