// Package bamboo reads, writes and proves the entries of append-only logs: Bamboo entries with YASMF hashes (BLAKE3) and Ed25519
// signatures, byte for byte as p2panda-rs 0.8 writes them, and the operations (CBOR, version 1) that p2panda carries in them.
// Any other payload is opaque bytes.
//
// A log is one author's sequence of entries, numbered from 1. Each entry names its payload by size and hash and the entry before
// it by hash, some also one further back (see [Lipmaa]). The id of an entry is the hash of all its bytes, signature included.
//
// Signatures are judged by the rules of ZIP 215, one at a time and in batches alike, because the two would otherwise differ on
// signatures that were crafted for it and peers would disagree about what a log holds. A signature that p2panda accepts passes;
// among those crafted ones are some that only p2panda refuses.
//
// Sources: https://github.com/AljoschaMeyer/bamboo, https://github.com/bamboo-rs/yasmf-hash, the handbook of p2panda and p2panda-rs 0.8.1.
package bamboo
