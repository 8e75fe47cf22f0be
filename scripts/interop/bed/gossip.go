package bed

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

const (
	// Topic is that of the messages.
	Topic = "interop"
	// Payload is what a message says: bytes that are no text, and an end of line.
	Payload = "hello\x00\xff\r\n\u00e9"
)

// Subscriber is a running dibber pubsub sub.
type Subscriber struct {
	*Process
	Peer  string
	Addrs []string // with the peer id
}

// Subscribe starts dibber pubsub sub, for one message.
func (s *Scene) Subscribe(ctx context.Context, args ...string) (*Subscriber, error) {
	listen := []string{"--listen", "/ip4/" + s.IP(1) + "/udp/0/quic-v1", "--listen", "/ip4/" + s.IP(1) + "/tcp/0"}
	p, err := s.Begin(ctx, append(append([]string{"pubsub", "sub", Topic, "-c", "1"}, listen...), args...)...)
	if err != nil {
		return nil, err
	}
	ready, err := p.Line(ctx, `{"schema":"pubsub.sub/1","event":"ready",`)
	if err != nil {
		return nil, err
	}
	sub := &Subscriber{Process: p}
	return sub, json.Unmarshal([]byte("{"+ready), sub)
}

// Message waits for the message, which must be Payload and of a peer.
func (s *Subscriber) Message(ctx context.Context, from string) (string, error) {
	line, err := s.Line(ctx, `{"schema":"pubsub.sub/1","event":"message",`)
	if err != nil {
		return "", err
	}
	var m struct {
		From string `json:"from"`
		Data []byte `json:"data_b64"`
	}
	if err := json.Unmarshal([]byte("{"+line), &m); err != nil {
		return "", err
	}
	if m.From != from || string(m.Data) != Payload {
		return "", fmt.Errorf("a message of %s came, %q; want %q of %s", m.From, m.Data, Payload, from)
	}
	return fmt.Sprintf("%d bytes", len(m.Data)), nil
}

// Publish runs dibber pubsub pub for one message of Payload to a peer.
func (s *Scene) Publish(ctx context.Context, to string) error {
	var doc struct {
		OK    bool `json:"ok"`
		Error *struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	err := s.Dibber(ctx, &doc, "pubsub", "pub", Topic, "--b64", base64.StdEncoding.EncodeToString([]byte(Payload)), "--peer", to)
	if err == nil && !doc.OK {
		err = fmt.Errorf("dibber pubsub pub: %s", doc.Error.Message)
	}
	return err
}

// Gossip are the features of a peer that speaks gossipsub.
func (g Small) Gossip() []Feature {
	return []Feature{
		{Name: "it hears what we publish", Run: g.hears},
		{Name: "we hear what it publishes", Run: g.says},
	}
}

func (g Small) hears(ctx context.Context, s *Scene) (string, error) {
	p, err := g.Start(ctx, s, 2, "hear", Topic)
	if err != nil {
		return "", err
	}
	at, err := p.Line(ctx, "listening ")
	if err != nil {
		return "", err
	}
	if err := s.Publish(ctx, at); err != nil {
		return "", err
	}
	heard, err := p.Line(ctx, "heard ")
	if err != nil {
		return "", err
	}
	data, err := base64.StdEncoding.DecodeString(heard)
	if err == nil && string(data) != Payload {
		err = fmt.Errorf("it heard %q, want %q", data, Payload)
	}
	return fmt.Sprintf("%d bytes", len(data)), err
}

func (g Small) says(ctx context.Context, s *Scene) (string, error) {
	ours, err := s.Subscribe(ctx)
	if err != nil {
		return "", err
	}
	from, err := g.word(ctx, s, "says ", "say", ours.Addrs[0], Topic, base64.StdEncoding.EncodeToString([]byte(Payload)))
	if err != nil {
		return "", err
	}
	return ours.Message(ctx, strings.Join(from, " "))
}
