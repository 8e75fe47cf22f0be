package replicate

import (
	"io"
	"sync/atomic"
	"time"

	"dibber/netkit/bamboo"
	"dibber/netkit/logstore"
)

// Stream is what a session runs over.
type Stream interface {
	io.ReadWriter
	// CloseWrite tells the other side that nothing more comes; Reset makes reads and writes on both sides fail.
	CloseWrite() error
	Reset() error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// SessionConfig says what a session is to do. The zero value answers.
type SessionConfig struct {
	// Dialled says that this side began; exactly one of the two does.
	Dialled bool
	// Peer names the other side, to remember how far it has come; empty does not.
	Peer string
	// NoPull takes nothing, NoPush gives nothing.
	NoPull, NoPush bool
	// Compare compares the roots and transfers nothing. List finds out what each side lacks and transfers nothing either.
	Compare, List bool
	// Algo is how to find out in which logs the sides differ; the side that dialled decides, as far as it can be done.
	Algo Algo
	// Limit is how many bytes the path carries each way before it is cut: runs go in small frames, and stop before; zero is no limit.
	Limit uint64
	// Idle is how long one frame may take to come, or to be taken; zero means a minute.
	Idle time.Duration
	// On is told of progress; nil means nobody. It is called by several goroutines, one at a time.
	On func(Progress)
	// OnMissing is told of every run that one side has and the other lacks, as far as this side learns of it; nil means nobody.
	OnMissing func(Missing)
}

func (c *SessionConfig) frame() int {
	if c.Limit > 0 {
		return logstore.InlineMax
	}
	return runBytes
}

// Missing is a run of a log that one side lacks.
type Missing struct {
	Author bamboo.Author
	Log    uint64
	// From and To are the numbers of the first and the last entry.
	From, To uint64
	// Here says that this side lacks it.
	Here bool
}

// Count counts entries and the bytes of their payloads.
type Count struct {
	Entries int    `json:"entries"`
	Bytes   uint64 `json:"bytes"`
}

func (c *Count) add(entries int, bytes uint64) {
	c.Entries += entries
	c.Bytes += bytes
}

// Progress is how far a session has come.
type Progress struct {
	Pulled Count `json:"pulled"`
	Pushed Count `json:"pushed"`
	// Have and Need are how many entries the other side and this one were found to lack so far.
	Have uint64 `json:"have"`
	Need uint64 `json:"need"`
}

// counter counts the bytes of a stream, and bounds how long writing them may take.
type counter struct {
	Stream
	idle           time.Duration
	sent, received atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Stream.Read(p)
	c.received.Add(int64(n))
	return n, err
}

func (c *counter) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	n, err := c.Stream.Write(p)
	c.sent.Add(int64(n))
	return n, err
}
