package host

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"
	"github.com/prometheus/client_golang/prometheus"
)

// Transport names one way of carrying a libp2p connection.
type Transport string

// The transports a host can listen and dial with, by the words of the libp2p
// addressing specification.
const (
	QUIC         Transport = "quic"         // RFC 9000, /udp/…/quic-v1
	TCP          Transport = "tcp"          // Noise or TLS 1.3, then yamux
	WS           Transport = "ws"           // WebSocket over TCP
	WSS          Transport = "wss"          // WebSocket over TLS; listening needs Config.TLS
	WebTransport Transport = "webtransport" // HTTP/3, shares QUIC's UDP port
	WebRTC       Transport = "webrtc"       // WebRTC-direct, on a UDP port of its own
)

// AllTransports lists every Transport in order of preference.
func AllTransports() []Transport {
	return []Transport{QUIC, TCP, WebTransport, WS, WSS, WebRTC}
}

// Security names what secures the connections of TCP and WebSocket.
type Security string

// The security protocols of libp2p. QUIC, WebTransport and WebRTC bring their own.
const (
	Noise Security = "noise"
	TLS   Security = "tls"
)

// Muxer names what multiplexes the connections of TCP and WebSocket.
type Muxer string

// The multiplexers of libp2p. QUIC, WebTransport and WebRTC bring their own.
const (
	Yamux Muxer = "yamux"
	// Mplex has no flow control: a stream that is not read from is reset after a while,
	// or holds up those beside it. Peers that know nothing else still need it.
	Mplex Muxer = "mplex"
)

// Family restricts a host to one version of the Internet Protocol.
type Family int

// The families a host may use.
const (
	BothFamilies Family = iota // IPv4 and IPv6
	IPv4Only
	IPv6Only
)

// Sockets stands in for the machine's UDP sockets, so that a simulated network
// can carry the QUIC traffic of real hosts.
type Sockets interface {
	// ListenUDP opens a socket on laddr.
	ListenUDP(network string, laddr *net.UDPAddr) (net.PacketConn, error)
	// SourceIP is the local address from which packets to dst leave.
	SourceIP(dst *net.UDPAddr) (net.IP, error)
	// Addrs are the addresses of the machine.
	Addrs() []netip.Addr
}

// Config says how a Node is built. The zero value is a host with a fresh
// identity on free ports, QUIC and TCP, IPv4 and IPv6, open to everyone.
type Config struct {
	// Identity is the host's private key; nil makes a fresh Ed25519 key.
	Identity crypto.PrivKey
	// Agent is what identify tells others; empty means "dibber".
	Agent string
	// ProtocolVersion is what identify calls the family of protocols spoken; empty means
	// ProtocolVersion.
	ProtocolVersion string

	// Listen are the addresses to listen on; nil means every address of the
	// machine, on Port, for each of Transports.
	Listen []ma.Multiaddr
	// EachAddress listens for QUIC at every address that the machine has now in
	// place of a wildcard: on a wildcard's socket a datagram's source address
	// cannot be chosen. Addresses that come later are not listened at. Sockets
	// of Config.Sockets are left as they are.
	EachAddress bool
	// Port is the TCP and UDP port used when Listen is nil; 0 takes any free one.
	Port int
	// Transports to listen and dial with; nil means QUIC and TCP. With PSK set the
	// UDP transports are dropped: they know no private networks.
	Transports []Transport
	// Security is offered, and chosen by, in this order; nil means Noise, then TLS.
	Security []Security
	// Muxers are offered, and chosen by, in this order; nil means Yamux alone.
	Muxers []Muxer
	// Single refuses another connection with a peer while one is open, before it is one
	// for the peer: there are implementations that take the end of a connection for the
	// end of the last. Of two dials at the same moment both may come through.
	Single bool
	// Family restricts listening, dialling and announcing; 0 is both.
	Family Family
	// TLS holds the certificate of the WSS listener; nil allows dialling only.
	TLS *tls.Config
	// PSK is the 32-byte key of a private network (libp2p pnet); nil is no private
	// network.
	PSK []byte
	// Announce are addresses told to others besides those found; nil adds none.
	Announce []ma.Multiaddr

	// Access decides who may connect; the zero value lets everybody.
	Access Access
	// KnownOnly keeps only the addresses of Known and those given for a dial:
	// nothing that identify or records say about others is stored, and only the
	// peers of Known may come in.
	KnownOnly bool
	// Known are peers whose addresses are kept for good.
	Known []peer.AddrInfo

	// Metrics is where libp2p registers what it counts; nil counts nothing.
	Metrics prometheus.Registerer

	// Limits bound connections, streams and memory; the zero value scales with
	// the machine.
	Limits Limits
	// Resolver answers DNS questions; nil asks the system.
	Resolver *madns.Resolver
	// Sockets replaces the machine's UDP sockets; nil uses the machine's own.
	Sockets Sockets
	// Interface names the one network interface that listening, dialling and
	// announcing keep to, with the addresses that it has at the start; empty uses
	// all. It takes Linux, and QUIC, WebTransport and TCP alone. Names are asked of
	// Resolver all the same. It excludes Sockets.
	Interface string
	// SOCKS has every connection dialled through a SOCKS5 server, onion addresses
	// (/onion3/…) too, which it resolves; nil dials by itself. Transports but TCP
	// are dropped, names are refused, listening is on loopback only, and others are
	// told no address but those of Announce and circuits. It excludes Interface.
	SOCKS *SOCKS

	// RelayOnly has others reach the host, and be reached, through relays only, which
	// must be among those it trusts: it listens nowhere unless Listen says where, dials
	// whom it trusts directly and everybody else through them, and tells others its
	// circuits and no other address.
	RelayOnly bool
	// Trusted are the relays and servers that learn where the host is, with RelayOnly.
	Trusted []peer.ID
	// CircuitsOnly passes on signed records of others only where they have circuit
	// addresses alone.
	CircuitsOnly bool

	device *device // of Interface; nil without one
}

