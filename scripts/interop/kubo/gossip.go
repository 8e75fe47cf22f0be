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

// gossipFeatures are what is shown of gossip.
func gossipFeatures() []bed.Feature {
	return []bed.Feature{
		{Name: "it hears what we publish", Run: hears},
		{Name: "we hear what it publishes", Run: publishes},
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
