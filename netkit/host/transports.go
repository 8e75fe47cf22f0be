package host

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/libp2p/go-libp2p"
	mplex "github.com/libp2p/go-libp2p-mplex"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	tptu "github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	libp2pwebrtc "github.com/libp2p/go-libp2p/p2p/transport/webrtc"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	libp2pwebtransport "github.com/libp2p/go-libp2p/p2p/transport/webtransport"
	"github.com/quic-go/quic-go"
	"go.uber.org/fx"
)

// transportOptions are the libp2p options for the transports of cfg, each timed
// by tr. keep is handed what shares UDP sockets, if there is any; it may be nil.
func transportOptions(cfg Config, tr *dialTracer, keep func(*quicreuse.ConnManager)) []libp2p.Option {
	opts := append(upgradeOptions(cfg), quicReuse(cfg.Sockets, tr, keep))
	webSocket := false
	for _, t := range cfg.Transports {
		switch t {
		case QUIC:
			opts = append(opts, libp2p.Transport(func(key crypto.PrivKey, cm *quicreuse.ConnManager, psk pnet.PSK, g connmgr.ConnectionGater, rm network.ResourceManager) (transport.Transport, error) {
				return tr.wrap(libp2pquic.NewTransport(key, cm, psk, g, rm))
			}))
		case TCP:
			opts = append(opts, libp2p.Transport(func(u transport.Upgrader, rm network.ResourceManager, shared *tcpreuse.ConnMgr) (transport.Transport, error) {
				if cfg.SOCKS != nil {
					return tr.wrap(newSOCKSTCP(*cfg.SOCKS, tracedUpgrader{u}, rm))
				}
				if cfg.device != nil {
					return tr.wrap(newConfinedTCP(cfg.device, tracedUpgrader{u}, rm))
				}
				return tr.wrap(tcp.NewTCPTransport(tracedUpgrader{u}, rm, shared))
			}))
		case WS, WSS:
			if !webSocket { // one transport of the library serves both
				webSocket = true
				opts = append(opts, webSocketOption(cfg.TLS, tr))
			}
		case WebTransport:
			opts = append(opts, libp2p.Transport(func(key crypto.PrivKey, psk pnet.PSK, cm *quicreuse.ConnManager, g connmgr.ConnectionGater, rm network.ResourceManager) (transport.Transport, error) {
				return tr.wrap(libp2pwebtransport.New(key, psk, cm, g, rm))
			}))
		case WebRTC:
			opts = append(opts, libp2p.Transport(func(key crypto.PrivKey, psk pnet.PSK, g connmgr.ConnectionGater, rm network.ResourceManager, listen libp2pwebrtc.ListenUDPFn) (transport.Transport, error) {
				return tr.wrap(libp2pwebrtc.New(key, psk, g, rm, listen))
			}))
		}
	}
	return opts
}

// upgradeOptions are the libp2p options for what makes a libp2p connection of a plain one.
func upgradeOptions(cfg Config) []libp2p.Option {
	var opts []libp2p.Option
	for _, s := range cfg.Security {
		switch s {
		case Noise:
			opts = append(opts, libp2p.Security(noise.ID, func(id protocol.ID, key crypto.PrivKey, muxers []tptu.StreamMuxer) (sec.SecureTransport, error) {
				t, err := noise.New(id, key, muxers)
				return tracedSecurity{t}, err
			}))
		case TLS:
			opts = append(opts, libp2p.Security(libp2ptls.ID, func(id protocol.ID, key crypto.PrivKey, muxers []tptu.StreamMuxer) (sec.SecureTransport, error) {
				t, err := libp2ptls.New(id, key, muxers)
				return tracedSecurity{t}, err
			}))
		}
	}
	for _, m := range cfg.Muxers {
		switch m {
		case Yamux:
			opts = append(opts, libp2p.Muxer(yamux.ID, yamux.DefaultTransport))
		case Mplex:
			opts = append(opts, libp2p.Muxer(mplex.ID, mplex.DefaultTransport))
		}
	}
	return opts
}

// wrap times t; it takes the results of a constructor as they come.
func (d *dialTracer) wrap(t transport.Transport, err error) (transport.Transport, error) {
	return tracedTransport{t, d}, err
}

func webSocketOption(conf *tls.Config, tr *dialTracer) libp2p.Option {
	return libp2p.Transport(func(u transport.Upgrader, rm network.ResourceManager, shared *tcpreuse.ConnMgr) (transport.Transport, error) {
		var opts []websocket.Option
		if conf != nil {
			opts = append(opts, websocket.WithTLSConfig(conf))
		}
		return tr.wrap(websocket.New(tracedUpgrader{u}, rm, shared, opts...))
	})
}

// quicReuse shares UDP sockets between the transports on QUIC, over sockets when
// given. The connection manager counts inbound handshakes against the resource
// manager before they cost anything, as libp2p's own default does.
func quicReuse(sockets Sockets, tr *dialTracer, keep func(*quicreuse.ConnManager)) libp2p.Option {
	return libp2p.QUICReuse(func(l fx.Lifecycle, srk quic.StatelessResetKey, tk quic.TokenGeneratorKey, rm network.ResourceManager) (*quicreuse.ConnManager, error) {
		opts := countedQUIC(rm)
		if sockets != nil {
			opts = append(opts,
				quicreuse.OverrideListenUDP(sockets.ListenUDP),
				quicreuse.OverrideSourceIPSelector(func() (quicreuse.SourceIPSelector, error) {
					return sourceIP{sockets}, nil
				}))
		}
		cm, err := quicreuse.NewConnManager(srk, tk, opts...)
		if err != nil {
			return nil, err
		}
		cm.ClientConfig().Tracer = tr.traceMoves
		if keep != nil {
			keep(cm)
		}
		l.Append(fx.StopHook(cm.Close)) // the host does not close a manager it did not make
		return cm, nil
	})
}

// countedQUIC has inbound handshakes counted against the resource manager.
func countedQUIC(rm network.ResourceManager) []quicreuse.Option {
	return []quicreuse.Option{
		quicreuse.ConnContext(func(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
			from, err := quicreuse.ToQuicMultiaddr(info.RemoteAddr, quic.Version1)
			if err != nil {
				from = nil // the resource manager decides about a nil address, too
			}
			scope, err := rm.OpenConnection(network.DirInbound, false, from)
			if err != nil {
				return ctx, err
			}
			ctx = network.WithConnManagementScope(ctx, scope)
			context.AfterFunc(ctx, scope.Done)
			return ctx, nil
		}),
		quicreuse.VerifySourceAddress(rm.VerifySourceAddress),
	}
}

// sourceIP lends Sockets the name that quicreuse asks for.
type sourceIP struct{ Sockets }

func (s sourceIP) PreferredSourceIPForDestination(dst *net.UDPAddr) (net.IP, error) {
	return s.SourceIP(dst)
}
