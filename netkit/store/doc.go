// Package store keeps a server's state on disk: a Pebble database whose
// writes are acknowledged only when synced, and the lock that gives a state
// folder one owner.
//
// A process may be killed at any moment: the database's write-ahead log is
// replayed by the next Open, and the lock belongs to the open file, so the
// kernel releases it with the process. Nothing has to be repaired.
package store
