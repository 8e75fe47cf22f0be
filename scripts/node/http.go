package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Get asks over HTTP for a path, and returns the answer.
func (n *Node) Get(ctx context.Context, path string) (string, error) {
	body, err := n.Open(ctx, path)
	if err != nil {
		return "", err
	}
	defer body.Close() // it was only read
	text, err := io.ReadAll(body)
	return string(text), err
}

// Open asks over HTTP for a path, and returns the answer as it comes.
func (n *Node) Open(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.HTTP+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("GET %s: %s", path, answer.Status), answer.Body.Close())
	}
	return answer.Body, nil
}
