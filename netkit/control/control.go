// Package control lets other programs of the same user look at a running node and
// steer it: HTTP with JSON bodies over a Unix socket that nobody else may open, so
// that curl --unix-socket works as well as [Client]. What can be asked is handed in
// as verbs; the package knows none itself.
package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

// What is given to one request, whoever makes it.
const (
	maxBody       = 64 << 10 // bytes
	maxHeader     = 8 << 10  // bytes
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	answerTimeout = 30 * time.Second
	// closeTimeout is how long Close lets requests under way go on.
	closeTimeout = time.Second
	// streamIdle is how long a stream may rest on the other side: with more of a body, or with taking what is written.
	streamIdle = 5 * time.Minute
)

// DefaultConcurrent is how many requests are served at once.
const DefaultConcurrent = 32

// Config sets up a [Service].
type Config struct {
	// Dir is the state folder; the socket is control.sock in it, unless that path is
	// longer than 100 bytes or Socket says otherwise.
	Dir string
	// Socket is where the socket is made; empty means in Dir.
	Socket string
	// Runtime is the folder for a socket whose path in Dir is too long; its place is
	// then written to control.path in Dir. Empty means that for temporary files.
	Runtime string
	// Verbs are what can be asked.
	Verbs []Verb
	// Concurrent is how many requests are served at once, one a connection; further
	// ones wait. 0 means DefaultConcurrent. Half of them, at most, may be streams:
	// further ones are refused, so that the node can still be asked.
	Concurrent int
}

// Verb is one thing that can be asked.
type Verb struct {
	// Pattern is method and path as http.ServeMux has them: "DELETE /circuits/{id}".
	Pattern string
	// Query names the parameters that it takes; any other is refused.
	Query []string
	// MaxBody is the largest body in bytes that it takes; 0 means 64 KiB.
	MaxBody int64
	// Do answers with JSON. Its error is told as it is when it is an [Error], else
	// as an internal one. The context ends with the request, and after 30 s.
	Do func(ctx context.Context, c Call) ([]byte, error)
	// Stream, in place of Do, reads a body of any length as it comes and writes the
	// answer as it goes, each write at once. An error before the first write is told
	// as one of Do; after it the connection is cut. The context ends with the
	// request and with the service.
	Stream func(ctx context.Context, c Call, body io.Reader, w io.Writer) error
}

// Call is a request for a verb.
type Call struct {
	// Body is what came along, at most MaxBody of the verb; nil for a stream.
	Body []byte

	r *http.Request
}

// Value returns what the request has for a name in the pattern's path or for a
// parameter; empty when it has nothing.
func (c Call) Value(name string) string {
	if v := c.r.PathValue(name); v != "" {
		return v
	}
	return c.r.URL.Query().Get(name)
}

// Error is an answer other than the one that was asked for.
type Error struct {
	// Status is that of HTTP; 0 means 500.
	Status int `json:"-"`
	// Code is a stable word.
	Code    string `json:"code"`
	Message string `json:"message"`
	// Hint is what can be done about it; empty when nothing is known.
	Hint string `json:"hint,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// refusal is an Error as it goes over the socket.
type refusal struct {
	Error *Error `json:"error"`
}

// Service answers at a socket.
type Service struct {
	place  place
	server *http.Server
	done   sync.WaitGroup
	failed error // of the goroutine
	ended  context.CancelFunc

	mu      sync.Mutex // guards following
	free    int        // streams that there is room for
	closed  bool
	streams sync.WaitGroup
}

// New makes the socket, with mode 0600, and answers there. What a killed process left
// at its place is replaced; an [InUseError] tells of one where somebody answers.
func New(ctx context.Context, cfg Config) (*Service, error) {
	if cfg.Concurrent == 0 {
		cfg.Concurrent = DefaultConcurrent
	}
	p, err := choose(ctx, cfg)
	if err != nil {
		return nil, err
	}
	l, err := p.listen(ctx)
	if err != nil {
		return nil, errors.Join(err, p.leave())
	}
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Service{place: p, ended: cancel, free: max(1, cfg.Concurrent/2)}
	s.server = &http.Server{
		Handler:     s.routes(cfg.Verbs),
		BaseContext: func(net.Listener) context.Context { return base },
		ReadTimeout: readTimeout, ReadHeaderTimeout: headerTimeout, WriteTimeout: answerTimeout, MaxHeaderBytes: maxHeader,
		// What peers of this user do wrong, they are told.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	// A connection is a request, so that those counted are those that cost something.
	s.server.SetKeepAlivesEnabled(false)
	s.done.Go(func() {
		if err := s.server.Serve(netutil.LimitListener(l, cfg.Concurrent)); !errors.Is(err, http.ErrServerClosed) {
			s.failed = fmt.Errorf("control socket: %w", err)
		}
	})
	return s, nil
}

// Socket is the path of the socket.
func (s *Service) Socket() string { return s.place.socket }

// Close stops answering, within a second, and removes the socket. No verb is being
// answered when it returns.
func (s *Service) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.ended() // streams
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := s.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.server.Close()
	}
	s.streams.Wait()
	s.done.Wait()
	return errors.Join(err, s.failed, s.place.leave())
}

// routes is what answers.
func (s *Service) routes(verbs []Verb) http.Handler {
	mux := http.NewServeMux()
	var known []string
	for _, v := range verbs {
		known = append(known, v.Pattern)
		mux.HandleFunc(v.Pattern, func(w http.ResponseWriter, r *http.Request) {
			if v.Stream != nil {
				s.stream(v, w, r)
				return
			}
			answer, err := v.call(w, r)
			reply(w, answer, err)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		reply(w, nil, &Error{
			Status: http.StatusNotFound, Code: "unknown_verb",
			Message: fmt.Sprintf("there is no %s %s", r.Method, r.URL.Path), Hint: strings.Join(known, ", "),
		})
	})
	return mux
}

// call reads the request and has it answered.
func (v Verb) call(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if err := v.checkQuery(r); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, cmp.Or(v.MaxBody, maxBody)))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return nil, &Error{Status: http.StatusRequestEntityTooLarge, Code: "usage", Message: fmt.Sprintf("a request has at most %d bytes", tooLarge.Limit)}
	}
	if err != nil {
		return nil, &Error{Status: http.StatusBadRequest, Code: "usage", Message: fmt.Sprintf("read the request: %v", err)}
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	return v.Do(ctx, Call{Body: body, r: r})
}

// checkQuery refuses parameters that the verb does not take.
func (v Verb) checkQuery(r *http.Request) error {
	for name := range r.URL.Query() {
		if !slices.Contains(v.Query, name) {
			return &Error{Status: http.StatusBadRequest, Code: "usage", Message: fmt.Sprintf("%s takes no parameter %q", v.Pattern, name)}
		}
	}
	return nil
}

// reply sends an answer, or the reason why there is none.
func reply(w http.ResponseWriter, answer []byte, err error) {
	status := http.StatusOK
	if err != nil {
		why := new(Error)
		if !errors.As(err, &why) {
			why = &Error{Code: "internal", Message: err.Error()}
		}
		if status = why.Status; status == 0 {
			status = http.StatusInternalServerError
		}
		answer, _ = json.Marshal(refusal{why}) // strings always encode
		answer = append(answer, '\n')
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(answer) // who has gone needs no answer
}
