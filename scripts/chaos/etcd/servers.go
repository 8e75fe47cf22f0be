//go:build linux

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"dibber/scripts/node"
)

// startServers starts n servers with one registry; an empty one is that of the state folder.
func startServers(ctx context.Context, program, dir, name string, n int, registry string) (list []*node.Node, err error) {
	ports, err := node.FreePorts(n)
	if err != nil {
		return nil, err
	}
	for i, port := range ports {
		home := filepath.Join(dir, fmt.Sprintf("%s-server%d", name, i))
		flags := []string{"--rendezvous", "--rendezvous-min-ttl", "1m", "--state-dir", home, "--listen", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port)}
		if registry != "" {
			flags = append(flags, "--registry", registry)
		}
		s := node.New(program, home+".ready", flags...)
		list = append(list, s)
		if err := start(ctx, s); err != nil {
			killServers(list)
			return nil, err
		}
	}
	return list, nil
}

func killServers(list []*node.Node) {
	for _, s := range list {
		s.Kill()
	}
}

// start starts a server, whose registry may come somewhat later.
func start(ctx context.Context, s *node.Node) error {
	for end := time.Now().Add(settle); ; {
		err := s.Start(ctx)
		if err == nil || time.Now().After(end) || ctx.Err() != nil {
			return err
		}
	}
}
