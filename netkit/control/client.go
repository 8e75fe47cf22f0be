package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// ErrNotRunning means that no node answers at the socket.
var ErrNotRunning = errors.New("no node is running")

// maxAnswer is the largest answer in bytes that is read.
const maxAnswer = 64 << 20

// Client asks the node at a socket.
type Client struct {
	// Socket is its path; see [Find].
	Socket string
}

// Do sends a request, with body as JSON unless it is nil, and decodes the answer into
// a pointer. It fails with an [Error] when the node answers with one, with
// ErrNotRunning when nobody does, and with ctx's error when that ends.
func (c Client) Do(ctx context.Context, method, path string, body, answer any) error {
	var sent io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		sent = bytes.NewReader(data)
	}
	got, err := c.Stream(ctx, method, path, sent)
	if err != nil {
		return err
	}
	defer got.Close()
	data, err := c.readAll(ctx, got)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}

// Stream sends a request with a body of any length, unless it is nil, and returns the
// answer as it comes, to be closed. Its errors are those of Do. An answer that is cut
// ends in io.ErrUnexpectedEOF, or in ctx's error when that has ended.
func (c Client) Stream(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://dibber"+path, body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	transport := &http.Transport{
		DisableKeepAlives: true, // the node closes after each answer
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", c.Socket)
		},
	}
	got, err := transport.RoundTrip(r)
	if err != nil {
		return nil, c.classify(ctx, err)
	}
	if got.StatusCode == http.StatusOK {
		return got.Body, nil
	}
	defer got.Body.Close()
	data, err := c.readAll(ctx, got.Body)
	if err != nil {
		return nil, err
	}
	return nil, refused(got.StatusCode, data)
}

// readAll reads an answer that is kept as a whole.
func (c Client) readAll(ctx context.Context, body io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(body, maxAnswer+1))
	if err != nil {
		return nil, c.classify(ctx, err)
	}
	if len(data) > maxAnswer {
		return nil, fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	return data, nil
}

// classify says what a failed exchange means.
func (c Client) classify(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF):
		return fmt.Errorf("%w: nobody answers at %s", ErrNotRunning, c.Socket)
	default:
		return fmt.Errorf("ask the node: %w", err)
	}
}

// refused reads an Error.
func refused(status int, data []byte) error {
	var r refusal
	if err := json.Unmarshal(data, &r); err != nil || r.Error == nil {
		return &Error{Status: status, Code: "internal", Message: strings.TrimSpace(string(data[:min(len(data), 200)]))}
	}
	r.Error.Status = status
	return r.Error
}
