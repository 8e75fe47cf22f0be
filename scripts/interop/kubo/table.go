package kubo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"dibber/scripts/interop/bed"
)

// tableFeatures are what is shown of the hash table.
func tableFeatures() []bed.Feature {
	return []bed.Feature{
		{Name: "we find a peer in a hash table through it", Run: isAsked},
		{Name: "it finds a peer in a hash table through ours", Run: finds},
	}
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
