package bed

import (
	"context"
	"errors"
	"fmt"
)

// LANPrefix is the prefix of the hash table in which peers of IPFS with private addresses take part.
const LANPrefix = "/ipfs/lan"

// Tabled starts a node of ours that takes part in the network of that hash table, and has joined it if args say whom it begins with.
func (s *Scene) Tabled(ctx context.Context, host int, args ...string) (*Node, error) {
	n, err := s.Serve(ctx, host, append([]string{"--dht", "--dht-mode", "server", "--dht-prefix", LANPrefix}, args...)...)
	if err != nil || len(args) == 0 {
		return n, err
	}
	return n, n.Event(ctx, "dht.joined", &struct{}{})
}

// FindThrough has dibber look for a node of ours in the network of the hash table, knowing another peer alone.
func (s *Scene) FindThrough(ctx context.Context, boot string, n *Node) (string, error) {
	var doc struct {
		OK    bool     `json:"ok"`
		Addrs []string `json:"addrs"`
		Error *struct {
			Message string `json:"message"`
		} `json:"error"`
		Lookup struct {
			Asked int     `json:"asked"`
			MS    float64 `json:"ms"`
		} `json:"lookup"`
	}
	if err := s.Dibber(ctx, &doc, "dht", "find-peer", n.Peer, "--bootstrap", boot, "--dht-prefix", LANPrefix); err != nil {
		return "", err
	}
	if !doc.OK {
		return "", fmt.Errorf("dibber dht find-peer: %s", doc.Error.Message)
	}
	if len(doc.Addrs) == 0 {
		return "", errors.New("dibber dht find-peer found no address")
	}
	return fmt.Sprintf("%d addresses, %d asked", len(doc.Addrs), doc.Lookup.Asked), nil
}

// Table are the features of a peer that takes part in a hash table.
func (g Small) Table() []Feature {
	return []Feature{
		{Name: "we find a peer in a hash table through it", Run: g.isAsked},
		{Name: "it finds a peer in a hash table through ours", Run: g.finds},
	}
}

func (g Small) isAsked(ctx context.Context, s *Scene) (string, error) {
	p, err := g.Start(ctx, s, 2, "table")
	if err != nil {
		return "", err
	}
	at, err := p.Line(ctx, "listening ")
	if err != nil {
		return "", err
	}
	n, err := s.Tabled(ctx, 1, "--bootstrap", at)
	if err != nil {
		return "", err
	}
	if _, err := p.Line(ctx, "joined"); err != nil {
		return "", err
	}
	return s.FindThrough(ctx, at, n)
}

func (g Small) finds(ctx context.Context, s *Scene) (string, error) {
	boot, err := s.Tabled(ctx, 1)
	if err != nil {
		return "", err
	}
	n, err := s.Tabled(ctx, 4, "--bootstrap", boot.Addrs[0])
	if err != nil {
		return "", err
	}
	said, err := g.word(ctx, s, "found ", "find", boot.Addrs[0], n.Peer)
	if err != nil {
		return "", err
	}
	if len(said) != 2 || said[0] != n.Peer {
		return "", fmt.Errorf("it found %v", said)
	}
	return said[1], nil
}
