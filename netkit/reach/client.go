package reach

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2/pb"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"
)

// The protocols of AutoNAT v2.
const (
	ProtocolDialRequest protocol.ID = "/libp2p/autonat/2/dial-request"
	ProtocolDialBack    protocol.ID = "/libp2p/autonat/2/dial-back"
)

// ServiceName is what streams and buffers are counted under at the resource
// manager.
const ServiceName = "dibber.reach"

const (
	// maxMessage and maxDialBack are the largest messages in bytes that are read
	// from a server, and from whoever dials back.
	maxMessage  = 8192
	maxDialBack = 1024
	// askTimeout bounds a question: a server takes 10 s to give up a dial, up to 3 s
	// before it, and the time of 100 KB.
	askTimeout = 20 * time.Second
	// nonceGrace is how long a dial-back may arrive after the server said that it
	// was made.
	nonceGrace = 5 * time.Second
	// maxDialData is the most bytes that a server may want before it dials an IP
	// address that it does not see us at, and chunk how many go in one message.
	maxDialData = 100_000
	chunk       = 4000
)

// Why a server said nothing about an address.
var (
	// ErrUnwilling means that it does not dial such addresses, as one without IPv6.
	ErrUnwilling = errors.New("the server does not dial this address")
	// ErrBusy means that it answers no more questions for now.
	ErrBusy = errors.New("the server answers no more questions for now")
	// ErrNoDialBack means that it claims to have dialled, but nobody came.
	ErrNoDialBack = errors.New("the server says it has dialled, but no dial-back arrived")
	// ErrNotConnected means that there is no direct connection to it.
	ErrNotConnected = errors.New("no direct connection to the server")
)

// Client asks AutoNAT v2 servers whether they can dial an address of the host
// (libp2p/specs autonat/autonat-v2.md). Unlike the library's it says which server
// it asks. A host takes one Client, and no other AutoNAT v2 client, as there is one
// handler of dial-backs.
type Client struct {
	n       *host.Node
	service *wire.Service

	mu      sync.Mutex // guards following
	waiting map[uint64]*dialBack
}

// dialBack is one that is awaited.
type dialBack struct {
	about   ma.Multiaddr
	since   time.Time
	arrived chan struct{} // has room for one
}

// NewClient starts taking dial-backs on n.
func NewClient(n *host.Node) *Client {
	c := &Client{n: n, waiting: make(map[uint64]*dialBack)}
	c.service = wire.NewService(wire.ServiceConfig{
		Name: ServiceName, MaxRequest: maxDialBack, MaxReply: maxDialBack, Timeout: nonceGrace, MaxStreams: 64, Rate: 1, Burst: 8,
	}, c.dialledBack)
	n.SetStreamHandler(ProtocolDialBack, c.service.Handle)
	return c
}

// Close takes no more dial-backs. Questions under way get no answer.
func (c *Client) Close() error {
	c.n.RemoveStreamHandler(ProtocolDialBack)
	return c.service.Close()
}

// Ask has a connected server dial one address of the host, and reports whether it
// came through. An error means that nothing is known: ErrUnwilling, ErrBusy,
// ErrNoDialBack, ErrNotConnected, or what went wrong on the stream.
func (c *Client) Ask(ctx context.Context, server peer.ID, about ma.Multiaddr) (reachable bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conns := c.n.Conns(server)
	if len(conns) == 0 || addr.IsRelayed(conns[0].RemoteMultiaddr()) {
		return false, ErrNotConnected
	}
	st, err := c.n.OpenStream(ctx, conns[0], ProtocolDialRequest)
	if err != nil {
		return false, err
	}
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer stop()
	defer func() { _ = st.Reset() }() // all is said
	if err := st.Scope().SetService(ServiceName); err != nil {
		return false, err
	}
	if err := st.Scope().ReserveMemory(maxMessage, network.ReservationPriorityAlways); err != nil {
		return false, err
	}
	defer st.Scope().ReleaseMemory(maxMessage)

	nonce := rand.Uint64()
	back := &dialBack{about: about, since: time.Now(), arrived: make(chan struct{}, 1)}
	c.await(nonce, back)
	defer c.forget(nonce)
	r, err := converse(st, about, nonce)
	if err != nil {
		return false, fmt.Errorf("ask %s to dial back: %w", server, err)
	}
	return back.judge(ctx, r)
}

func (c *Client) await(nonce uint64, back *dialBack) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting[nonce] = back
}

func (c *Client) forget(nonce uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, nonce)
}

