// Package pchain is a peer of ParallelChain's network, made of the Rust crate pchain_network.
package pchain

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"dibber/scripts/interop/bed"
)

// The peer's key and port; its address is that of the seed.
const (
	seed    = "0707070707070707070707070707070707070707070707070707070707070707"
	address = "6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw"
	port    = "25520"
	version = "pchain-0.4"
)

// Peer returns the peer.
func Peer() bed.Peer {
	return bed.Peer{
		Name: "pchain", Version: "pchain_network 0.4.3", Needs: []string{"cargo", "cc"},
		Namespace: true, // it listens on every interface
		Build:     func(ctx context.Context, b *bed.Builder) error { return b.Cargo(ctx) },
		Features: []bed.Feature{
			{Name: "boots from us: each knows the other's address", Run: meets},
			{Name: "hears our transaction in the mempool", Run: hears},
			{Name: "its transaction in the mempool is decoded, its signature right", Run: isHeard},
			{Name: "takes our mail", Run: takesMail},
			{Name: "we take its mail", Run: sendsMail},
		},
	}
}

func serve(ctx context.Context, s *bed.Scene) (*bed.Node, error) {
	return s.ServeAt(ctx, []string{"/ip4/" + s.IP(1) + "/tcp/25519"}, "--profile", version)
}

// message is what our node says that it heard.
type message struct {
	Address string  `json:"address"`
	Topic   string  `json:"topic"`
	To      *string `json:"to"`
	Data    string  `json:"data_b64"`
	Decoded struct {
		Kind string `json:"kind"`
	} `json:"decoded"`
	SignatureOK *bool `json:"signature_ok"`
}

// heard waits for a message of the peer.
func heard(ctx context.Context, n *bed.Node, kind string, data []byte) (m message, err error) {
	if err := n.Event(ctx, "chain.message", &m); err != nil {
		return m, err
	}
	if m.Address != address || m.Decoded.Kind != kind || m.Data != base64.StdEncoding.EncodeToString(data) {
		return m, fmt.Errorf("heard a %s of %s on %s: %s", m.Decoded.Kind, m.Address, m.Topic, m.Data)
	}
	return m, nil
}

// start starts the peer.
func start(ctx context.Context, s *bed.Scene, args ...string) (*bed.Process, error) {
	return s.Start(ctx, nil, filepath.Join(s.Bin, "debug", "pchain-peer"), args...)
}

// join starts the peer with our node to begin with, and waits until it has identified it.
func join(ctx context.Context, s *bed.Scene, n *bed.Node, task ...string) (*bed.Process, error) {
	p, err := start(ctx, s, append([]string{port, seed, n.Boot}, task...)...)
	if err != nil {
		return nil, err
	}
	_, err = p.Line(ctx, "peer "+n.Address)
	return p, err
}

// vector is a message as the crates encode it.
func vector(ctx context.Context, s *bed.Scene, name string) ([]byte, error) {
	p, err := start(ctx, s, "vectors")
	if err != nil {
		return nil, err
	}
	line, err := p.Line(ctx, name+" ")
	if err != nil {
		return nil, err
	}
	return hex.DecodeString(line)
}

// file is a vector in a file.
func file(ctx context.Context, s *bed.Scene, name string) (path string, data []byte, err error) {
	if data, err = vector(ctx, s, name); err != nil {
		return "", nil, err
	}
	path = filepath.Join(s.Dir, name)
	return path, data, os.WriteFile(path, data, 0o644)
}

func meets(ctx context.Context, s *bed.Scene) (string, error) {
	n, err := serve(ctx, s)
	if err != nil {
		return "", err
	}
	if _, err := join(ctx, s, n, "listen"); err != nil {
		return "", err
	}
	var met struct {
		Address string `json:"address"`
	}
	if err := n.Event(ctx, "chain.met", &met); err != nil {
		return "", err
	}
	if met.Address != address {
		return "", fmt.Errorf("met %s", met.Address)
	}
	return met.Address, n.Event(ctx, "dht.joined", &struct{}{})
}

// sentDoc is what pubsub pub and send print.
type sentDoc struct {
	OK    bool `json:"ok"`
	Error *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// say runs a command that sends, and waits for the peer to have heard data on a topic.
func say(ctx context.Context, s *bed.Scene, p *bed.Process, topic string, data []byte, args ...string) (string, error) {
	var doc sentDoc
	if err := s.Dibber(ctx, &doc, args...); err != nil {
		return "", err
	}
	if !doc.OK {
		return "", fmt.Errorf("dibber %s: %v", strings.Join(args[:2], " "), doc.Error)
	}
	line, err := p.Line(ctx, "message "+topic+" ")
	if err != nil {
		return "", err
	}
	if _, got, _ := strings.Cut(line, " "); got != hex.EncodeToString(data) {
		return "", fmt.Errorf("it got %s", got)
	}
	return fmt.Sprintf("%d bytes", len(data)), nil
}

func hears(ctx context.Context, s *bed.Scene) (string, error) {
	n, err := serve(ctx, s)
	if err != nil {
		return "", err
	}
	path, data, err := file(ctx, s, "tx-every-command")
	if err != nil {
		return "", err
	}
	p, err := join(ctx, s, n, "listen")
	if err != nil {
		return "", err
	}
	// It takes what it hears of neighbours alone: one must be told of it, and dial it.
	return say(ctx, s, p, "mempool", data, "pubsub", "pub", "mempool", "--file", path, "--profile", version, "--boot", address+"@"+s.IP(1)+":"+port)
}

func isHeard(ctx context.Context, s *bed.Scene) (string, error) {
	n, err := serve(ctx, s)
	if err != nil {
		return "", err
	}
	data, err := vector(ctx, s, "tx-every-command")
	if err != nil {
		return "", err
	}
	if _, err := join(ctx, s, n, "broadcast", "mempool", hex.EncodeToString(data)); err != nil {
		return "", err
	}
	m, err := heard(ctx, n, "transaction", data)
	if err == nil && (m.Topic != "mempool" || m.SignatureOK == nil || !*m.SignatureOK) {
		err = fmt.Errorf("on %s, with signature %v", m.Topic, m.SignatureOK)
	}
	return fmt.Sprintf("%d bytes", len(data)), err
}

func takesMail(ctx context.Context, s *bed.Scene) (string, error) {
	n, err := serve(ctx, s)
	if err != nil {
		return "", err
	}
	path, data, err := file(ctx, s, "vote-commit")
	if err != nil {
		return "", err
	}
	p, err := join(ctx, s, n, "listen")
	if err != nil {
		return "", err
	}
	// Where it is our node tells, which met it.
	return say(ctx, s, p, address, data, "pubsub", "send", address, "--file", path, "--profile", version, "--boot", n.Boot)
}

func sendsMail(ctx context.Context, s *bed.Scene) (string, error) {
	n, err := serve(ctx, s)
	if err != nil {
		return "", err
	}
	data, err := vector(ctx, s, "sync-response")
	if err != nil {
		return "", err
	}
	if _, err := join(ctx, s, n, "send", n.Address, hex.EncodeToString(data)); err != nil {
		return "", err
	}
	m, err := heard(ctx, n, "sync-response", data)
	if err == nil && (m.To == nil || *m.To != n.Address) {
		err = fmt.Errorf("to %v", m.To)
	}
	return fmt.Sprintf("%d bytes", len(data)), err
}
