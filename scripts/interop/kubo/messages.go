package kubo

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"time"

	"dibber/scripts/interop/bed"
)

// messageFeatures are what is shown of gossip, and of the hash table.
func messageFeatures() []bed.Feature {
	return []bed.Feature{
		{Name: "it hears what we publish", Run: hears},
		{Name: "we hear what it publishes", Run: publishes},
		{Name: "we find a peer in a hash table through it", Run: isAsked},
		{Name: "it finds a peer in a hash table through ours", Run: finds},
	}
}

// multibase is how its RPC writes bytes: base64 for URLs.
func multibase(data string) string { return "u" + base64.RawURLEncoding.EncodeToString([]byte(data)) }

func hears(ctx context.Context, s *bed.Scene) (string, error) {
	k, err := start(ctx, s, role{})
	if err != nil {
		return "", err
	}
	heard := make(chan error, 1)
	go func() { heard <- k.hear(ctx) }()
	if err := s.Publish(ctx, k.addr("quic-v1")); err != nil {
		return "", err
	}
	select {
	case err := <-heard:
		return fmt.Sprintf("%d bytes", len(bed.Payload)), err
	case <-ctx.Done():
		return "", fmt.Errorf("kubo heard nothing: %w", ctx.Err())
	}
}

// hear subscribes and waits for one message.
func (k *daemon) hear(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, k.api+"pubsub/sub?"+url.Values{"arg": {multibase(bed.Topic)}}.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var m struct{ Data string }
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&m); err != nil {
		return err
	}
	if m.Data != multibase(bed.Payload) {
		return fmt.Errorf("it heard %q, want %q", m.Data, multibase(bed.Payload))
	}
	return nil
}

func publishes(ctx context.Context, s *bed.Scene) (string, error) {
	k, err := start(ctx, s, role{})
	if err != nil {
		return "", err
	}
	ours, err := s.Subscribe(ctx, "--peer", k.addr("quic-v1"))
	if err != nil {
		return "", err
	}
	for {
		var peers struct{ Strings []string }
		if err := k.call(ctx, "pubsub/peers", url.Values{"arg": {multibase(bed.Topic)}}, &peers); err != nil {
			return "", err
		}
		if len(peers.Strings) > 0 {
			break
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return "", fmt.Errorf("kubo never saw us subscribed: %w", ctx.Err())
		}
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", "message")
	if err != nil {
		return "", err
	}
	_, err = part.Write([]byte(bed.Payload))
	if err = errors.Join(err, form.Close()); err != nil {
		return "", err
	}
	if _, err := k.post(ctx, "pubsub/pub", url.Values{"arg": {multibase(bed.Topic)}}, &body, form.FormDataContentType()); err != nil {
		return "", err
	}
	return ours.Message(ctx, k.id)
}

func isAsked(ctx context.Context, s *bed.Scene) (string, error) {
	k, err := start(ctx, s, role{table: true})
	if err != nil {
		return "", err
	}
	n, err := s.Tabled(ctx, 1, "--bootstrap", k.addr("quic-v1"))
	if err != nil {
		return "", err
	}
	return s.FindThrough(ctx, k.addr("tcp"), n)
}

func finds(ctx context.Context, s *bed.Scene) (string, error) {
	boot, k, err := tabled(ctx, s)
	if err != nil {
		return "", err
	}
	n, err := s.Tabled(ctx, 4, "--bootstrap", boot.Addr("quic-v1"))
	if err != nil {
		return "", err
	}
	for { // it may take a moment until who it is connected with is in its table
		found, err := k.findPeer(ctx, n.Peer)
		if err != nil || found != "" {
			return found, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return "", fmt.Errorf("kubo did not find the peer: %w", ctx.Err())
		}
	}
}

// findPeer looks for a peer and returns an address; empty if it was not found.
func (k *daemon) findPeer(ctx context.Context, peer string) (string, error) {
	answer, err := k.post(ctx, "routing/findpeer", url.Values{"arg": {peer}}, nil, "")
	if err != nil {
		return "", err
	}
	// One event a line, of which one is the peer with its addresses.
	const finalPeer = 2
	for events := json.NewDecoder(bytes.NewReader(answer)); events.More(); {
		var e struct {
			Type      int
			Responses []struct {
				ID    string
				Addrs []string
			}
		}
		if err := events.Decode(&e); err != nil {
			return "", err
		}
		for _, r := range e.Responses {
			if e.Type == finalPeer && r.ID == peer && len(r.Addrs) > 0 {
				return r.Addrs[0], nil
			}
		}
	}
	return "", nil
}
