package peering

import (
	"bytes"
	"cmp"
	"time"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// link is what decides which of several connections with one peer is kept.
type link struct {
	direct bool
	opener peer.ID
	opened time.Time
}

func linkOf(c network.Conn) link {
	st := c.Stat()
	l := link{direct: !addr.IsRelayed(c.RemoteMultiaddr()), opener: c.LocalPeer(), opened: st.Opened}
	if st.Direction == network.DirInbound {
		l.opener = c.RemotePeer()
	}
	return l
}

// compare orders links, the one to keep first, in the same way at both ends: a direct
// one, then one that the peer of the smaller id opened, then the youngest, because
// whoever opens a second one has lost the first.
func (l link) compare(m link) int {
	return cmp.Or(
		cmp.Compare(boolRank(l.direct), boolRank(m.direct)),
		bytes.Compare([]byte(l.opener), []byte(m.opener)),
		m.opened.Compare(l.opened),
	)
}

// boolRank puts true first.
func boolRank(b bool) int {
	if b {
		return 0
	}
	return 1
}
