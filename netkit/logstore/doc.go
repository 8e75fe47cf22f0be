// Package logstore keeps signed append-only logs on disk: the entries of [dibber/netkit/bamboo] by any number of authors, and what it
// takes to bring two such stores in step without reading either of them through.
//
// A store is a folder with a Pebble database, and a file for each payload above [InlineMax] beside it. Whatever belongs together (an
// entry, its log's head, its id, its places in the order of time and of arrival, the summaries) is written in one atomic batch;
// batches of callers that come at once share one sync. Nothing is acknowledged and nothing is visible before it is on disk.
//
// # What is read
//
// A [View] is the store at one moment: heads, entries, arrivals since a cursor, forks, and the ordered set of all entries with counts
// and sums of any range of it, which negentropy reconciles. Sums come from one summary for every [blockMax] entries or less, all of
// which are in memory, so that a range costs a search and the reading of two blocks at most.
//
// Two stores hold the same if their roots are the same. The root is an LtHash of the heads of all logs: a head covers every byte
// before it.
//
// # What is written
//
// [Store.Put] takes a run of a log that somebody sent and proves it before anything is stored. [Store.Append] signs entries of one's
// own. Two entries with one number in one log are a fork: the proof is kept and the log is not extended any more, here nor by
// peers who get the proof.
//
// # What is not believed
//
// Every entry is hashed again when it is read. Beside the store, in a folder of its own, is the guard: the highest entry of each own
// log that was ever let out, and how many entries the store has acknowledged. A store that has fewer, because a bit of its
// write-ahead log turned or an old copy was put back, is found at [Open], and never signs a second entry with a number it used.
package logstore
