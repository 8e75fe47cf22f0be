// Package wire carries small request-reply protocols over libp2p streams.
//
// Messages are framed as libp2p protocols frame them: an unsigned varint
// length followed by that many bytes. A [Service] guards the serving side, so
// that a protocol's handler is only a function from request bytes to reply
// bytes; [Exchange] and [Send] are the asking side.
package wire
