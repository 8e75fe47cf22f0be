// Package letter sends a message to one peer and learns that it was taken.
//
// Its protocol, /dibber/send/1.0.0, is one exchange of frames of netkit/wire on a stream: 16 random bytes that name the letter and its
// content, answered by one byte, which is 0 for a letter that was taken, 1 for one that is not wanted and 2 for one that there is no room
// for now, and a reason in UTF-8. A letter that comes twice under a name from the same peer is taken once: a sender that did not hear the
// answer may try again. It goes over relayed connections as well, as far as the relay lets it.
package letter

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Protocol carries letters.
const Protocol protocol.ID = "/dibber/send/1.0.0"

// DefaultMax is the most bytes of a letter unless a Config says otherwise.
const DefaultMax = 1 << 20

var (
	// ErrUnsupported means that the peer takes no letters.
	ErrUnsupported = errors.New("peer takes no letters")
	// ErrNotConnected means that no connection with the peer is open.
	ErrNotConnected = errors.New("no open connection")
	// ErrTooLarge means that a letter is longer than Config.Max, or than the relay on the way lets through.
	ErrTooLarge = errors.New("letter too large")
	// ErrLost means that the connection ended, or the peer gave up, before it said whether it took the letter.
	ErrLost = errors.New("no answer: the letter may or may not have been taken")
)

// RefusedError means that the peer did not take the letter.
type RefusedError struct {
	Reason string // in the peer's words, printable
	Busy   bool   // it may take it later
}

func (e *RefusedError) Error() string {
	if e.Reason == "" {
		return "the peer refused the letter"
	}
	return "the peer refused the letter: " + e.Reason
}

const (
	idLen   = 16
	taken   = 0
	refused = 1
	busy    = 2
	// maxReply is the most bytes of an answer.
	maxReply = 1 + 256
	// margin is what a circuit carries besides a letter: handshakes, identify, and the frames around it.
	margin = 16 << 10
)

// Config tunes sending. The zero value works.
type Config struct {
	// Max is the most bytes of a letter; 0 means DefaultMax.
	Max int
}

// Result is what is known of a letter that was sent.
type Result struct {
	Peer  peer.ID `json:"peer"`
	Path  *string `json:"path"` // direct or relayed; null: not connected
	Addr  *string `json:"addr"`
	Bytes int     `json:"bytes"`
	// Acknowledged: the peer said that it took the letter. False: it said that it did not. Null: it said nothing.
	Acknowledged *bool    `json:"acknowledged"`
	TookMS       *float64 `json:"took_ms"` // until the answer; null: none
}

// Do sends a letter over the best open connection with p, and returns when the peer has answered, or with ctx.
func Do(ctx context.Context, n *host.Node, p peer.ID, data []byte, cfg Config) (r Result, err error) {
	r = Result{Peer: p, Bytes: len(data)}
	most := cfg.Max
	if most == 0 {
		most = DefaultMax
	}
	if len(data) > most {
		return r, fmt.Errorf("send to %s: %w: %d bytes, at most %d", p, ErrTooLarge, len(data), most)
	}
	conns := n.Conns(p)
	if len(conns) == 0 {
		return r, fmt.Errorf("send to %s: %w", p, ErrNotConnected)
	}
	c := conns[0]
	r.Path, r.Addr = new(addr.Path(c.RemoteMultiaddr())), new(c.RemoteMultiaddr().String())
	if use, limited := n.CircuitUse(c); limited && use.Bytes > 0 && uint64(len(data)+margin) > use.Bytes {
		return r, fmt.Errorf("send to %s: %w: %d bytes, and the relay lets %d through", p, ErrTooLarge, len(data), use.Bytes)
	}
	id := make([]byte, idLen, idLen+len(data))
	if _, err := rand.Read(id); err != nil {
		return r, fmt.Errorf("name of the letter: %w", err)
	}
	began := time.Now()
	reply, err := exchange(ctx, n, c, append(id, data...))
	if err != nil {
		return r, fmt.Errorf("send to %s: %w", p, err)
	}
	r.TookMS = new(float64(time.Since(began).Microseconds()) / 1000)
	r.Acknowledged = new(reply[0] == taken)
	if reply[0] != taken {
		return r, fmt.Errorf("send to %s: %w", p, &RefusedError{Reason: printable(string(reply[1:])), Busy: reply[0] == busy})
	}
	return r, nil
}

