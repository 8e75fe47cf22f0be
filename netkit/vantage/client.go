package vantage

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/wire"
)

// Ask asks a server, on a stream of [Protocol], what it sees and what it has.
func Ask(ctx context.Context, st wire.Stream) (Answer, error) { return ask(ctx, st, askSites) }

// AskConnect asks a server, on a stream over TCP, to connect to the other end of it
// from ports that nothing was sent to. It takes the server up to 2 s.
func AskConnect(ctx context.Context, st wire.Stream) (Answer, error) {
	return ask(ctx, st, askConnect)
}

func ask(ctx context.Context, st wire.Stream, kind uint64) (Answer, error) {
	reply, err := wire.Exchange(ctx, st, encodeRequest(kind), maxAnswer)
	if err != nil {
		return Answer{}, fmt.Errorf("vantage: %w", err)
	}
	a, err := decodeAnswer(reply)
	if err != nil {
		return Answer{}, fmt.Errorf("vantage: %w", err)
	}
	return a, nil
}

// AskTCP asks a site's TCP port by whom it sees itself connected to, from a port
// that n listens on.
func AskTCP(ctx context.Context, n *host.Node, site netip.AddrPort) (local, observed netip.AddrPort, err error) {
	c, err := n.DialTCP(ctx, site)
	if err != nil {
		return local, observed, fmt.Errorf("vantage: %w", err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	said, err := io.ReadAll(io.LimitReader(c, maxReflected))
	if err != nil {
		return local, observed, fmt.Errorf("vantage: read answer of %s: %w", site, err)
	}
	observed, err = decodeEndpoint(said)
	return endpointOf(c.LocalAddr()), observed, err
}

// Reply is a datagram that came in.
type Reply struct {
	ID   uint64
	From netip.AddrPort
	At   time.Time
	// Observed is what a reflector saw; zero for a probe.
	Observed netip.AddrPort
	// Site is the number, in Answer.Sites, of the site whose probe it is.
	Site byte
}

// Probe reports whether r is a probe, and no reflector's answer.
func (r Reply) Probe() bool { return !r.Observed.IsValid() }

// replyQueue is how many replies wait for whoever reads them; more are dropped.
const replyQueue = 256

// Client asks reflectors from one socket.
type Client struct {
	conn    net.PacketConn
	replies chan Reply
	running sync.WaitGroup
}

// NewClient reads conn from now on and closes it in Close.
func NewClient(conn net.PacketConn) *Client {
	c := &Client{conn: conn, replies: make(chan Reply, replyQueue)}
	c.running.Go(c.read)
	return c
}

// Local is the socket's own endpoint.
func (c *Client) Local() netip.AddrPort { return endpointOf(c.conn.LocalAddr()) }

// Replies are what came in, until Close. Anybody can send such: those to be believed
// have the ID of something asked.
func (c *Client) Replies() <-chan Reply { return c.replies }

// Reflect asks a reflector whom it sees.
func (c *Client) Reflect(id uint64, to netip.AddrPort) error {
	return c.send(datagram{kind: kindReflect, id: id}, to)
}

// ReflectLater asks a reflector to answer as to Reflect, so many whole seconds later; at
// most MaxDelay.
func (c *Client) ReflectLater(id uint64, to netip.AddrPort, after time.Duration) error {
	return c.send(datagram{kind: kindLater, id: id, after: after}, to)
}

// AskProbe asks the reflector, which answers as to Reflect, for a probe by one of
// the sites in a.
func (c *Client) AskProbe(id uint64, to netip.AddrPort, site byte, token []byte) error {
	return c.send(datagram{kind: kindAsk, id: id, site: site, token: token}, to)
}

// Knock sends what looks like a probe, to see whether it comes back in.
func (c *Client) Knock(id uint64, to netip.AddrPort) error {
	return c.send(datagram{kind: kindProbe, id: id}, to)
}

func (c *Client) send(d datagram, to netip.AddrPort) error {
	if _, err := c.conn.WriteTo(d.encode(), net.UDPAddrFromAddrPort(to)); err != nil {
		return fmt.Errorf("send to %s: %w", to, err)
	}
	return nil
}

// Close ends reading.
func (c *Client) Close() error {
	err := c.conn.Close()
	c.running.Wait()
	return err
}

func (c *Client) read() {
	defer close(c.replies)
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := c.conn.ReadFrom(buf)
		if err != nil {
			return // closed
		}
		d, ok := decodeDatagram(buf[:n])
		if !ok || d.kind != kindReflected && d.kind != kindProbe {
			continue
		}
		select {
		case c.replies <- Reply{ID: d.id, From: endpointOf(from), At: time.Now(), Observed: d.at, Site: d.site}:
		default:
		}
	}
}
