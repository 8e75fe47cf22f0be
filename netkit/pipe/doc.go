// Package pipe carries bytes both ways between two peers, as a TCP connection does, and
// keeps them whole and in order while the connection under it changes: relayed to
// direct, lost and dialled again.
//
// The protocol is dibber's own, /dibber/pipe/1.0.0. The side that dials opens a stream
// and says which session it belongs to and how much of the session it has received; the
// other side answers with what it has received. Then both send frames: data, counts of
// bytes that were consumed, and the end. What is not consumed yet is kept and sent again
// on the next stream of the session. A window bounds it, so a slow reader slows the
// writer at the other end down, and memory stays bounded.
//
//	frame    = uvarint length ‖ kind ‖ body          wire.Reader
//	hello    = session (16 bytes) ‖ uvarint received  first frame, from the side that dials
//	welcome  = uvarint received                       first frame, from the other side
//	data     = 0 ‖ bytes
//	consumed = 1 ‖ uvarint count
//	end      = 2                                      counts as one more byte received
//	abort    = 3                                      the session is over, early
package pipe
