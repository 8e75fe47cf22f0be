package relay_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"dibber/netkit/relay"

	"github.com/libp2p/go-libp2p/core/network"
)

// pass sends data one way and reads it at the other end.
func pass(t *testing.T, from, to network.Stream, data []byte) {
	t.Helper()
	sent := make(chan error, 1)
	go func() {
		_, err := from.Write(data)
		sent <- err
	}()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(to, got); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Error("the bytes changed on their way")
	}
}

// noise is n bytes that do not repeat soon.
func noise(n int) []byte {
	out := make([]byte, n)
	x := uint32(1)
	for i := range out {
		x = x*1664525 + 1013904223
		out[i] = byte(x >> 24)
	}
	return out
}

// TestBytesArriveWhole: more than any buffer, both ways, ended one side at a time.
func TestBytesArriveWhole(t *testing.T) {
	bothTransports(t, func(t *testing.T, listen string) {
		j := join(t, listen, relay.Config{Limits: unlimited()})
		data := noise(3<<20 + 7)
		pass(t, j.near, j.far, data)
		if err := j.near.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := j.far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatal("the end of one direction was not passed on:", err)
		}
		pass(t, j.far, j.near, data[:1<<20])
		if err := j.far.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := j.near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatal("the end of the other direction was not passed on:", err)
		}
		e := j.story.await(t, relay.EventCircuitClosed)
		if e.Reason != relay.ReasonFinished || e.Sent != int64(len(data)) || e.Received != 1<<20 {
			t.Errorf("%+v", e)
		}
		if got := j.s.Stats(); got.Bytes != e.Sent+e.Received || got.Closed[relay.ReasonFinished] != 1 || got.Opened != 1 {
			t.Errorf("%+v", got)
		}
	})
}

// TestLimitOfBytes: as much as the limit passes each way and not a byte more.
func TestLimitOfBytes(t *testing.T) {
	const limit = 100_000
	bothTransports(t, func(t *testing.T, listen string) {
		j := join(t, listen, relay.Config{Limits: relay.Limits{Bytes: limit}})
		data := noise(limit + 1)
		pass(t, j.near, j.far, data[:limit])
		pass(t, j.far, j.near, data[:limit]) // counted for itself
		if got := j.s.Circuits(); len(got) != 1 || *got[0].SentLeft != 0 {
			t.Fatalf("%+v", got)
		}
		if _, err := j.far.Write(data[limit:]); err != nil {
			t.Fatal(err)
		}
		e := j.story.await(t, relay.EventCircuitClosed)
		if e.Reason != relay.ReasonBytes || e.Sent != limit || e.Received != limit {
			t.Errorf("%+v", e)
		}
		if _, err := j.near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the reader got %v beyond the limit", err)
		}
		if _, err := j.far.Read(make([]byte, 1)); !errors.Is(err, network.ErrReset) {
			t.Errorf("the writer got %v", err)
		}
	})
}

// TestLimitInOneWrite: what is allowed arrives although more was sent with it.
func TestLimitInOneWrite(t *testing.T) {
	const limit = 50_000
	bothTransports(t, func(t *testing.T, listen string) {
		j := join(t, listen, relay.Config{Limits: relay.Limits{Bytes: limit}})
		data := noise(3 * limit)
		go func() { _, _ = j.near.Write(data) }() // fails when the limit is reached
		got, err := io.ReadAll(j.far)
		if err != nil || !bytes.Equal(got, data[:limit]) {
			t.Errorf("%d bytes arrived, then %v", len(got), err)
		}
		if e := j.story.await(t, relay.EventCircuitClosed); e.Reason != relay.ReasonBytes || e.Sent != limit {
			t.Errorf("%+v", e)
		}
	})
}

// TestExactlyTheLimitIsFine: a stream of just the limit ends in good order.
func TestExactlyTheLimitIsFine(t *testing.T) {
	const limit = 1000
	j := join(t, quicAddr, relay.Config{Limits: relay.Limits{Bytes: limit}})
	for _, d := range [][2]network.Stream{{j.near, j.far}, {j.far, j.near}} {
		pass(t, d[0], d[1], noise(limit))
		if err := d[0].CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := d[1].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	if e := j.story.await(t, relay.EventCircuitClosed); e.Reason != relay.ReasonFinished {
		t.Errorf("%+v", e)
	}
}

// TestResetIsPassedOn: from either side, and with the word for which.
func TestResetIsPassedOn(t *testing.T) {
	bothTransports(t, func(t *testing.T, listen string) {
		for _, c := range []struct {
			why  relay.Reason
			ends func(joined) (from, to network.Stream)
		}{
			{relay.ReasonSourceGone, func(j joined) (from, to network.Stream) { return j.near, j.far }},
			{relay.ReasonDestinationGone, func(j joined) (from, to network.Stream) { return j.far, j.near }},
		} {
			j := join(t, listen, relay.Config{})
			from, to := c.ends(j)
			pass(t, from, to, []byte("before"))
			if err := from.Reset(); err != nil {
				t.Fatal(err)
			}
			if _, err := to.Read(make([]byte, 1)); !errors.Is(err, network.ErrReset) {
				t.Errorf("%s: the other side got %v", c.why, err)
			}
			if e := j.story.await(t, relay.EventCircuitClosed); e.Reason != c.why {
				t.Errorf("%+v", e)
			}
		}
	})
}

// TestEndWithFullBuffers: a circuit whose reader does not read can be ended.
func TestEndWithFullBuffers(t *testing.T) {
	bothTransports(t, func(t *testing.T, listen string) {
		j := join(t, listen, relay.Config{Limits: unlimited()})
		sent := make(chan error, 1)
		go func() {
			for data := noise(1 << 20); ; {
				if _, err := j.near.Write(data); err != nil {
					sent <- err
					return
				}
			}
		}()
		pass(t, j.far, j.near, []byte("the other direction goes on"))
		if !j.s.EndCircuit(1, "stuck") {
			t.Fatal("no such circuit")
		}
		if err := <-sent; !errors.Is(err, network.ErrReset) {
			t.Error("the writer got", err)
		}
		if e := j.story.await(t, relay.EventCircuitClosed); e.Reason != "stuck" {
			t.Errorf("%+v", e)
		}
	})
}
