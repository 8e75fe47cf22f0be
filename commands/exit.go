package commands

// exitCode is what the process returns to its caller. The table is part of the contract with scripts: codes are added, never
// renumbered.
type exitCode int

// The exit codes.
const (
	exitOK           exitCode = 0
	exitInternal     exitCode = 1
	exitUsage        exitCode = 2
	exitUnreachable  exitCode = 3
	exitIdentity     exitCode = 4
	exitProtocol     exitCode = 5
	exitRefused      exitCode = 6
	exitRelayedOnly  exitCode = 7
	exitInconclusive exitCode = 8
	exitNotFound     exitCode = 9
	exitFalse        exitCode = 10
	exitPartial      exitCode = 11
	exitTimeout      exitCode = 124
	exitInterrupted  exitCode = 130
	exitTerminated   exitCode = 143
)

// exitMeaning is one row of the exit code table.
type exitMeaning struct {
	code exitCode
	word string // the error.code of a failure that names no word of its own
	text string
}

// exitTable returns the exit codes in the order in which help, manual and README print them.
func exitTable() []exitMeaning {
	return []exitMeaning{
		{exitOK, "ok", "goal reached, or a long-lived command ended by SIGINT or SIGTERM"},
		{exitInternal, "internal", "internal or unclassified error"},
		{exitUsage, "usage", "usage: unknown command or flag, bad address, peer id or value"},
		{exitUnreachable, "unreachable", "unreachable: no address gave a connection"},
		{exitIdentity, "identity", "identity: peer id mismatch, handshake, PSK or verification failure"},
		{exitProtocol, "protocol", "protocol: the peer lacks what was required"},
		{exitRefused, "refused", "refused: ACL, quota, reservation, circuit or rate limit"},
		{exitRelayedOnly, "relayed_only", "connected, but only through a relay where a direct path was demanded"},
		{exitInconclusive, "inconclusive", "inconclusive: too few vantage points to say"},
		{exitNotFound, "not_found", "not found, or fewer than --min"},
		{exitFalse, "false", "an assertion or a comparison is false"},
		{exitPartial, "partial", "partial: some of several targets failed"},
		{exitTimeout, "timeout", "--timeout reached"},
		{exitInterrupted, "interrupted", "interrupted by SIGINT before the goal"},
		{exitTerminated, "terminated", "ended by SIGTERM before the goal"},
	}
}

// word returns the stable word of the code.
func (c exitCode) word() string {
	for _, m := range exitTable() {
		if m.code == c {
			return m.word
		}
	}
	return "internal"
}
