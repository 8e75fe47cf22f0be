package natcheck

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/nat"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2/pb"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"google.golang.org/protobuf/proto"
)

// dialRequest and dialBack are the protocols of AutoNAT v2 (libp2p/specs,
// autonat/autonat-v2.md).
const (
	dialRequest = autonatv2.DialProtocol
	dialBack    = autonatv2.DialBackProtocol
)

const (
	// atOnce and perServer are how many requests a stock server takes of one peer at
	// once and in a minute.
	atOnce    = 2
	perServer = 12
	// dialMax bounds the messages in bytes; dataMax is the most that a server may ask
	// for before it dials another IP address than the one it sees, and dataChunk is
	// how it is sent.
	dialMax   = 8 << 10
	dataMax   = 100_000
	dataChunk = 4000
	// nonceWait is how long a dial-back may take to be noticed after the server has
	// told of it.
	nonceWait = time.Second
)

// The words for what is known of an address.
const (
	Reachable   = "reachable"
	Unreachable = "unreachable"
	Unknown     = "unknown"
)

// Address is one address of the node.
type Address struct {
	Addr string `json:"addr"`
	// Kind is from where it could be reached: public, private, cgnat, loopback,
	// link-local or unknown.
	Kind string `json:"kind"`
	// Observed marks an address that servers see, and no interface has.
	Observed bool `json:"observed"`
	// Mapped marks an address that the router forwards while the check lasts.
	Mapped       bool   `json:"mapped"`
	Reachability string `json:"reachability"`
	// ConfirmedBy are the servers that got in, KeptOut those that tried and did not.
	ConfirmedBy []peer.ID `json:"confirmed_by"`
	KeptOut     []peer.ID `json:"kept_out"`
	// Asked is how many AutoNAT servers were asked to dial it; nil if none was.
	Asked *int `json:"asked"`

	ma ma.Multiaddr
}

// judge lets the trials of vantage points decide about an address that they are of.
// A dial-back comes from an address that the node has written to, so that it gets in
// where a stranger does not; a vantage point's other address is a stranger.
func (a *Address) judge(at netip.AddrPort, p nat.Path, trials []nat.Trial) {
	if p.LetsAnybody == nil || !slices.Contains(p.Observed, at) {
		return
	}
	a.Reachability, a.ConfirmedBy = Unreachable, nil
	if *p.LetsAnybody {
		a.Reachability = Reachable
	}
	for _, t := range trials {
		id, err := peer.Decode(t.Server)
		switch {
		case err != nil:
		case *p.LetsAnybody && t.Came && !t.Known:
			a.ConfirmedBy = with(a.ConfirmedBy, id)
		case !*p.LetsAnybody && t.Sure && !t.Came:
			a.KeptOut = with(a.KeptOut, id)
		}
	}
}

// with is a list with one peer more, unless it is there.
func with(list []peer.ID, id peer.ID) []peer.ID {
	if slices.Contains(list, id) {
		return list
	}
	return append(list, id)
}

// nonces are the dial-backs that are waited for.
type nonces struct {
	mu   sync.Mutex
	wait map[uint64]chan<- ma.Multiaddr
}

// dialBacks asks every AutoNAT v2 server to dial the addresses that can matter to
// others.
func (c *check) dialBacks(ctx context.Context, visits []*visit) {
	list := c.addresses()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, a := range list {
			c.mappingVerified(*a)
			c.r.Addresses = append(c.r.Addresses, *a)
			c.tell(Event{Address: a})
		}
	}()
	ask := slices.DeleteFunc(slices.Clone(list), func(a *Address) bool { return !manet.IsPublicAddr(a.ma) || c.shut(a) })
	if len(ask) == 0 || !slices.ContainsFunc(visits, func(v *visit) bool { return v.speaks(dialRequest) }) {
		return
	}
	back := &nonces{wait: make(map[uint64]chan<- ma.Multiaddr)}
	service := wire.NewService(wire.ServiceConfig{Name: "dibber.natcheck", MaxRequest: 256}, back.receive)
	c.n.SetStreamHandler(dialBack, service.Handle)
	defer func() {
		c.n.RemoveStreamHandler(dialBack)
		_ = service.Close() // returns nil always
	}()
	var all sync.WaitGroup
	for _, v := range visits {
		if !v.speaks(dialRequest) {
			continue
		}
		places := make(chan struct{}, atOnce)
		for _, a := range ask[:min(len(ask), perServer)] {
			all.Go(func() {
				places <- struct{}{}
				defer func() { <-places }()
				c.askDial(ctx, v, a, back)
			})
		}
	}
	all.Wait()
}

