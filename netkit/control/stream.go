package control

import (
	"io"
	"net/http"
	"time"
)

// stream answers a request for a verb that streams.
func (s *Service) stream(v Verb, w http.ResponseWriter, r *http.Request) {
	if !s.begin() {
		reply(w, nil, &Error{Status: http.StatusServiceUnavailable, Code: "busy", Message: "the node serves as many streams as it may"})
		return
	}
	defer s.end()
	if err := v.checkQuery(r); err != nil {
		reply(w, nil, err)
		return
	}
	c := &streamed{w: w, body: r.Body, control: http.NewResponseController(w)}
	err := c.control.EnableFullDuplex() // an answer may begin before the request has ended
	if err == nil {
		err = c.control.SetWriteDeadline(time.Time{}) // that of the whole answer
	}
	if err == nil {
		err = v.Stream(r.Context(), Call{r: r}, bodyReader{c}, c)
	}
	switch {
	case err == nil && !c.begun:
		reply(w, nil, nil)
	case err == nil:
	case !c.begun && r.Context().Err() == nil:
		_ = c.control.SetWriteDeadline(time.Now().Add(answerTimeout)) // without one it takes as long as it takes
		reply(w, nil, err)
	default:
		// The other side must not take what it got for all.
		if conn, _, err := c.control.Hijack(); err == nil {
			_ = conn.Close() // it is given up
		}
	}
}

// begin takes one of the places for streams.
func (s *Service) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.free == 0 {
		return false
	}
	s.free--
	s.streams.Add(1)
	return true
}

func (s *Service) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free++
	s.streams.Done()
}

// streamed is a request and its answer, neither of which may rest for longer than streamIdle.
type streamed struct {
	w       http.ResponseWriter
	body    io.Reader
	control *http.ResponseController
	begun   bool
}

// Write sends what is written at once.
func (c *streamed) Write(p []byte) (int, error) {
	if err := c.control.SetWriteDeadline(time.Now().Add(streamIdle)); err != nil {
		return 0, err
	}
	if !c.begun {
		c.begun = true
		c.w.Header().Set("Content-Type", "application/octet-stream")
		c.w.WriteHeader(http.StatusOK)
	}
	n, err := c.w.Write(p)
	if err == nil {
		err = c.control.Flush()
	}
	return n, err
}

// bodyReader reads the body of a streamed request.
type bodyReader struct{ c *streamed }

func (b bodyReader) Read(p []byte) (int, error) {
	if err := b.c.control.SetReadDeadline(time.Now().Add(streamIdle)); err != nil {
		return 0, err
	}
	return b.c.body.Read(p)
}
