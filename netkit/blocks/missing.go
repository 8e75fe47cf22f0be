package blocks

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"dibber/netkit/host"

	"github.com/ipfs/go-cid"
)

// ErrNoPeers means that no peer is connected from which blocks could be had.
var ErrNoPeers = errors.New("no peer is connected to get blocks from")

const (
	// missingTimeout is how long peers have to say that they lack a block.
	missingTimeout = 5 * time.Second
	// missingAtOnce is about how many blocks they are asked.
	missingAtOnce = 8
)

// Missing asks every connected peer for some of the blocks that are waited for. It fails with a [NotFoundError] if all say of one
// that they lack it, and with [ErrNoPeers] if there are none. Nil means that it may still come: a peer has it, or did not answer.
func (s *Service) Missing(ctx context.Context, list []cid.Cid) error {
	peers := s.Connected()
	switch {
	case s.finds: // others may have it
		return nil
	case len(peers) == 0:
		return ErrNoPeers
	}
	ctx, cancel := context.WithTimeout(ctx, missingTimeout)
	defer cancel()
	list = slices.SortedFunc(slices.Values(list), func(a, b cid.Cid) int { return strings.Compare(a.KeyString(), b.KeyString()) })
	list = list[:min(len(list), missingAtOnce)]
	said, errs := make([][]Answer, len(peers)), make([]error, len(peers))
	var all sync.WaitGroup
	for i, p := range peers {
		all.Go(func() { said[i], errs[i] = s.Ask(ctx, p, list) })
	}
	all.Wait()
	// Those who exchange no blocks have none.
	others := slices.IndexFunc(errs, func(err error) bool { return !host.NotSupported(err) })
	if others < 0 {
		return errs[0]
	}
	for i, c := range list {
		lacks, may := 0, false
		for j, answers := range said {
			if b := answers[i].Block; b != nil { // it need not be sent again
				if err := s.store.Put(ctx, b); err != nil {
					return err
				}
			}
			switch {
			case answers[i].Kind == DontHave:
				lacks++
			case !host.NotSupported(errs[j]): // it has the block, or has not answered
				may = true
			}
		}
		if !may {
			return &NotFoundError{CID: c, Asked: lacks}
		}
	}
	return nil
}