// shut reports whether a vantage point has shown that strangers do not get in at an
// address. A server's dial would take 10 s to say no more.
func (c *check) shut(a *Address) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for transport, endpoint := range map[string]func(ma.Multiaddr) (netip.AddrPort, bool){UDP: addr.UDP, TCP: addr.TCP} {
		if at, ok := endpoint(a.ma); ok {
			p := nat.Classify(c.path(familyOf(at.Addr()), transport))
			return slices.Contains(p.Observed, at) && p.LetsAnybody != nil && !*p.LetsAnybody
		}
	}
	return false
}

// addresses are those that the node listens on or is seen at.
func (c *check) addresses() []*Address {
	var out []*Address
	add := func(a ma.Multiaddr) *Address {
		i := slices.IndexFunc(out, func(o *Address) bool { return o.ma.Equal(a) })
		if i < 0 {
			i = len(out)
			out = append(out, &Address{Addr: a.String(), Kind: kindOf(a), Reachability: Unknown, ma: a})
		}
		return out[i]
	}
	if a := c.mapped(); a != nil {
		add(a).Mapped = true
	}
	for _, a := range slices.Concat(c.n.ListenAddrs(), c.n.Announced()) {
		add(a)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, family := range []string{IP4, IP6} {
		for transport, compose := range map[string]func(netip.AddrPort) ma.Multiaddr{UDP: quicAddr, TCP: tcpAddr} {
			seen := nat.Classify(c.path(family, transport)).Observed
			if len(seen) == 0 {
				continue
			}
			// The one seen most often: where the mapping varies, others are of no use to
			// anybody else.
			if a := compose(seen[0]); !slices.Contains(c.own, seen[0].Addr()) {
				add(a).Observed = true
			}
		}
	}
	return out
}

func quicAddr(at netip.AddrPort) ma.Multiaddr { return compose(at, "udp", "/quic-v1") }

func tcpAddr(at netip.AddrPort) ma.Multiaddr { return compose(at, "tcp", "") }

// compose makes an address of an endpoint, which always can be.
func compose(at netip.AddrPort, transport, suffix string) ma.Multiaddr {
	a, _ := ma.NewMultiaddr(fmt.Sprintf("/%s/%s/%s/%d%s", familyOf(at.Addr()), at.Addr().WithZone(""), transport, at.Port(), suffix))
	return a
}

// kindOf is from where an address could be reached.
func kindOf(a ma.Multiaddr) string {
	if ip, ok := addr.IP(a); ok && addr.IsCGNAT(ip) {
		return "cgnat"
	}
	return string(addr.ScopeOf(a))
}

// askDial has one server dial one address.
func (c *check) askDial(ctx context.Context, v *visit, a *Address, back *nonces) {
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	if a.Asked == nil {
		a.Asked = new(0)
	}
	*a.Asked++
	c.mu.Unlock()
	status, from, err := v.dialled(ctx, a.ma, back)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil: // it said nothing about the address
	case status == pb.DialStatus_OK && from != nil:
		a.ConfirmedBy = with(a.ConfirmedBy, v.server.ID)
		a.Reachability = Reachable
		c.letIn(v, a, from)
	case status == pb.DialStatus_E_DIAL_ERROR:
		a.KeptOut = with(a.KeptOut, v.server.ID)
		if a.Reachability == Unknown {
			a.Reachability = Unreachable
		}
	}
}

