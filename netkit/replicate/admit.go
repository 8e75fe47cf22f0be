package replicate

import (
	"errors"
	"fmt"

	"dibber/netkit/bamboo"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Admit decides by the rules whether a peer may bring size bytes of payload to a log by another protocol than this package's. The
// error wraps [ErrRefused] if it may not. What was admitted counts until done is called, which is told whether it was stored.
func (r *Replica) Admit(p peer.ID, author bamboo.Author, log, size uint64) (done func(stored bool), err error) {
	v, err := r.Store.View()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	reason, err := r.admit(v, string(p), logID{author, log}, size)
	if err != nil {
		return nil, err
	}
	if reason != "" {
		return nil, fmt.Errorf("%w: %s", ErrRefused, reason)
	}
	return func(stored bool) {
		unused := size
		if stored {
			unused = 0
			r.change()
		}
		r.release(string(p), author, size, unused)
	}, nil
}
