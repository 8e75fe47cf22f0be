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
//
// # The server
//
// Registrations are kept in memory, in shards by namespace, in front of a
// database. All take their numbers from one sequence, so that a cookie of any
// namespace, and of all, is a number in it. A registration is shown once it is
// durable, and one that cannot be made so leaves what was there before.
//
// Quotas for peers, namespaces and networks, and the rates of requests, are
// [Limits], which can change while the server runs. A refresh is exempt from
// quotas. A full server takes a new registration all the same: of the network
// that holds the most, the peer that holds the most gives up its oldest.
//
// An answer to a DISCOVER of all namespaces without registrations is not the end
// when field 200 of it is 1: there were so many that the requester may not see.
// It goes on from the cookie.
//
// # Watching
//
// The protocol [WatchProtocolID] pushes changes. It is an extension of this
// package. The client opens a stream and sends one frame, the request; the
// server answers with any number of frames, until either closes the stream. The
// client sends nothing more. Frames are those of rendezvous: a uvarint length
// and a message in protobuf encoding.
//
//	WatchRequest  1 ns string         namespace; absent or empty: all
//	              2 cookie bytes      of a watch or DISCOVER of that namespace; absent: from the beginning
//	              3 flavours uint     0 or absent: standard records, 1: legacy, 2: both, as with field 200 of DISCOVER
//	WatchMessage  1 type enum         always written
//	              2 status, 3 statusText                as in DiscoverResponse
//	              4 repeated Register registrations     as in DiscoverResponse
//	              5 cookie bytes      where to go on from
//	              6 seq uint64        of a change: its number
//	              7 ns string, 8 peer bytes             of a registration that went
//	type          0 REFUSED           2, 3; the last message
//	              1 SNAPSHOT          4, 5: registrations that are there, in order
//	              2 SYNCED            5: the end of the snapshot
//	              3 ADD, 4 REFRESH    4 (one), 5, 6
//	              5 REMOVE, 6 EXPIRE  6, 7, 8; also of registrations the watcher was never shown
//	              7 RESYNC            5
//
// A watcher that reads more slowly than things change is not waited for. Once
// its queue is full, what follows is lost, and when it has read the queue it is
// sent RESYNC and another snapshot: from the cookie in it, if nothing that went
// is among what was lost; without a cookie the snapshot is of everything, and
// what it does not show is gone. A removal carries no cookie: the one before
// still holds. What went while a watcher was not connected is not told to it;
// that ends with its TTL, or with a watch from the beginning, which [Follower]
// makes.
package rendezvous
