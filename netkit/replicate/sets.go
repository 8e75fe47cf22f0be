package replicate

import (
	"context"
	"errors"

	"dibber/netkit/negentropy"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/protocol"
)

// SetProtocol carries negentropy, version 1, over the set of all entries: their times and ids. Each frame of netkit/wire is one
// message, and is answered with one. Nothing is kept between messages, so a set that grows meanwhile is seen as it is by then.
const SetProtocol protocol.ID = "/negentropy/1.0.0"

// serveSets answers those who reconcile the ids of entries.
func (s *Service) serveSets() {
	s.sets = wire.NewService(wire.ServiceConfig{Name: string(SetProtocol), MaxRequest: maxFrame, MaxReply: maxFrame}, s.reconcileSet)
	s.n.SetStreamHandler(SetProtocol, s.sets.Handle)
}

// reconcileSet answers one message.
func (s *Service) reconcileSet(_ context.Context, req wire.Request) (answer []byte, err error) {
	v, err := s.replica.Store.View()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	r, err := negentropy.NewResponder(v, negentropyFrame)
	if err != nil {
		return nil, err
	}
	return r.Answer(req.Body)
}
