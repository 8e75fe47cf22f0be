package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/net/proxy"
)

// socksPatience is how long a connection by way of a SOCKS server may take: Tor gives up on an onion service after two minutes, and
// has mostly reached it within one.
const socksPatience = 60 * time.Second

var (
	// ErrSOCKS means that a host cannot keep to Config.SOCKS: the server is not written as HOST:PORT, a listen address is not on
	// loopback, or sockets are bound to an interface, past which the server may be.
	ErrSOCKS = errors.New("cannot keep to the SOCKS server")
	// ErrProxy means that the SOCKS server of a host could not be reached, or gave no connection with the peer.
	ErrProxy = errors.New("no connection from the SOCKS server")
	// ErrNames means that a name was to be resolved by a host that dials through a SOCKS server: whoever answers would learn who is
	// dialled, and the answer is an address that the server is not asked to find.
	ErrNames = errors.New("names are not resolved with a SOCKS server")
)

// SOCKS is a SOCKS5 server (RFC 1928), such as Tor.
type SOCKS struct {
	At             string // HOST:PORT
	User, Password string // RFC 1929; no User asks for no authentication
}

// ParseSOCKS reads [socks5://][USER:PASSWORD@]HOST:PORT. It fails with ErrSOCKS.
func ParseSOCKS(text string) (*SOCKS, error) {
	if !strings.Contains(text, "://") {
		text = "socks5://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w: not HOST:PORT", ErrSOCKS) // the text of err may have the password
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if (u.Scheme != "socks5" && u.Scheme != "socks5h") || u.Hostname() == "" || err != nil || port == 0 || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, fmt.Errorf("%w: %s is not HOST:PORT", ErrSOCKS, u.Redacted())
	}
	s := &SOCKS{At: u.Host}
	if u.User != nil {
		s.User = u.User.Username()
		s.Password, _ = u.User.Password()
	}
	return s, nil
}

// dialThrough drops the transports that do not go through a SOCKS server, and has names refused. Listening is for loopback, where
// an onion service's daemon connects to.
func (c *Config) dialThrough() error {
	if c.Interface != "" {
		return fmt.Errorf("%w %s: sockets are bound to the interface %q", ErrSOCKS, c.SOCKS.At, c.Interface)
	}
	c.Transports = slices.DeleteFunc(slices.Clone(c.Transports), func(t Transport) bool { return t != TCP })
	for _, a := range c.Listen {
		if ip, ok := addr.IP(a); !ok || !ip.IsLoopback() {
			return fmt.Errorf("%w %s: listening on %s shows this machine to its network; an onion service needs loopback only", ErrSOCKS, c.SOCKS.At, a)
		}
	}
	c.Resolver = noNames()
	return nil
}

// nameless resolves nothing.
type nameless struct{}

// noNames is a resolver that asks nobody.
func noNames() *madns.Resolver {
	r, err := madns.NewResolver(madns.WithDefaultResolver(nameless{}))
	if err != nil { // of options that are given wrong, which these are not
		return &madns.Resolver{}
	}
	return r
}

// LookupIPAddr implements madns.BasicResolver.
func (nameless) LookupIPAddr(_ context.Context, name string) ([]net.IPAddr, error) {
	return nil, fmt.Errorf("%w: %s", ErrNames, name)
}

// LookupTXT implements madns.BasicResolver.
func (nameless) LookupTXT(_ context.Context, name string) ([]string, error) {
	return nil, fmt.Errorf("%w: %s", ErrNames, name)
}

// socksTCP is TCP by way of a SOCKS server. The library's own hook for that takes no onion addresses, and would say of every peer
// that it is where the server is.
type socksTCP struct {
	*tcp.TcpTransport
	server   SOCKS
	via      proxy.ContextDialer
	upgrader transport.Upgrader
	rm       network.ResourceManager
}

