package commands

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// queueLines is how many lines may wait for a reader of a long-lived command's
// output, queuePatience how long its end waits for that reader.
const (
	queueLines    = 4096
	queuePatience = 2 * time.Second
)

// queue writes lines from a goroutine of its own, so that a reader who stops reading
// stops nothing but the lines: those that find it full are dropped and counted,
// and after a failed write, as when the reader has gone, all are.
type queue struct {
	lines   chan []byte
	ended   sync.WaitGroup
	dropped atomic.Int64
}

func newQueue(w io.Writer) *queue {
	p := &queue{lines: make(chan []byte, queueLines)}
	p.ended.Go(func() {
		gone := false
		for line := range p.lines {
			if gone {
				continue
			}
			_, err := w.Write(line)
			gone = err != nil
		}
	})
	return p
}

// put queues a line. It does not block.
func (p *queue) put(line []byte) {
	select {
	case p.lines <- line:
	default:
		p.dropped.Add(1)
	}
}

// close waits until everything is written, but not for ever. Nothing may be put
// after it.
func (p *queue) close() {
	close(p.lines)
	ended := make(chan struct{})
	go func() {
		p.ended.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(queuePatience):
	}
}