// letIn notes that a dial-back got in: from another port of an address that was
// written to, or from one that was not. The caller holds c.mu.
func (c *check) letIn(v *visit, a *Address, from ma.Multiaddr) {
	ip, ok := addr.IP(from)
	key := pathKey{transport: UDP}
	if addr.Transport(a.ma) == addr.TransportTCP {
		key.transport = TCP
	}
	at, _ := addr.IP(a.ma)
	key.family = familyOf(at)
	if ok {
		c.path(key.family, key.transport)
		e := c.evidence[key]
		e.Trials = append(e.Trials, nat.Trial{Server: v.server.ID.String(), Known: c.n.Contacted(UDP, ip) || key.transport == TCP, Came: true})
	}
}

// dialled asks a server to dial an address. from is where the dial-back came from;
// nil if none was seen.
func (v *visit) dialled(ctx context.Context, a ma.Multiaddr, back *nonces) (status pb.DialStatus, from ma.Multiaddr, err error) {
	st, err := v.c.n.OpenOn(ctx, v.looks[0].conn, dialRequest)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = st.Reset() }() // all was read
	stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
	defer stop()
	nonce, came := newID(), make(chan ma.Multiaddr, 1)
	back.expect(nonce, came)
	request := &pb.Message{Msg: &pb.Message_DialRequest{DialRequest: &pb.DialRequest{Addrs: [][]byte{a.Bytes()}, Nonce: nonce}}}
	if err := writeMessage(st, request); err != nil {
		return 0, nil, err
	}
	frames := wire.NewReader(st, dialMax)
	msg, err := readMessage(frames)
	if err == nil && msg.GetDialDataRequest() != nil {
		if err = sendData(st, msg.GetDialDataRequest().GetNumBytes()); err == nil {
			msg, err = readMessage(frames)
		}
	}
	if err != nil {
		return 0, nil, err
	}
	r := msg.GetDialResponse()
	if r == nil || r.GetStatus() != pb.DialResponse_OK || r.GetAddrIdx() != 0 {
		return 0, nil, fmt.Errorf("server answered %s", r.GetStatus())
	}
	if r.GetDialStatus() == pb.DialStatus_E_DIAL_ERROR {
		return r.GetDialStatus(), nil, nil
	}
	timer := time.NewTimer(nonceWait)
	defer timer.Stop()
	select {
	case from = <-came:
	case <-timer.C:
	case <-ctx.Done():
	}
	return r.GetDialStatus(), from, nil
}

func writeMessage(st wire.Stream, m proto.Message) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	return wire.WriteFrame(st, b, dialMax)
}

func readMessage(frames *wire.Reader) (*pb.Message, error) {
	b, err := frames.Next()
	if err != nil {
		return nil, err
	}
	m := new(pb.Message)
	return m, proto.Unmarshal(b, m)
}

// sendData sends what a server wants before it dials an address that may be
// somebody else's.
func sendData(st wire.Stream, n uint64) error {
	if n > dataMax {
		return fmt.Errorf("server wants %d bytes, more than %d", n, dataMax)
	}
	data := make([]byte, dataChunk)
	_, _ = rand.Read(data) // never fails (crypto/rand)
	for left := int(n); left > 0; left -= len(data) {
		m := &pb.Message{Msg: &pb.Message_DialDataResponse{DialDataResponse: &pb.DialDataResponse{Data: data}}}
		if err := writeMessage(st, m); err != nil {
			return err
		}
	}
	return nil
}

func (n *nonces) expect(nonce uint64, to chan<- ma.Multiaddr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wait[nonce] = to
}

// receive takes a dial-back.
func (n *nonces) receive(_ context.Context, req wire.Request) ([]byte, error) {
	var m pb.DialBack
	if err := proto.Unmarshal(req.Body, &m); err != nil {
		return nil, err
	}
	n.mu.Lock()
	to := n.wait[m.GetNonce()]
	delete(n.wait, m.GetNonce())
	n.mu.Unlock()
	if to == nil {
		return nil, errors.New("a dial-back that nobody asked for")
	}
	to <- req.Conn.RemoteMultiaddr() // has room for the one
	return proto.Marshal(&pb.DialBackResponse{Status: pb.DialBackResponse_OK})
}
