// Package blocks keeps content-addressed blocks and exchanges them with peers by Bitswap 1.1 and 1.2
// (https://specs.ipfs.tech/bitswap-protocol/). A block is named by its CID, which holds its hash: it does not matter who hands a
// block over, and nothing is kept or given out that is not what its CID says.
//
// [Store] keeps blocks on disk, [Add] cuts a file into blocks (UnixFS), [Get] fetches a block or all that hang together below it,
// [WriteFile] puts a file together again. [Service] is the exchange with peers: it serves what the store has, fetches from several
// peers at once, and asks a peer whether it has a block.
package blocks
