package blocks

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/ipfs/boxo/bitswap/message"
	pb "github.com/ipfs/boxo/bitswap/message/pb"
	block "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
)

// Blocks that are not what was asked for are not kept, whoever sends them.
func TestWrongBlocksAreRefused(t *testing.T) {
	t.Parallel()
	to := newStore(t)
	n, x := exchanging(t, to, Config{})
	liar := node(t)
	wanted, other := filled(t, 100, 1), filled(t, 100, 2)
	liar.SetStreamHandler(Protocol, func(st network.Stream) {
		for { // whatever is asked, another block comes
			if _, _, err := message.FromNet(st); err != nil {
				return
			}
			m := message.New(false)
			m.AddBlock(other)
			answer, err := liar.NewStream(context.Background(), n.ID(), Protocol)
			if err == nil {
				err = errors.Join(m.ToNetV1(answer), answer.Close())
			}
			if err != nil {
				return
			}
		}
	})
	connect(t, n, liar)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := Get(ctx, to, wanted.Cid(), GetConfig{Fetch: func(ctx context.Context) (Fetcher, error) { return x.Session(ctx), nil }}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if x.Counts().BlocksReceived.Load() == 0 {
		t.Error("the liar sent nothing")
	}
	for _, b := range []block.Block{wanted, other} {
		if has, err := to.Has(t.Context(), b.Cid()); has || err != nil {
			t.Errorf("kept: %v, %v", has, err)
		}
	}
}

// Messages that are too long, cut off or nonsense end their stream with the word for it, and nothing else.
func TestMalformedMessages(t *testing.T) {
	t.Parallel()
	na, _ := exchanging(t, newStore(t), Config{Serve: true})
	n := node(t)
	connect(t, n, na)
	for name, data := range map[string][]byte{
		"too long":      {0x81, 0x80, 0x80, 0x02},
		"no varint":     bytes.Repeat([]byte{0xff}, 11),
		"no protobuf":   {2, 0xff, 0xff},
		"no CID":        {6, 0x0a, 4, 0x0a, 2, 0x0a, 0},
		"cut off":       {10, 1, 2},
		"unknown hash":  {7, 0x1a, 5, 0x0a, 3, 1, 0x55, 0x7f},
		"cut in length": {0x80},
	} {
		st, err := n.NewStream(t.Context(), na.ID(), Protocol)
		if err != nil {
			t.Fatal(err)
		}
		_, err = st.Write(data)
		if err = errors.Join(err, st.CloseWrite()); err != nil {
			t.Fatal(err)
		}
		_, err = st.Read(make([]byte, 1))
		var reset *network.StreamError
		if !errors.As(err, &reset) || reset.ErrorCode != network.StreamProtocolViolation {
			t.Errorf("%s: %v", name, err)
		}
	}
	// And it serves on.
	y, err := New(n, newStore(t), Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer y.Close()
	if said, err := y.Ask(t.Context(), na.ID(), []cid.Cid{filled(t, 1, 1).Cid()}); err != nil || said[0].Kind != DontHave {
		t.Errorf("after that: %v, %v", said, err)
	}
}

// FuzzMessages reads whatever a peer may send.
func FuzzMessages(f *testing.F) {
	m := message.New(true)
	m.AddEntry(filled(f, 10, 1).Cid(), 1, pb.Message_Wantlist_Have, true)
	m.AddBlock(filled(f, 10, 2))
	m.AddDontHave(filled(f, 10, 3).Cid())
	var whole bytes.Buffer
	if err := m.ToNetV1(&whole); err != nil {
		f.Fatal(err)
	}
	f.Add(whole.Bytes())
	f.Add(whole.Bytes()[:20])
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, data []byte) {
		st := &canned{data: bytes.NewReader(data)}
		frames := bufio.NewReader(st)
		for {
			m, err := next(st, frames)
			if err != nil {
				break
			}
			for _, b := range m.Blocks() {
				if err := Verify(b.Cid(), b.RawData()); err != nil {
					t.Error(err)
				}
			}
			m.release()
		}
		if st.reserved != 0 {
			t.Errorf("%d bytes stay reserved", st.reserved)
		}
	})
}

// canned is a stream that was recorded.
type canned struct {
	network.Stream
	data     io.Reader
	reserved int
}

func (c *canned) Read(p []byte) (int, error)      { return c.data.Read(p) }
func (c *canned) SetReadDeadline(time.Time) error { return nil }
func (c *canned) Scope() network.StreamScope      { return scope{c: c} }

// scope counts what is reserved.
type scope struct {
	network.StreamScope
	c *canned
}

func (s scope) ReleaseMemory(n int) { s.c.reserved -= n }

func (s scope) ReserveMemory(n int, _ uint8) error {
	if n > 2*maxMessage {
		return fmt.Errorf("%d bytes", n)
	}
	s.c.reserved += n
	return nil
}