// converse puts the question and sends the data that the server wants for dialling
// elsewhere than where it sees us.
func converse(st network.Stream, about ma.Multiaddr, nonce uint64) (*pb.DialResponse, error) {
	replies := wire.NewReader(st, maxMessage)
	request := &pb.Message{Msg: &pb.Message_DialRequest{DialRequest: &pb.DialRequest{Addrs: [][]byte{about.Bytes()}, Nonce: nonce}}}
	if err := send(st, request); err != nil {
		return nil, err
	}
	reply, err := receive(replies)
	if err != nil {
		return nil, err
	}
	if want := reply.GetDialDataRequest(); want != nil {
		if want.GetAddrIdx() != 0 || want.GetNumBytes() > maxDialData {
			return nil, fmt.Errorf("the server wants %d bytes for address %d", want.GetNumBytes(), want.GetAddrIdx())
		}
		if err := sendData(st, int(want.GetNumBytes())); err != nil {
			return nil, err
		}
		if reply, err = receive(replies); err != nil {
			return nil, err
		}
	}
	if reply.GetDialResponse() == nil {
		return nil, errors.New("the server answers something else")
	}
	return reply.GetDialResponse(), nil
}

func send(st network.Stream, msg *pb.Message) error {
	b, err := proto.Marshal(msg)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	return wire.WriteFrame(st, b, maxMessage)
}

func receive(r *wire.Reader) (*pb.Message, error) {
	b, err := r.Next()
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	msg := new(pb.Message)
	if err := proto.Unmarshal(b, msg); err != nil {
		return nil, fmt.Errorf("decode answer: %w", err)
	}
	return msg, nil
}

func sendData(st network.Stream, size int) error {
	for size > 0 {
		n := min(size, chunk)
		size -= n
		data := &pb.DialDataResponse{Data: make([]byte, n)}
		if err := send(st, &pb.Message{Msg: &pb.Message_DialDataResponse{DialDataResponse: data}}); err != nil {
			return fmt.Errorf("send dial data: %w", err)
		}
	}
	return nil
}

// judge weighs the server's answer against what arrived: a dial-back proves that
// the address is reachable, whatever the server says.
func (b *dialBack) judge(ctx context.Context, r *pb.DialResponse) (reachable bool, err error) {
	switch {
	case r.GetStatus() == pb.DialResponse_E_DIAL_REFUSED:
		return false, ErrUnwilling
	case r.GetStatus() == pb.DialResponse_E_REQUEST_REJECTED:
		return false, ErrBusy
	case r.GetStatus() != pb.DialResponse_OK:
		return false, fmt.Errorf("the server answers %s", r.GetStatus())
	case r.GetAddrIdx() != 0:
		return false, fmt.Errorf("the server dialled address %d of one", r.GetAddrIdx())
	}
	grace := nonceGrace
	if r.GetDialStatus() == pb.DialStatus_E_DIAL_ERROR {
		grace = 0 // none is to be expected
	}
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	select {
	case <-b.arrived:
		return true, nil
	default:
	}
	select {
	case <-b.arrived:
		return true, nil
	case <-ctx.Done():
	}
	switch r.GetDialStatus() {
	case pb.DialStatus_E_DIAL_ERROR:
		return false, nil
	case pb.DialStatus_OK:
		return false, ErrNoDialBack
	default:
		return false, fmt.Errorf("the server answers %s", r.GetDialStatus())
	}
}

// dialledBack takes the nonce that a server sends over its dial-back.
func (c *Client) dialledBack(_ context.Context, req wire.Request) ([]byte, error) {
	msg := new(pb.DialBack)
	if err := proto.Unmarshal(req.Body, msg); err != nil {
		return nil, fmt.Errorf("decode dial-back: %w", err)
	}
	c.mu.Lock()
	back := c.waiting[msg.GetNonce()]
	c.mu.Unlock()
	if back == nil || !back.proves(req.Conn) {
		return nil, errors.New("nobody waits for this dial-back")
	}
	select {
	case back.arrived <- struct{}{}:
	default: // once is enough
	}
	return []byte{}, nil // a DialBackResponse of its only status, OK
}

// proves reports whether a nonce that came over conn shows that the address is
// reachable: somebody dialled in since the question was put, past relays, and over
// the kind of address asked about.
func (b *dialBack) proves(conn network.Conn) bool {
	st := conn.Stat()
	local := conn.LocalMultiaddr()
	return st.Direction == network.DirInbound && !st.Opened.Before(b.since) &&
		!st.Limited && !addr.IsRelayed(local) && !addr.IsRelayed(conn.RemoteMultiaddr()) &&
		addr.Transport(local) == addr.Transport(b.about) && sameFamily(local, b.about)
}

// sameFamily reports whether both are of one version of the Internet Protocol. A
// name may be of either.
func sameFamily(a, b ma.Multiaddr) bool {
	x, okX := addr.IP(a)
	y, okY := addr.IP(b)
	return !okX || !okY || x.Is4() == y.Is4()
}
