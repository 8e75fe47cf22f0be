package dial

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"dibber/netkit/addr"
	"dibber/netkit/host"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	ma "github.com/multiformats/go-multiaddr"
)

// Learn finds out who answers at the first of addrs that anybody answers at, by
// asking for a peer that does not exist: the handshake then fails and tells who
// is there. The id proves nothing about whose address it is.
func Learn(ctx context.Context, n *host.Node, addrs []ma.Multiaddr) (peer.ID, error) {
	_, pub, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return "", fmt.Errorf("generate key: %w", err)
	}
	nobody, err := peer.IDFromPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("peer id of a fresh key: %w", err)
	}
	err = ErrNobody
	for _, a := range addrs {
		r := n.Resolve(ctx, "", a)
		if r.Err != nil {
			err = r.Err
		}
		for _, at := range r.Addrs {
			at, id := peer.SplitAddr(at)
			if id != "" {
				return id, nil // the name says it
			}
			if at == nil || addr.IsRelayed(at) {
				continue
			}
			c, dialErr := n.DialAddr(ctx, nobody, at)
			if dialErr == nil {
				_ = c.Close() // cannot be: nobody holds the key
				continue
			}
			if mismatch, ok := errors.AsType[sec.ErrPeerIDMismatch](dialErr); ok {
				return mismatch.Actual, nil
			}
			err = &UnreachableError{Peer: "", Addr: at.String(), Cause: reasonOf(dialErr), Err: dialErr}
		}
	}
	return "", err
}

// ErrNobody means that there was no address at which somebody could be asked.
var ErrNobody = errors.New("no direct address to ask for its peer id")
