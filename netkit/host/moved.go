package host

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"
)

// traceMoves is a tracer of quic-go for connections that this host dials. A server
// that sees a client's packets come from another address, as when the NAT between
// them got a new one, challenges it there (RFC 9000 section 9.3): nothing else tells
// a host behind the NAT. Connections with peers that KeepAlive does not watch are not
// traced.
func (d *dialTracer) traceMoves(ctx context.Context, _ bool, _ quic.ConnectionID) qlogwriter.Trace {
	ph, ok := ctx.Value(phaseKey{}).(phase)
	if !ok || d.watches == nil || !d.watches.has(ph.peer) {
		return nil
	}
	return moveTrace{d.watches, ph.peer}
}

// moveTrace listens for challenges on one connection.
type moveTrace struct {
	watches *watches
	peer    peer.ID
}

// AddProducer and SupportsSchemas implement qlogwriter.Trace.
func (m moveTrace) AddProducer() qlogwriter.Recorder { return m }
func (moveTrace) SupportsSchemas(string) bool        { return false }

// RecordEvent implements qlogwriter.Recorder.
func (m moveTrace) RecordEvent(e qlogwriter.Event) {
	received, ok := e.(qlog.PacketReceived)
	if !ok {
		return
	}
	for _, f := range received.Frames {
		if _, ok := f.Frame.(*qlog.PathChallengeFrame); ok {
			m.watches.moved(m.peer)
		}
	}
}

// Close implements qlogwriter.Recorder.
func (moveTrace) Close() error { return nil }

func (all *watches) has(p peer.ID) bool {
	all.mu.Lock()
	defer all.mu.Unlock()
	return all.of[p] != nil
}

// moved tells the watch of p, if there is one, that p sees this host elsewhere.
func (all *watches) moved(p peer.ID) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if w := all.of[p]; w != nil {
		select {
		case w.moved <- struct{}{}:
		default: // it knows
		}
	}
}
