// Package rendezvous is the libp2p rendezvous protocol, server and client:
// peers register signed records under a namespace for a limited time, and ask
// who else did.
//
// It follows the rendezvous specification of libp2p/specs, revision 3
// (protocol id /rendezvous/1.0.0), with signed envelopes after RFC 0002 and
// peer records after RFC 0003. Two flavours of record are on the network:
// Go, JS and Nim seal the domain "libp2p-peer-record", while rust-libp2p seals
// "libp2p-routing-state" and fails a whole answer over one record of the other
// kind (rust-libp2p issue 6204). Both are accepted and stored here, each
// requester is given the one it can read, and peers that know the extension
// field 200 exchange both.
package rendezvous
