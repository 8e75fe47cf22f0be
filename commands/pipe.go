package commands

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// pipeLines is how many lines may wait for a reader of a long-lived command's
// output, pipePatience how long its end waits for that reader.
const (
	pipeLines    = 4096
	pipePatience = 2 * time.Second
)

// pipe writes lines from a goroutine of its own, so that a reader who stops reading
// stops nothing but the lines: those that find it full are dropped and counted,
// and after a failed write, as when the reader has gone, all are.
type pipe struct {
	lines   chan []byte
	ended   sync.WaitGroup
	dropped atomic.Int64
}

func newPipe(w io.Writer) *pipe {
	p := &pipe{lines: make(chan []byte, pipeLines)}
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
func (p *pipe) put(line []byte) {
	select {
	case p.lines <- line:
	default:
		p.dropped.Add(1)
	}
}

// close waits until everything is written, but not for ever. Nothing may be put
// after it.
func (p *pipe) close() {
	close(p.lines)
	ended := make(chan struct{})
	go func() {
		p.ended.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(pipePatience):
	}
}
