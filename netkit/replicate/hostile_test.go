package replicate

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
	"dibber/netkit/wire"
)

// rogue is a side of a session that says what it likes.
type rogue struct {
	t  testing.TB
	st Stream
	in *wire.Reader
}

// attack lets a rogue dial a replica, and returns how that ended. The replica must hold what it held, and be sound.
func attack(t *testing.T, victim *Replica, play func(*rogue)) error {
	t.Helper()
	before := rootOf(t, victim)
	x, y := wires(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := victim.Run(ctx, y, SessionConfig{Peer: "rogue", Idle: 2 * time.Second})
		ended <- errors.Join(err, y.Close())
	}()
	play(&rogue{t, x, wire.NewReader(x, maxFrame)})
	err := <-ended
	_ = x.Close() // it may be gone
	if rootOf(t, victim) != before {
		t.Error("the store has changed")
	}
	if report, err := victim.Store.Verify(t.Context(), logstore.VerifyConfig{}); err != nil || report.Found > 0 {
		t.Errorf("the store is damaged: %+v %v", report, err)
	}
	return err
}

// say sends frames; the other side may have hung up.
func (r *rogue) say(frames ...[]byte) {
	for _, f := range frames {
		if wire.WriteFrame(r.st, f, 4*maxFrame) != nil {
			return
		}
	}
}

// hear waits for a frame of a kind and returns its body.
func (r *rogue) hear(k kind) []byte {
	for {
		frame, err := r.in.Next()
		if err != nil {
			r.t.Logf("before %d: %v", k, err)
			return nil
		}
		if kind(frame[0]) == k {
			return frame[1:]
		}
	}
}

// greet says hello as a side that holds something else.
func (r *rogue) greet(change func(*hello)) {
	h := hello{flags: flagTakes | flagGives, window: window, epoch: 1, arrivals: 1000, entries: 1000, logs: 1, root: [32]byte{1}}
	if change != nil {
		change(&h)
	}
	r.say(h.encode())
}

// offer lists a log and waits to be asked for it.
func (r *rogue) offer(run []logstore.Record, bytes uint64) {
	last := run[len(run)-1]
	r.greet(nil)
	r.say(encodeHeads([]head{{logID: logID{last.Author, last.Log}, height: last.Seq, bytes: bytes, id: last.ID}}, isLast))
	r.hear(kindWants)
}

// stall has the other side wait for a file, so that it does not look at what comes next.
func (r *rogue) stall() {
	const size = 1 << 20
	signed, err := bamboo.Sign(keyN(1), 0, nil, bamboo.Hash{}, make([]byte, size))
	if err != nil {
		r.t.Fatal(err)
	}
	run := []logstore.Record{{Signed: signed}}
	r.offer(run, size)
	r.say(encodeRun(0, run))
	r.hear(kindGet)
}

