// Package replicate brings two stores of signed logs (dibber/netkit/logstore) in step over one stream.
//
// The protocol is dibber's own, /dibber/replicate/1.0.0. Both sides say what they hold, find out in which logs they differ, ask each
// other for what they lack and send it, at the same time in both directions. Whatever a session has brought is on disk when it is cut,
// so the next one goes on from there.
//
// # Frames
//
//	frame     = uvarint length ‖ kind ‖ body                     wire.Reader, at most 1 MiB
//	hello     = 1 ‖ version, flags, limits, counts, cursor, algorithm, fingerprint, root, digest of the forks known
//	heads     = 2 ‖ last ‖ logs: author, number, height, bytes, id of the last entry
//	wants     = 3 ‖ last ‖ runs: index among the heads got, first number, id of the entry before it
//	run       = 4 ‖ index ‖ first number ‖ count ‖ entries: flags, size, time, signature, payload or its hash
//	skip      = 5 ‖ index                                        a run that will not come: the log is forked, or damaged
//	probe     = 6 ‖ log ‖ numbers                                which entries have these numbers?
//	points    = 7 ‖ log ‖ ids
//	fetch     = 8 ‖ log ‖ number                                 one entry as it was signed
//	entry     = 9 ‖ log ‖ entry
//	proof     = 10 ‖ entry ‖ entry                               two entries with one number: the log is forked
//	sent      = 11                                               every run that was asked for has been sent
//	fin       = 12 ‖ flags ‖ root ‖ entries taken ‖ logs refused  all that was asked for is on disk
//	credit    = 13 ‖ bytes                                       so many bytes of runs are on disk; send as many more
//	get       = 14 ‖ hash ‖ size ‖ first byte                    a payload that is a file
//	file      = 15 ‖ part of 128 KiB, the last one of the rest   of the slice that logstore.Store.SendPayload writes
//	fileEnd   = 16 ‖ 1 if all of it was sent
//	fileRoom  = 17 ‖ bytes                                       of files; as credit
//	negentropy = 18 ‖ message                                    of protocol V1, over the heads of logs
//	ask       = 19 ‖ hashes of heads that negentropy found
//	refusal   = 20 ‖ reason                                      instead of hello
//	seek      = 21 ‖ hash ‖ size ‖ first byte                    as get, for a file that no run has named
//
// Numbers are uvarints. Within a run the author, the number of the log and of the entry, both links and the hash of a payload that
// comes along follow from what is known, and are left out.
//
// # Which logs differ
//
// A side that remembers how far it has come with the other says so in its hello; if both do, each lists only the logs that have grown
// since. Else both list all their logs if they are few, and if they are many the side that dialled reconciles the sets of heads with
// negentropy. Whatever way was taken, the roots are compared at the end.
//
// A head names the last entry, so a log of which two sides hold different entries under one number is found. Where is found by
// asking for the ids of entries in between. Both entries with their signatures are the proof; it is kept and passed on.
//
// # Files that were lost
//
// A side that has entries whose files are gone says so by a flag of its hello. If the other says by another that it sends any file
// that it is asked for, the session goes on though the roots are equal, and asks for them first, for some thousands at most. Who does
// not have such a file either says so, and nothing is broken. Sides that do not know these flags leave them out and ignore them.
//
// # Live
//
// Entries go by gossip, on the topic [LiveTopic], as they are signed: a message is a run of one log, whole. A replica proves it as far
// as it can before the message is passed on, and stores it where its log ends there. For what is missing before it, or is a file, a
// session is held with the neighbour that it came from; peers that gossip does not reach, behind a relay or of another kind, get one
// when entries came; and what is lost on the way is found by those that are held now and then.
//
// # Whose entries are taken
//
// By [Rules]: everybody's, those of authors on a list, or those whom the holder of a namespace's key lets write, in a log of that
// author's (see [GrantsHead]). What a rule refuses is refused by what the other side says that it has, before any of it is sent.
//
// # What is not believed
//
// A run is proven by its links and the signature of its last entry before any of it is stored and before files that it names are asked
// for. Its sender ends it at an entry whose signature verifies. No side sends more than the other has given credit for, and nothing
// can be said twice or without end: every frame that costs anything answers a question or is counted.
package replicate
