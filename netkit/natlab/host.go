package natlab

import (
	"net"

	"dibber/netkit/host"

	"github.com/libp2p/go-libp2p"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"
	"go.uber.org/fx"
)

// Port is the UDP port that hosts listen on when nothing else is said.
const Port = 4001

// Host starts a host of ours on the machine's sockets. What cfg leaves open is
// set to QUIC on every address of the machine, on cfg.Port or else Port; of the
// other transports only WebTransport works here. The lab closes the host after
// the test; closing it earlier is fine.
func (m *Machine) Host(cfg host.Config) *host.Node {
	m.lab.t.Helper()
	cfg.Sockets = m
	if cfg.Transports == nil {
		cfg.Transports = []host.Transport{host.QUIC}
	}
	if cfg.Listen == nil {
		cfg.Listen = m.listenAddrs(cfg.Port)
	}
	n, err := host.New(cfg)
	if err != nil {
		m.lab.t.Fatalf("natlab: host on %s: %v", m.name, err)
	}
	m.lab.closeAtEnd(n.Close)
	return n
}

// Stock starts a host as go-libp2p makes it, with nothing of ours but the
// machine's sockets, to compare with or to be tested against. It listens as Host
// does, besides what opts say.
func (m *Machine) Stock(opts ...libp2p.Option) corehost.Host {
	m.lab.t.Helper()
	opts = append([]libp2p.Option{m.quic(), libp2p.ListenAddrs(m.listenAddrs(0)...)}, opts...)
	h, err := libp2p.New(opts...)
	if err != nil {
		m.lab.t.Fatalf("natlab: stock host on %s: %v", m.name, err)
	}
	m.lab.closeAtEnd(h.Close)
	return h
}

// listenAddrs are the machine's addresses as QUIC multiaddrs; port 0 means Port.
func (m *Machine) listenAddrs(port int) []ma.Multiaddr {
	m.lab.t.Helper()
	if port == 0 {
		port = Port
	}
	var out []ma.Multiaddr
	for _, a := range m.Addrs() {
		on, err := quicreuse.ToQuicMultiaddr(&net.UDPAddr{IP: a.AsSlice(), Port: port}, quic.Version1)
		if err != nil {
			m.lab.t.Fatalf("natlab: address of %s: %v", m.name, err)
		}
		out = append(out, on)
	}
	return out
}

// quic makes go-libp2p use the machine's sockets.
func (m *Machine) quic() libp2p.Option {
	return libp2p.QUICReuse(
		// A host does not close a connection manager that it did not make.
		func(l fx.Lifecycle, reset quic.StatelessResetKey, token quic.TokenGeneratorKey, opts ...quicreuse.Option) (*quicreuse.ConnManager, error) {
			cm, err := quicreuse.NewConnManager(reset, token, opts...)
			if err == nil {
				l.Append(fx.StopHook(cm.Close))
			}
			return cm, err
		},
		quicreuse.OverrideListenUDP(m.ListenUDP),
		quicreuse.OverrideSourceIPSelector(func() (quicreuse.SourceIPSelector, error) { return routes{m}, nil }),
	)
}

// routes lends a machine the name that quicreuse asks for.
type routes struct{ *Machine }

// PreferredSourceIPForDestination is SourceIP.
func (r routes) PreferredSourceIPForDestination(dst *net.UDPAddr) (net.IP, error) {
	return r.SourceIP(dst)
}