// exchange sends a request and returns an answer of at least one byte.
func exchange(ctx context.Context, n *host.Node, c network.Conn, request []byte) ([]byte, error) {
	st, err := n.OpenStream(ctx, c, Protocol)
	if err != nil {
		return nil, err
	}
	reply, err := wire.Exchange(ctx, st, request, maxReply)
	switch {
	case err == nil && len(reply) > 0:
		return reply, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	if speaks, asked := n.Supports(ctx, c, Protocol); asked == nil && !speaks {
		return nil, ErrUnsupported
	}
	var reset *network.StreamError
	if errors.As(err, &reset) && reset.Remote && (reset.ErrorCode == network.StreamRateLimited || reset.ErrorCode == network.StreamResourceLimitExceeded) {
		return nil, &RefusedError{Reason: "its limits are reached", Busy: true}
	}
	return nil, errors.Join(ErrLost, err)
}

// printable keeps what a peer says from steering a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\ufffd'
	}, s)
}

// Letter is one that came.
type Letter struct {
	From peer.ID
	Path string // direct or relayed
	Data []byte
	At   time.Time
}

// ListenConfig says what becomes of letters.
type ListenConfig struct {
	// Max is the most bytes of a letter; 0 means DefaultMax.
	Max int
	// Rate is how many letters a second one peer may send after a burst of Burst; 0 means 20 and 100.
	Rate  float64
	Burst int
	// Take is given each letter once, and answers with nil or with the reason why it is not taken: the letter is acknowledged when Take
	// returns. A *RefusedError says itself whether it may come again. Take must end with ctx.
	Take func(ctx context.Context, l Letter) error
}

// Service takes letters.
type Service struct {
	n    *host.Node
	cfg  ListenConfig
	wire *wire.Service

	mu     sync.Mutex // guards following
	known  map[name]bool
	order  []name        // the oldest first
	taking map[name]bool // under way
}

// name is what a letter is known by.
type name struct {
	from peer.ID
	id   [idLen]byte
}

const (
	// remembered is of how many letters the names are known.
	remembered = 4096
	// letters at once: memory is reserved for each.
	atOnce = 16
)

// Listen takes letters on n until Close.
func Listen(n *host.Node, cfg ListenConfig) *Service {
	if cfg.Max == 0 {
		cfg.Max = DefaultMax
	}
	s := &Service{n: n, cfg: cfg, known: make(map[name]bool), taking: make(map[name]bool)}
	s.wire = wire.NewService(wire.ServiceConfig{
		Name: "dibber/send", MaxRequest: idLen + cfg.Max, MaxReply: maxReply, MaxStreams: atOnce,
		Timeout: 30 * time.Second, Rate: cfg.Rate, Burst: cfg.Burst,
	}, s.answer)
	n.SetStreamHandler(Protocol, s.wire.Handle)
	return s
}

// Close takes no more letters, and returns when those that came were answered.
func (s *Service) Close() error {
	s.n.RemoveStreamHandler(Protocol)
	return s.wire.Close()
}

func (s *Service) answer(ctx context.Context, req wire.Request) ([]byte, error) {
	if len(req.Body) < idLen {
		return nil, errors.New("letter without a name")
	}
	n := name{from: req.Peer, id: [idLen]byte(req.Body)}
	if known, taking := s.begin(n); known {
		return []byte{taken}, nil
	} else if taking {
		return append([]byte{busy}, "the same letter is being taken"...), nil
	}
	defer s.ended(n)
	err := s.cfg.Take(ctx, Letter{From: req.Peer, Path: addr.Path(req.Conn.RemoteMultiaddr()), Data: req.Body[idLen:], At: time.Now()})
	if err == nil {
		s.note(n)
		return []byte{taken}, nil
	}
	code, reason := byte(refused), err.Error()
	if r := (*RefusedError)(nil); errors.As(err, &r) {
		reason = r.Reason
		if r.Busy {
			code = busy
		}
	}
	return append([]byte{code}, reason[:min(len(reason), maxReply-1)]...), nil
}

// begin notes that a letter is being taken, unless it was taken or is under way.
func (s *Service) begin(n name) (known, taking bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, taking = s.known[n], s.taking[n]
	if !known && !taking {
		s.taking[n] = true
	}
	return known, taking
}

func (s *Service) ended(n name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.taking, n)
}

func (s *Service) note(n name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.order) >= remembered {
		delete(s.known, s.order[0])
		s.order = s.order[1:]
	}
	s.known[n] = true
	s.order = append(s.order, n)
}
