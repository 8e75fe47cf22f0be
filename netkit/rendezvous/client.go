package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"

	"dibber/netkit/wire"
)

// maxReply is the largest reply the client reads, what waku and Nim send at
// most.
const maxReply = 4 << 20

// recommendedTTL is what every implementation is known to grant.
const recommendedTTL = 2 * time.Hour

// Format chooses the flavour of records a client sends and asks for.
type Format string

const (
	// FormatAuto sends both flavours and asks for both; a rust server, and
	// the namespace "aquadoggo", get legacy records only. It is the default.
	FormatAuto Format = ""
	// FormatStandard sends standard records only, and asks for nothing
	// special.
	FormatStandard Format = "standard"
	// FormatLegacy sends legacy records only, and asks for nothing special.
	FormatLegacy Format = "legacy"
)

// RegisterRequest says what to register.
type RegisterRequest struct {
	// Namespace has 1 to 255 bytes.
	Namespace string
	// TTL is how long for, in whole seconds; zero leaves it to the server.
	TTL time.Duration
	// Addrs are the addresses to register; nil means the host's. At most 16
	// are sent, public before relayed before private ones.
	Addrs []ma.Multiaddr
	// Format chooses the flavours of the record.
	Format Format
}

// Registration is a registration a server acknowledged.
type Registration struct {
	// TTL is what the server granted.
	TTL time.Duration `json:"-"`
	// Addrs are the addresses registered.
	Addrs []ma.Multiaddr `json:"addrs"`
	// Flavours are the kinds of record sent.
	Flavours []Flavour `json:"flavours"`
	// Text is the server's remark, often empty.
	Text string `json:"text,omitempty"`
}

// Register registers the host's peer at a server, which is connected to if it
// is not yet, over a relay too. A server that does not grant the TTL is asked
// once more for two hours, which all do. The error is a [*StatusError] when
// the server refused and wraps [ErrUnsupported] when it is no rendezvous
// point.
func Register(ctx context.Context, h host.Host, server peer.AddrInfo, req RegisterRequest) (Registration, error) {
	return registerLast(ctx, h, server, req, new(*sealed))
}

// registerLast registers with the last record if it still holds, and sets it to
// the one that was sent. A server that refuses it, since it has seen a newer one,
// is sent a new one.
func registerLast(ctx context.Context, h host.Host, server peer.AddrInfo, req RegisterRequest, last **sealed) (Registration, error) {
	before := *last
	done, err := register(ctx, h, server, req, last)
	var refused *StatusError
	if !errors.As(err, &refused) {
		return done, err
	}
	switch {
	case refused.Status == StatusInvalidTTL && req.TTL != recommendedTTL:
		req.TTL = recommendedTTL
	case refused.Status == StatusInvalidSignedPeerRecord && before != nil && *last == before:
		*last = nil
	default:
		return done, err
	}
	return register(ctx, h, server, req, last)
}

func register(ctx context.Context, h host.Host, server peer.AddrInfo, req RegisterRequest, last **sealed) (Registration, error) {
	st, err := open(ctx, h, server)
	if err != nil {
		return Registration{}, err
	}
	m, record, err := buildRegister(h, knownAgent(h.Peerstore(), server.ID), req, *last)
	if err != nil {
		_ = st.Reset()
		return Registration{}, fmt.Errorf("register: %w", err)
	}
	*last = record
	reply, err := exchange(ctx, st, m)
	if err != nil {
		return Registration{}, fmt.Errorf("register: %w", err)
	}
	answer := reply.registerResponse
	if answer == nil {
		return Registration{}, fmt.Errorf("register: %w: no response", ErrMalformedReply)
	}
	if err := statusOf(answer.status, answer.text); err != nil {
		return Registration{}, fmt.Errorf("register: %w", err)
	}
	return Registration{
		TTL: granted(answer.ttl, req.TTL), Addrs: record.addrs, Flavours: record.flavours, Text: *orEmpty(answer.text),
	}, nil
}

// granted is the TTL of an acknowledged registration: what the server says,
// else what was asked for, else the specification's default.
func granted(answer *uint64, asked time.Duration) time.Duration {
	switch {
	case answer != nil:
		return time.Duration(min(*answer, math.MaxInt64/uint64(time.Second))) * time.Second
	case asked > 0:
		return asked
	default:
		return recommendedTTL
	}
}

// Unregister ends the host's registration at a server. The protocol has no
// answer: nil means that the server took the request.
func Unregister(ctx context.Context, h host.Host, server peer.AddrInfo, namespace string) error {
	st, err := open(ctx, h, server)
	if err != nil {
		return err
	}
	m := message{kind: new(typeUnregister), unregister: &unregisterMessage{ns: &namespace}}
	if err := wire.Send(ctx, st, m.encode()); err != nil {
		return fmt.Errorf("unregister: %w", unsupported(err))
	}
	return nil
}

// open connects to the server and opens a stream for one request. Limited
// connections, through a relay, will do.
func open(ctx context.Context, h host.Host, server peer.AddrInfo) (network.Stream, error) {
	return openProtocol(ctx, h, server, ProtocolID)
}

func openProtocol(ctx context.Context, h host.Host, server peer.AddrInfo, id protocol.ID) (network.Stream, error) {
	if err := connect(ctx, h, server); err != nil {
		return nil, err
	}
	st, err := h.NewStream(network.WithAllowLimitedConn(ctx, "rendezvous"), server.ID, id)
	if err != nil {
		return nil, fmt.Errorf("open rendezvous stream: %w", unsupported(err))
	}
	return st, nil
}

// connect connects to the server, at once even after failures: the caller has a
// back-off of its own, and another under it would only stretch it.
func connect(ctx context.Context, h host.Host, server peer.AddrInfo) error {
	forgetBackoff(h, server.ID)
	if err := h.Connect(network.WithAllowLimitedConn(ctx, "rendezvous"), server); err != nil {
		return fmt.Errorf("connect to rendezvous server: %w", err)
	}
	return nil
}

// forgetBackoff makes the swarm dial a peer at once.
func forgetBackoff(h host.Host, p peer.ID) {
	if sw, ok := h.Network().(*swarm.Swarm); ok {
		sw.Backoff().Clear(p)
	}
}

// unsupported wraps ErrUnsupported around a failed negotiation of the
// protocol. Where the peer was believed to have it, that shows only when the
// stream is first read, as a reset with a code of its own.
func unsupported(err error) error {
	var negotiation multistream.ErrNotSupported[protocol.ID]
	var reset *network.StreamError
	if errors.As(err, &negotiation) ||
		errors.As(err, &reset) && reset.ErrorCode == network.StreamProtocolNegotiationFailed {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return err
}

func exchange(ctx context.Context, st network.Stream, m message) (message, error) {
	frame, err := wire.Exchange(ctx, st, m.encode(), maxReply)
	if err != nil {
		return message{}, unsupported(err)
	}
	reply, err := decodeMessage(frame)
	if err != nil {
		return message{}, fmt.Errorf("%w: %w", ErrMalformedReply, err)
	}
	return reply, nil
}

// statusOf returns the refusal of an answer, or nil. A missing status is a
// proto3 implementation's OK.
func statusOf(status *Status, text *string) error {
	if got := *orEmpty(status); got != StatusOK {
		return &StatusError{Status: got, Text: *orEmpty(text)}
	}
	return nil
}
