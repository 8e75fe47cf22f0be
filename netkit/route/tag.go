package route

import (
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/peer"
)

// tableTag is the worth of a connection that the library would keep for good, those of the parts of the table that are
// farthest from the node: more than that of other peers of the table, which is 5.
const tableTag = 8

// taggedOnly is the host's connection manager, with which the library protects nobody. In a small network most of the
// table would be protected, and a node at its limit would never close a connection, and never let a newcomer in: the
// manager closes none while fewer than its low mark can be closed.
type taggedOnly struct{ connmgr.ConnManager }

// Protect implements connmgr.ConnManager: the connection is among the last that are closed.
func (m taggedOnly) Protect(p peer.ID, tag string) { m.TagPeer(p, tag, tableTag) }

// Unprotect implements connmgr.ConnManager.
func (m taggedOnly) Unprotect(p peer.ID, tag string) bool {
	m.UntagPeer(p, tag)
	return false
}
