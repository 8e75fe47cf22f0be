package gossip

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

// guarded is a stream that a peer opened. It hands on whole frames that are not too long, have not too many parts, came in time and
// at a bearable rate, and for which there was memory; otherwise it resets the stream.
type guarded struct {
	network.Stream
	s    *Service
	src  *bufio.Reader
	next []byte // what is left of the frame being handed on
	held int    // bytes reserved for it
	dead error
}

const (
	// frameTimeout bounds how long a frame may take from its first byte to its last.
	frameTimeout = 30 * time.Second
	// frameChunk is in what pieces memory is reserved and taken for a frame: with what arrives, not with what was announced.
	frameChunk = 64 << 10
)

// errTooLong means that a frame is longer than Config.MaxMessage.
var errTooLong = errors.New("frame too long")

func newGuarded(st network.Stream, s *Service) *guarded {
	return &guarded{Stream: st, s: s, src: bufio.NewReaderSize(st, 4096)}
}

// Read hands on what was guarded.
func (g *guarded) Read(b []byte) (int, error) {
	if len(g.next) == 0 {
		if g.dead == nil {
			g.dead = g.fetch()
		}
		if g.dead != nil {
			return 0, g.dead
		}
	}
	n := copy(b, g.next)
	g.next = g.next[n:]
	return n, nil
}

// fetch reads the next frame.
func (g *guarded) fetch() (err error) {
	g.release()
	defer func() {
		if err == nil {
			return
		}
		g.release()
		if broken(err) {
			g.s.table.violated(g.Conn().RemotePeer())
			_ = g.ResetWithError(network.StreamProtocolViolation)
		}
	}()
	if err := g.SetReadDeadline(time.Time{}); err != nil { // a peer may be silent as long as it likes
		return err
	}
	if _, err := g.src.Peek(1); err != nil {
		return err
	}
	if err := g.SetReadDeadline(time.Now().Add(frameTimeout)); err != nil {
		return err
	}
	size, err := binary.ReadUvarint(g.src)
	if err != nil {
		return fmt.Errorf("length of a frame: %w", err)
	}
	if size > uint64(g.s.cfg.MaxMessage) {
		return errTooLong
	}
	frame := bytes.NewBuffer(binary.AppendUvarint(nil, size))
	prefix := frame.Len()
	for left := int64(size); left > 0; {
		chunk := min(left, frameChunk)
		if err := g.Scope().ReserveMemory(int(chunk), network.ReservationPriorityAlways); err != nil {
			_ = g.ResetWithError(network.StreamResourceLimitExceeded)
			return fmt.Errorf("memory for a frame: %w", err)
		}
		g.held += int(chunk)
		if _, err := io.CopyN(frame, g.src, chunk); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("frame: %w", err)
		}
		left -= chunk
	}
	parts, err := scan(frame.Bytes()[prefix:])
	if err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	if err := g.s.paces.wait(g.s.ctx, g.Conn().RemotePeer(), parts.messages+parts.subscriptions, int(size)); err != nil {
		return err
	}
	g.next = frame.Bytes()
	return nil
}

func (g *guarded) release() {
	if g.held > 0 {
		g.Scope().ReleaseMemory(g.held)
		g.held = 0
	}
}

// errBroken means that a peer sent what no implementation sends.
var errBroken = errors.New("broken frame")

func broken(err error) bool { return errors.Is(err, errTooLong) || errors.Is(err, errBroken) }

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

// messagesIn counts the messages of a frame with its length before it.
func messagesIn(frame []byte) int {
	_, n := binary.Uvarint(frame)
	if n <= 0 {
		return 0
	}
	p, err := scan(frame[n:])
	if err != nil {
		return 0
	}
	return p.messages
}

// paces bound what is read from each peer: who is quicker has to wait.
type paces struct {
	cfg Config

	mu sync.Mutex // guards following
	of map[peer.ID]*pace
}

// pace is what one peer may send.
type pace struct {
	messages, bytes *rate.Limiter
	used            time.Time
}

const (
	// paceBurst is how many seconds' worth a peer may send at once.
	paceBurst = 4
	// paceBytes is how many times Config.MaxMessage a peer may send a second.
	paceBytes = 16
	// pacesKept is how many peers are remembered, pacesFor for how long after they sent something last.
	pacesKept = 4096
	pacesFor  = time.Minute
)

func newPaces(cfg Config) *paces { return &paces{cfg: cfg, of: make(map[peer.ID]*pace)} }

// wait returns when it is time for what a peer has sent.
func (p *paces) wait(ctx context.Context, id peer.ID, messages, size int) error {
	if p.cfg.PeerRate < 0 {
		return nil
	}
	of := p.at(id, time.Now())
	if err := of.messages.WaitN(ctx, min(messages, of.messages.Burst())); err != nil {
		return err
	}
	return of.bytes.WaitN(ctx, min(size, of.bytes.Burst()))
}

func (p *paces) at(id peer.ID, now time.Time) *pace {
	p.mu.Lock()
	defer p.mu.Unlock()
	of := p.of[id]
	if of == nil {
		if len(p.of) >= pacesKept {
			for other, o := range p.of {
				if now.Sub(o.used) > pacesFor {
					delete(p.of, other)
				}
			}
		}
		perSecond := paceBytes * p.cfg.MaxMessage
		of = &pace{
			messages: rate.NewLimiter(rate.Limit(p.cfg.PeerRate), max(int(p.cfg.PeerRate*paceBurst), 1)),
			bytes:    rate.NewLimiter(rate.Limit(perSecond), paceBurst*perSecond),
		}
		p.of[id] = of
	}
	of.used = now
	return of
}