// withDefaults returns a copy of c with every unset field filled.
func (c Config) withDefaults() (Config, error) {
	if c.Agent == "" {
		c.Agent = "dibber"
	}
	if c.ProtocolVersion == "" {
		c.ProtocolVersion = ProtocolVersion
	}
	if c.Transports == nil {
		c.Transports = []Transport{QUIC, TCP}
	}
	for _, t := range c.Transports {
		if !slices.Contains(AllTransports(), t) {
			return c, fmt.Errorf("unknown transport %q", t)
		}
	}
	if c.Security == nil {
		c.Security = []Security{Noise, TLS}
	}
	if c.Muxers == nil {
		c.Muxers = []Muxer{Yamux}
	}
	if c.PSK != nil {
		c.Transports = slices.DeleteFunc(slices.Clone(c.Transports), Transport.overUDP)
	}
	if c.SOCKS != nil {
		if err := c.dialThrough(); err != nil {
			return c, err
		}
	}
	if len(c.Transports) == 0 {
		return c, ErrNoTransport
	}
	if c.RelayOnly && c.Listen == nil {
		c.Listen = []ma.Multiaddr{}
	}
	if c.Listen == nil {
		var err error
		if c.Listen, err = wildcardListen(c); err != nil {
			return c, err
		}
	}
	if c.Interface != "" {
		if err := c.confine(); err != nil {
			return c, err
		}
	}
	if c.EachAddress && c.Sockets == nil {
		var err error
		if c.Listen, err = eachAddress(c.Listen); err != nil {
			return c, err
		}
	}
	c.Limits = c.Limits.withDefaults()
	return c, nil
}

// overUDP reports whether t runs on UDP, and so outside private networks.
func (t Transport) overUDP() bool {
	return t == QUIC || t == WebTransport || t == WebRTC
}

// wildcardListen builds the listen addresses of every family and transport of c.
func wildcardListen(c Config) ([]ma.Multiaddr, error) {
	var out []ma.Multiaddr
	for _, t := range c.Transports {
		if t == WSS && c.TLS == nil {
			continue // dial only
		}
		port := c.Port
		if port != 0 && slices.Index(c.Transports, t) != slices.IndexFunc(c.Transports, t.sharesPort) {
			port = 0 // another transport of the list has the port already
		}
		for _, ip := range c.wildcards() {
			a, err := ma.NewMultiaddr(fmt.Sprintf("/%s", ip) + t.suffix(port))
			if err != nil {
				return nil, fmt.Errorf("listen address for %s: %w", t, err)
			}
			out = append(out, a)
		}
	}
	return out, nil
}

// sharesPort reports whether u would need the port that t listens on: QUIC and
// WebTransport share one socket and are no rivals, WebRTC-direct would steal
// QUIC's packets, TCP and the two WebSockets compete.
func (t Transport) sharesPort(u Transport) bool {
	switch t {
	case QUIC, WebTransport:
		return u == t
	case WebRTC:
		return u.overUDP()
	default:
		return !u.overUDP()
	}
}

// suffix is the part of a listen address of t that follows the IP address.
func (t Transport) suffix(port int) string {
	switch t {
	case QUIC:
		return fmt.Sprintf("/udp/%d/quic-v1", port)
	case WebTransport:
		return fmt.Sprintf("/udp/%d/quic-v1/webtransport", port)
	case WebRTC:
		return fmt.Sprintf("/udp/%d/webrtc-direct", port)
	case WS:
		return fmt.Sprintf("/tcp/%d/ws", port)
	case WSS:
		return fmt.Sprintf("/tcp/%d/tls/ws", port)
	default:
		return fmt.Sprintf("/tcp/%d", port)
	}
}

// wildcards are the unspecified addresses to listen on. A machine without IPv6 is
// no reason to fail when nobody asked for it.
func (c Config) wildcards() []string {
	if c.SOCKS != nil {
		return c.loopbacks()
	}
	switch {
	case c.Family == IPv6Only:
		return []string{"ip6/::"}
	case c.Family == IPv4Only, c.Sockets == nil && !hasIPv6():
		return []string{"ip4/0.0.0.0"}
	default:
		return []string{"ip4/0.0.0.0", "ip6/::"}
	}
}

// loopbacks are the addresses to listen on that only this machine reaches.
func (c Config) loopbacks() []string {
	if c.Family == IPv6Only {
		return []string{"ip6/::1"}
	}
	return []string{"ip4/127.0.0.1"}
}

// excludes reports whether a is of the other family than f.
func (f Family) excludes(a ma.Multiaddr) bool {
	if len(a) == 0 {
		return false
	}
	switch a[0].Protocol().Code {
	case ma.P_IP4, ma.P_DNS4:
		return f == IPv6Only
	case ma.P_IP6, ma.P_IP6ZONE, ma.P_DNS6:
		return f == IPv4Only
	}
	return false
}

// Excludes reports whether a is of a family that the node does without.
func (n *Node) Excludes(a ma.Multiaddr) bool { return n.cfg.Family.excludes(a) }
