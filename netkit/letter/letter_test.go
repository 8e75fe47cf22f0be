package letter_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/letter"
	"dibber/netkit/natlab"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/peer"
)

// pair calls f with two connected hosts.
func pair(t *testing.T, f func(t *testing.T, a, b *host.Node)) {
	t.Helper()
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		a := lab.Internet().Machine("a", natlab.MachineConfig{}).Host(host.Config{})
		b := lab.Internet().Machine("b", natlab.MachineConfig{}).Host(host.Config{})
		if err := a.Connect(t.Context(), peer.AddrInfo{ID: b.ID(), Addrs: b.Addrs()}); err != nil {
			t.Fatal(err)
		}
		f(t, a, b)
	})
}

func listen(t *testing.T, n *host.Node, cfg letter.ListenConfig) {
	t.Helper()
	s := letter.Listen(n, cfg)
	t.Cleanup(func() { _ = s.Close() })
}

func TestLettersArriveAsTheyAre(t *testing.T) {
	pair(t, func(t *testing.T, a, b *host.Node) {
		var got []letter.Letter
		listen(t, b, letter.ListenConfig{Take: func(_ context.Context, l letter.Letter) error {
			got = append(got, l)
			return nil
		}})
		large := bytes.Repeat([]byte{0, 0xff, '\n'}, letter.DefaultMax/3)
		for _, data := range [][]byte{nil, []byte("hello\nworld"), large} {
			r, err := letter.Do(t.Context(), a, b.ID(), data, letter.Config{})
			if err != nil {
				t.Fatal(err)
			}
			if !*r.Acknowledged || *r.Path != "direct" || *r.TookMS < 20 { // the round trip of natlab's links
				t.Errorf("result %+v", r)
			}
			if last := got[len(got)-1]; !bytes.Equal(last.Data, data) || last.From != a.ID() || last.Path != "direct" {
				t.Errorf("letter of %d bytes from %s", len(last.Data), last.From)
			}
		}
		if len(got) != 3 {
			t.Errorf("%d letters", len(got))
		}
	})
}

func TestWhyALetterIsNotTaken(t *testing.T) {
	pair(t, func(t *testing.T, a, b *host.Node) {
		send := func(data string) error {
			_, err := letter.Do(t.Context(), a, b.ID(), []byte(data), letter.Config{})
			return err
		}
		if err := send("x"); !errors.Is(err, letter.ErrUnsupported) {
			t.Errorf("nobody listens: %v", err)
		}
		if _, err := letter.Do(t.Context(), b, "nobody", nil, letter.Config{}); !errors.Is(err, letter.ErrNotConnected) {
			t.Errorf("not connected: %v", err)
		}
		if err := send(strings.Repeat("x", letter.DefaultMax+1)); !errors.Is(err, letter.ErrTooLarge) {
			t.Errorf("too large: %v", err)
		}
		var answer error
		listen(t, b, letter.ListenConfig{Max: 1000, Take: func(context.Context, letter.Letter) error { return answer }})
		for _, c := range []struct {
			answer error
			want   letter.RefusedError
		}{
			{errors.New("not \x1b[2Jwanted"), letter.RefusedError{Reason: "not \ufffd[2Jwanted"}},
			{&letter.RefusedError{Reason: "full", Busy: true}, letter.RefusedError{Reason: "full", Busy: true}},
			{errors.New(strings.Repeat("long ", 100)), letter.RefusedError{Reason: strings.Repeat("long ", 100)[:256]}},
		} {
			answer = c.answer
			var refused *letter.RefusedError
			if err := send("x"); !errors.As(err, &refused) || *refused != c.want {
				t.Errorf("refused: %v", err)
			}
		}
		if err := send(strings.Repeat("x", 1001)); !errors.Is(err, letter.ErrLost) {
			t.Errorf("longer than the peer takes: %v", err)
		}
	})
}

// A peer that says nothing is not waited for beyond the time given, and what is known then is told.
func TestALetterWithoutAnAnswer(t *testing.T) {
	pair(t, func(t *testing.T, a, b *host.Node) {
		listen(t, b, letter.ListenConfig{Take: func(ctx context.Context, _ letter.Letter) error {
			<-ctx.Done()
			return ctx.Err()
		}})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		r, err := letter.Do(ctx, a, b.ID(), []byte("x"), letter.Config{})
		if !errors.Is(err, context.DeadlineExceeded) || r.Acknowledged != nil || time.Since(began) != 5*time.Second {
			t.Errorf("%+v after %v: %v", r, time.Since(began), err)
		}
	})
}

// A letter that is sent again, since its answer was lost, is taken once and acknowledged twice.
func TestALetterThatComesTwice(t *testing.T) {
	pair(t, func(t *testing.T, a, b *host.Node) {
		var got []string
		listen(t, b, letter.ListenConfig{Take: func(_ context.Context, l letter.Letter) error {
			got = append(got, string(l.Data))
			return nil
		}})
		raw := func(request string) []byte {
			st, err := a.OpenStream(t.Context(), a.Conns(b.ID())[0], letter.Protocol)
			if err != nil {
				t.Fatal(err)
			}
			reply, err := wire.Exchange(t.Context(), st, []byte(request), 100)
			if err != nil {
				t.Fatal(err)
			}
			return reply
		}
		for _, request := range []string{"0123456789abcdefone", "0123456789abcdefone", "fedcba9876543210two"} {
			if reply := raw(request); !bytes.Equal(reply, []byte{0}) {
				t.Errorf("answer %x", reply)
			}
		}
		if !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("letters %q", got)
		}
	})
}

// A letter that is sent again while it is being taken is not taken twice: who sent it is to try again.
func TestALetterThatComesTwiceAtOnce(t *testing.T) {
	pair(t, func(t *testing.T, a, b *host.Node) {
		release := make(chan struct{})
		took := 0
		listen(t, b, letter.ListenConfig{Take: func(context.Context, letter.Letter) error {
			took++
			<-release
			return nil
		}})
		send := func() []byte {
			st, err := a.OpenStream(t.Context(), a.Conns(b.ID())[0], letter.Protocol)
			if err != nil {
				t.Error(err)
				return nil
			}
			reply, err := wire.Exchange(t.Context(), st, []byte("0123456789abcdefone"), 100)
			if err != nil {
				t.Error(err)
			}
			return reply
		}
		first := make(chan []byte, 1)
		go func() { first <- send() }()
		time.Sleep(time.Second)
		if reply := send(); len(reply) == 0 || reply[0] != 2 {
			t.Errorf("answer %q while it is being taken", reply)
		}
		close(release)
		if reply := <-first; !bytes.Equal(reply, []byte{0}) || took != 1 {
			t.Errorf("answer %q, taken %d times", reply, took)
		}
	})
}
