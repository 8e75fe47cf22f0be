package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
)

// target is the peer that both programs dial. It sees when it is connected, so that neither program has to tell.
type target struct {
	host.Host
	addr      string
	connected chan time.Time
}

func newTarget() (*target, error) {
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1"), libp2p.DisableMetrics())
	if err != nil {
		return nil, fmt.Errorf("start the target: %w", err)
	}
	t := &target{Host: h, addr: fmt.Sprintf("%s/p2p/%s", h.Addrs()[0], h.ID()), connected: make(chan time.Time, 16)}
	h.Network().Notify(&network.NotifyBundle{ConnectedF: func(network.Network, network.Conn) { t.connected <- time.Now() }})
	return t, nil
}

// samples are what was measured of one program, in milliseconds.
type samples struct{ connected, exited, user []float64 }

// add runs a program that dials t once.
func (s *samples) add(ctx context.Context, t *target, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = &stderr
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, stderr.Bytes())
	}
	s.exited = append(s.exited, ms(time.Since(start)))
	s.user = append(s.user, ms(cmd.ProcessState.UserTime()))
	select {
	case at := <-t.connected:
		s.connected = append(s.connected, ms(at.Sub(start)))
	case <-ctx.Done():
		return fmt.Errorf("%s ended without having connected", name)
	}
	if len(t.connected) > 0 {
		return fmt.Errorf("%s connected more than once", name)
	}
	return nil
}

func (s *samples) program() program {
	return program{
		ConnectedMS: quantile(s.connected, 0.5), ConnectedP10MS: quantile(s.connected, 0.1), ConnectedP90MS: quantile(s.connected, 0.9),
		ExitedMS: quantile(s.exited, 0.5), UserMS: quantile(s.user, 0.5),
	}
}

// quantile is the q-quantile of values, of which there is at least one: between two neighbours in the order of size, their mixture.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	below := int(at)
	above := min(below+1, len(sorted)-1)
	return milli(sorted[below] + (at-float64(below))*(sorted[above]-sorted[below]))
}
