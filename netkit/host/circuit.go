package host

import (
	"context"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"go.uber.org/fx"
)

// CircuitUse is what a relay allows a relayed connection and what of it is used.
type CircuitUse struct {
	Duration time.Duration // how long it may last
	Bytes    uint64        // how much it may carry each way
	Age      time.Duration
	// Sent and Received are counted as the relay counts them, handshake included;
	// negative when this side did not open the circuit and so could not count.
	Sent, Received int64
}

// CircuitUse tells the limits of c; false when c has none.
func (n *Node) CircuitUse(c network.Conn) (CircuitUse, bool) {
	st := c.Stat()
	if !st.Limited {
		return CircuitUse{}, false
	}
	u := CircuitUse{Age: time.Since(st.Opened), Sent: -1, Received: -1}
	u.Duration, _ = st.Extra[circuit.StatLimitDuration].(time.Duration)
	u.Bytes, _ = st.Extra[circuit.StatLimitData].(uint64)
	if m, ok := st.Extra[meterKey{}].(*meter); ok {
		u.Sent, u.Received = m.sent.Load(), m.received.Load()
	}
	return u, true
}

// meterKey finds a connection's meter among its extra statistics.
type meterKey struct{}

// meter counts the bytes of one circuit, and remembers how its ends secured and
// multiplexed it, which libp2p does not tell of relayed connections.
type meter struct {
	sent, received atomic.Int64
	state          atomic.Pointer[network.ConnectionState]
}

// ConnState tells what was negotiated on c, between its ends when it is relayed.
func (n *Node) ConnState(c network.Conn) network.ConnectionState {
	if m, ok := c.Stat().Extra[meterKey{}].(*meter); ok {
		if st := m.state.Load(); st != nil {
			return *st
		}
	}
	return c.ConnState()
}

// meteredConn counts what passes below the circuit's encryption.
type meteredConn struct {
	*circuit.Conn
	meter *meter
}

func (c *meteredConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.meter.received.Add(int64(n))
	return n, err
}

func (c *meteredConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.meter.sent.Add(int64(n))
	return n, err
}

// Stat implements network.ConnStat.
func (c *meteredConn) Stat() network.ConnStats {
	st := c.Conn.Stat()
	st.Extra = maps.Clone(st.Extra)
	if st.Extra == nil {
		st.Extra = make(map[any]any)
	}
	st.Extra[meterKey{}] = c.meter
	return st
}

// circuitUpgrader meters the circuits that this host opens.
type circuitUpgrader struct{ tracedUpgrader }

func (u circuitUpgrader) Upgrade(ctx context.Context, t transport.Transport, c manet.Conn, dir network.Direction, p peer.ID, scope network.ConnManagementScope) (transport.CapableConn, error) {
	cc, ok := c.(*circuit.Conn)
	if !ok {
		return u.tracedUpgrader.Upgrade(ctx, t, c, dir, p, scope)
	}
	m := new(meter)
	up, err := u.tracedUpgrader.Upgrade(ctx, t, &meteredConn{cc, m}, dir, p, scope)
	if err == nil {
		st := up.ConnState()
		m.state.Store(&st)
	}
	return up, err
}

// circuitOption adds the circuit relay v2 client as a timed transport, so that
// /p2p-circuit addresses can be dialled and relayed connections accepted.
func circuitOption(tr *dialTracer, adopted *adoption) libp2p.Option {
	return libp2p.WithFxOption(fx.Invoke(func(l fx.Lifecycle, h corehost.Host, u transport.Upgrader) error {
		c, err := circuit.New(h, circuitUpgrader{tracedUpgrader{u}})
		if err != nil {
			return err
		}
		swarm, ok := h.Network().(transport.TransportNetwork)
		if !ok {
			return fmt.Errorf("%T takes no transports", h.Network())
		}
		if err := swarm.AddTransport(adoptingTransport{tracedTransport{c, tr}, adopted}); err != nil {
			return err
		}
		l.Append(fx.StartHook(func() error {
			if err := swarm.Listen(ma.StringCast("/p2p-circuit")); err != nil {
				return err
			}
			c.Start()
			return nil
		}))
		return nil
	}))
}