func TestRogue(t *testing.T) {
	run := branch(t, 1, nil, 100, "a payload")
	size := uint64(100 * len("a payload"))
	alter := func(change func([]logstore.Record)) []byte {
		records := append([]logstore.Record(nil), run...)
		change(records)
		return encodeRun(0, records)
	}
	proto, signature := ErrProtocol, bamboo.ErrSignature
	for _, c := range []struct {
		name string
		want error
		play func(*rogue)
	}{
		{"oversize", wire.ErrTooLarge, func(r *rogue) { _, _ = r.st.Write(binary.AppendUvarint(nil, maxFrame+1)) }},
		{"no hello", proto, func(r *rogue) { r.say([]byte{byte(kindSent)}) }},
		{"another version", proto, func(r *rogue) { r.say([]byte{byte(kindHello), 2}) }},
		{"tiny window", proto, func(r *rogue) { r.greet(func(h *hello) { h.window = 1 }) }},
		{"empty frame", proto, func(r *rogue) { r.greet(nil); r.say(nil) }},
		{"hello twice", proto, func(r *rogue) { r.greet(nil); r.greet(nil) }},
		{"unknown kind", proto, func(r *rogue) { r.greet(nil); r.say([]byte{99}) }},
		{"heads that are not there", proto, func(r *rogue) {
			r.greet(nil)
			r.say(binary.AppendUvarint([]byte{byte(kindHeads), 1}, 1<<40))
		}},
		{"heads without end", proto, func(r *rogue) {
			r.greet(nil)
			many := make([]head, 5000)
			for i := range uint64(20) {
				for j := range many {
					many[j] = head{logID: logID{log: i*5000 + uint64(j)}, height: 1}
				}
				r.say(encodeHeads(many, goesOn))
			}
		}},
		{"heads after the last", proto, func(r *rogue) { r.greet(nil); r.say(encodeHeads(nil, isLast), encodeHeads(nil, isLast)) }},
		{"a log without entries", proto, func(r *rogue) { r.greet(nil); r.say(encodeHeads(make([]head, 1), isLast)) }},
		{"wants of nothing", proto, func(r *rogue) { r.greet(nil); r.say(encodeWants([]want{{index: 7, from: 1, to: 1}}, true)) }},
		{"a run not asked for", proto, func(r *rogue) { r.greet(nil); r.say(encodeRun(0, run)) }},
		{"credit not owed", proto, func(r *rogue) { r.greet(nil); r.say(encodeNumber(kindCredit, 1)) }},
		{"room not owed", proto, func(r *rogue) { r.greet(nil); r.say(encodeNumber(kindFileRoom, 1)) }},
		{"a file not asked for", proto, func(r *rogue) { r.greet(nil); r.say([]byte{byte(kindFile), 1}) }},
		{"a file not named", proto, func(r *rogue) { r.greet(nil); r.say((&fileWant{size: 1 << 20}).encode()) }},
		{"points not asked for", proto, func(r *rogue) { r.greet(nil); r.say(append(logID{}.append([]byte{byte(kindPoints)}), 0)) }},
		{"an entry not asked for", proto, func(r *rogue) { r.greet(nil); r.say(logID{}.append([]byte{byte(kindEntry)})) }},
		{"negentropy not agreed upon", proto, func(r *rogue) { r.greet(nil); r.say([]byte{byte(kindNegentropy), 0x61}) }},
		{"reconciling without end", proto, func(r *rogue) {
			r.greet(func(h *hello) { h.algo = Ranges })
			for range 200 {
				r.say([]byte{byte(kindNegentropy), 0x61})
			}
		}},
		{"asking without end", proto, func(r *rogue) {
			r.greet(nil)
			for range 10_000 {
				r.say(append(logID{}.append([]byte{byte(kindProbe)}), 1, 1))
			}
		}},
		{"ids that are not there", proto, func(r *rogue) {
			r.greet(func(h *hello) { h.algo = Ranges })
			r.say(append([]byte{byte(kindAsk), 1, 1}, make([]byte, 32)...))
		}},
		{"all was sent twice", proto, func(r *rogue) { r.greet(nil); r.say([]byte{byte(kindSent)}, []byte{byte(kindSent)}) }},
		{"a run given up twice", proto, func(r *rogue) { r.offer(run, size); r.say(encodeSkip(0, skipLimit), encodeSkip(0, skipLimit)) }},
		{"a run after all was sent", proto, func(r *rogue) { r.offer(run, size); r.say([]byte{byte(kindSent)}, encodeRun(0, run)) }},
		{"a file in crumbs", proto, func(r *rogue) { r.stall(); r.say([]byte{byte(kindFile), 0}, []byte{byte(kindFile), 0}) }},
		{"a long proof that waits", proto, func(r *rogue) { r.stall(); r.say(append([]byte{byte(kindProof)}, make([]byte, maxProof+1)...)) }},
		{"a long word for giving up that waits", proto, func(r *rogue) { r.stall(); r.say(append(encodeSkip(0, skipLimit), make([]byte, maxSkip)...)) }},
		{"a short run that waits", proto, func(r *rogue) { r.stall(); r.say([]byte{byte(kindRun), 0}) }},
		{"ends twice", proto, func(r *rogue) { r.greet(nil); r.say((&fin{}).encode(), (&fin{}).encode()) }},
		{"a proof of nothing", proto, func(r *rogue) { r.greet(nil); r.say(encodeProof([]byte("x"), nil)) }},
		{"a bad signature", signature, func(r *rogue) {
			r.offer(run, size)
			r.say(alter(func(e []logstore.Record) { e[99].Signature[0] ^= 1 }))
		}},
		{"another payload", signature, func(r *rogue) {
			r.offer(run, size)
			r.say(alter(func(e []logstore.Record) { e[50].Payload = []byte("b payload") }))
		}},
		{"another author", signature, func(r *rogue) { r.offer(run, size); r.say(encodeRun(0, branch(t, 2, nil, 100, "a payload"))) }},
		{"another place", proto, func(r *rogue) { r.offer(run, size); r.say(encodeRun(0, run[1:])) }},
		{"beyond the end", proto, func(r *rogue) { r.offer(run[:50], size); r.say(encodeRun(0, run)) }},
		{"longer than was said", proto, func(r *rogue) { r.offer(run, 3); r.say(encodeRun(0, run)) }},
		{"a run of nothing", proto, func(r *rogue) { r.offer(run, size); r.say([]byte{byte(kindRun), 0, 1, 0}) }},
		{"a piece too large", proto, func(r *rogue) {
			r.offer(run, size)
			r.say(append(binary.AppendUvarint([]byte{byte(kindRun), 0, 1, 1, 0}, 1<<40), make([]byte, 100)...))
		}},
		{"more than credit", proto, func(r *rogue) {
			r.offer(run, size)
			for range 10 { // of what is not even looked at while the first is
				r.say(append([]byte{byte(kindRun), 0, 1}, make([]byte, maxFrame-10)...))
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			victim := replicaOf(t)
			write(t, victim.Store, 5, 10, 100)
			if err := attack(t, victim, c.play); !errors.Is(err, c.want) {
				t.Errorf("it ended with %v, want %v", err, c.want)
			}
		})
	}
}

// TestSlow ends sessions in which nothing comes, or no whole frame.
func TestSlow(t *testing.T) {
	for name, play := range map[string]func(*rogue){
		"nothing": func(*rogue) {},
		"half a frame": func(r *rogue) {
			r.greet(nil)
			_, _ = r.st.Write([]byte{100, byte(kindHeads)}) // of a hundred bytes one
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := attack(t, replicaOf(t), play)
			if slow, ok := errors.AsType[net.Error](err); !ok || !slow.Timeout() {
				t.Errorf("it ended with %v, want a time-out", err)
			}
		})
	}
}

// TestReplayed plays all that one side said in a session to the other store once more.
func TestReplayed(t *testing.T) {
	a, b := replicaOf(t), replicaOf(t)
	write(t, a.Store, 1, 3000, 256)
	write(t, b.Store, 2, 10, 256)
	x, y := wires(t)
	var said bytes.Buffer
	ra, rb := meetOver(t, &recorded{Stream: x, said: &said}, y, a, b, SessionConfig{}, SessionConfig{})
	if ra.err != nil || rb.err != nil || !ra.Converged {
		t.Fatal(ra.err, rb.err)
	}
	write(t, b.Store, 2, 1, 10)
	err := attack(t, b, func(r *rogue) {
		_, _ = r.st.Write(said.Bytes()) // it may hang up
		_ = r.st.CloseWrite()
		_, _ = io.Copy(io.Discard, r.st)
	})
	if err == nil {
		t.Error("the session was taken for one")
	}
	met(t, a, b, SessionConfig{}, SessionConfig{})
}

// recorded keeps what is written.
type recorded struct {
	Stream
	said *bytes.Buffer
}

func (r *recorded) Write(p []byte) (int, error) {
	r.said.Write(p)
	return r.Stream.Write(p)
}
