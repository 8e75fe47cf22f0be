// Package pchain knows what peers of ParallelChain say to each other: their addresses, topics and message ids, and the messages
// themselves. It is pure; netkit/chain runs a node that speaks it.
//
// A peer's address is its Ed25519 public key, in text the base64url of its 32 bytes without padding. Messages travel by gossip
// (libp2p's gossipsub) on topics that are named as they are written, never hashed. One peer is written to on a topic that is named
// after its address, its mailbox, to which it alone subscribes. What a message is follows from its topic:
//
//	consensus, or hotstuff_rs from 0.6 on    [Message] of hotstuff_rs 0.2 and 0.3
//	a mailbox                                the same
//	mempool                                  [Transaction]; from 0.6 on one byte before it says its version
//	droppedTx, until 0.5                     [Dropped]
//
// They are encoded with borsh: integers little-endian, an enum as the index of its variant in one byte, a sequence or string as its
// length in four bytes and then its items, an option as 0 or 1 and then its value, arrays and structs as their parts in order. Here
// an enum is a struct of pointers in the order of the variants, of which exactly one is set, and an option is a pointer. Bytes after
// a message are ignored, as ParallelChain ignores them from gossip.
//
// The versions of the network library pchain-network differ in all of this; a [Profile] is one of them.
//
// Sources: the crates pchain_network 0.4.3, pchain-types 0.4.3 and hotstuff_rs 0.2.2 and their later versions,
// github.com/parallelchain-io/parallelchain-protocol, and https://borsh.io. Where the protocol's text and the code differ, the code
// is followed: peers run the code.
package pchain