func newSOCKSTCP(server SOCKS, u transport.Upgrader, rm network.ResourceManager) (*socksTCP, error) {
	t := &socksTCP{server: server, upgrader: u, rm: rm}
	var auth *proxy.Auth
	if server.User != "" {
		auth = &proxy.Auth{User: server.User, Password: server.Password}
	}
	d, err := proxy.SOCKS5("tcp", server.At, auth, new(net.Dialer))
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrSOCKS, server.At, err)
	}
	via, ok := d.(proxy.ContextDialer)
	if !ok {
		return nil, fmt.Errorf("%w %s: %T ends with no context", ErrSOCKS, server.At, d)
	}
	t.via = via
	// What the library would dial by itself goes nowhere.
	t.TcpTransport, err = tcp.NewTCPTransport(u, rm, nil, tcp.DisableReuseport(), tcp.WithDialerForAddr(func(a ma.Multiaddr) (tcp.ContextDialer, error) {
		return nil, fmt.Errorf("%w %s: %s is dialled past it", ErrSOCKS, server.At, a)
	}))
	return t, err
}

// onion is the HOST:PORT that a SOCKS server knows an onion address by; false for other addresses.
func onion(a ma.Multiaddr) (string, bool) {
	if len(a) != 1 || a[0].Code() != ma.P_ONION3 {
		return "", false
	}
	name, port, ok := strings.Cut(a[0].Value(), ":")
	return name + ".onion:" + port, ok
}

// CanDial implements transport.Transport.
func (t *socksTCP) CanDial(a ma.Multiaddr) bool {
	_, ok := onion(a)
	return ok || t.TcpTransport.CanDial(a)
}

// Dial implements transport.Transport.
func (t *socksTCP) Dial(ctx context.Context, a ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	return t.DialWithUpdates(ctx, a, p, nil)
}

// DialWithUpdates implements transport.DialUpdater.
func (t *socksTCP) DialWithUpdates(ctx context.Context, a ma.Multiaddr, p peer.ID, updates chan<- transport.DialUpdate) (transport.CapableConn, error) {
	scope, err := t.rm.OpenConnection(network.DirOutbound, true, a)
	if err != nil {
		return nil, err
	}
	c, err := t.dial(ctx, a, p, scope, updates)
	if err != nil {
		scope.Done()
	}
	return c, err
}

func (t *socksTCP) dial(ctx context.Context, a ma.Multiaddr, p peer.ID, scope network.ConnManagementScope, updates chan<- transport.DialUpdate) (transport.CapableConn, error) {
	if err := scope.SetPeer(p); err != nil {
		return nil, err
	}
	to, ok := onion(a)
	if !ok {
		var err error
		if _, to, err = manet.DialArgs(a); err != nil {
			return nil, err
		}
	}
	raw, err := t.via.DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrProxy, t.server.At, err)
	}
	local, err := manet.FromNetAddr(raw.LocalAddr())
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	if updates != nil {
		select {
		case updates <- transport.DialUpdate{Kind: transport.UpdateKindHandshakeProgressed, Addr: a}:
		default: // better late than held up
		}
	}
	return t.upgrader.Upgrade(ctx, t, &socksConn{Conn: raw, local: local, remote: a}, network.DirOutbound, p, scope)
}

// socksConn is a connection with whom the SOCKS server connected to.
type socksConn struct {
	net.Conn
	local, remote ma.Multiaddr
}

// LocalMultiaddr implements manet.Conn.
func (c *socksConn) LocalMultiaddr() ma.Multiaddr { return c.local }

// RemoteMultiaddr implements manet.Conn.
func (c *socksConn) RemoteMultiaddr() ma.Multiaddr { return c.remote }

// swarmOptions give dials through a SOCKS server the time that they take.
func (c Config) swarmOptions() []swarm.Option {
	if c.SOCKS == nil {
		return nil
	}
	return []swarm.Option{swarm.WithDialTimeout(socksPatience), swarm.WithDialTimeoutLocal(socksPatience)}
}
