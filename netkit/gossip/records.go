package gossip

import (
	"fmt"
	"sync"

	"dibber/netkit/host"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
)

// records are the signed peer records of connected peers, as identify brought them: the library's peerstore does not keep them.
type records struct {
	may func(*record.Envelope) bool // nil: all may be told of
	mu  sync.Mutex                  // guards following
	all map[peer.ID][]byte
}

func (r *records) of(p peer.ID) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all[p]
}

// keepRecords begins to note them, until the service is closed. Those of peers that were connected before come with their next identify.
func (s *Service) keepRecords(n *host.Node) error {
	sub, err := n.EventBus().Subscribe([]any{new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerConnectednessChanged)})
	if err != nil {
		return fmt.Errorf("follow peers: %w", err)
	}
	s.records.may = n.PassesOn
	s.records.all = make(map[peer.ID][]byte)
	s.running.Go(func() {
		defer sub.Close()
		for {
			select {
			case e := <-sub.Out():
				s.records.note(e)
			case <-s.ctx.Done():
				return
			}
		}
	})
	return nil
}

func (r *records) note(e any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e := e.(type) {
	case event.EvtPeerIdentificationCompleted:
		if e.SignedPeerRecord == nil || r.may != nil && !r.may(e.SignedPeerRecord) {
			delete(r.all, e.Peer)
			return
		}
		if raw, err := e.SignedPeerRecord.Marshal(); err == nil { // it was read from such bytes
			r.all[e.Peer] = raw
		}
	case event.EvtPeerConnectednessChanged:
		if e.Connectedness == network.NotConnected {
			delete(r.all, e.Peer)
		}
	}
}
