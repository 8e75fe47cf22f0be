package route_test

import (
	"encoding/binary"
	"io"
	"sync"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/route"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"google.golang.org/protobuf/proto"
)

// refusals are what a server says that it has refused.
type refusals struct {
	mu  sync.Mutex
	all map[route.Reason]int
}

func (r *refusals) on(e route.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = make(map[route.Reason]int)
	}
	if e.Kind == route.Refused {
		r.all[e.Reason]++
	}
}

func (r *refusals) count(why route.Reason) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all[why]
}

// stream opens one to a server, as a stranger would.
func stream(t *testing.T, from *host.Node, to node) network.Stream {
	t.Helper()
	c, err := from.Dial(t.Context(), to.ID(), to.Addrs())
	if err != nil {
		t.Fatal(err)
	}
	st, err := from.OpenStream(t.Context(), c, to.r.Protocol())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// answered sends a request and reports whether there is an answer.
func answered(st network.Stream, body []byte) bool {
	if _, err := st.Write(append(binary.AppendUvarint(nil, uint64(len(body))), body...)); err != nil {
		return false
	}
	_, err := io.ReadFull(st, make([]byte, 1))
	return err == nil
}

func ping(t *testing.T) []byte {
	t.Helper()
	b, err := proto.Marshal(pb.NewMessage(pb.Message_PING, nil, 0))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is too long, too much or too many at once is refused before it is read.
func TestServerRefuses(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		var told refusals
		limits := route.Limits{PerPeer: 2, StreamsPerPeer: 3, MessageBytes: 1000}
		server := servers(t, lab, 1, route.Config{Limits: limits, On: told.on})[0]
		stranger := lab.Internet().Machine("stranger", natlab.MachineConfig{}).Host(host.Config{})
		st := stream(t, stranger, server)
		for range 5 { // the burst
			if !answered(st, ping(t)) {
				t.Fatal("no answer within the rate")
			}
			if _, err := st.Read(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
		}
		if answered(st, ping(t)) || told.count(route.ReasonRate) != 1 {
			t.Errorf("beyond the rate: %v", told.all)
		}
		time.Sleep(time.Minute)
		if st := stream(t, stranger, server); answered(st, make([]byte, 1001)) || told.count(route.ReasonSize) != 1 {
			t.Errorf("too long: %v", told.all)
		}
		if st := stream(t, stranger, server); answered(st, []byte("no message")) {
			t.Error("nonsense is answered")
		}
		for range 4 {
			st := stream(t, stranger, server)
			if _, err := st.Write([]byte{5}); err != nil {
				t.Fatal(err)
			}
			defer st.Reset()
		}
		time.Sleep(time.Second)
		if told.count(route.ReasonStreams) != 1 {
			t.Errorf("four streams at once: %v", told.all)
		}
		time.Sleep(2 * time.Minute) // what is begun and not ended is given up
		if st := stream(t, stranger, server); !answered(st, ping(t)) {
			t.Error("idle streams are kept for good")
		}
	})
}
