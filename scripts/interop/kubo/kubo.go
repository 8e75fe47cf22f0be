// Package kubo runs kubo, the IPFS node, as a relay, as a relay client, and as a peer that exchanges blocks, gossips and takes part in
// a hash table.
package kubo

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"dibber/scripts/interop/bed"
)

// Peer returns the peer.
func Peer() bed.Peer {
	return bed.Peer{
		Name: "kubo", Version: "0.43.0", Needs: []string{"go"},
		Namespace: true, // a daemon does more by itself than one would like to look after
		Build: func(ctx context.Context, b *bed.Builder) error {
			return b.Go(ctx, b.Source, "github.com/ipfs/kubo/cmd/ipfs", "ipfs")
		},
		Features: slices.Concat([]bed.Feature{
			{Name: "we dial, identify, ping it: quic-v1", Run: dialled("quic-v1")},
			{Name: "we dial, identify, ping it: tcp", Run: dialled("tcp")},
			{Name: "reserves at our relay, is dialled through it", Run: reserves},
			{Name: "dials through our relay", Run: dials},
			{Name: "is refused by our relay: no reservation", Run: isRefused},
			{Name: "punches through to us from our relay", Run: punches, Public: true},
			{Name: "we reserve at its relay, are dialled through it", Run: serves},
			{Name: "its relay refuses us: no reservation", Run: refuses},
		}, blockFeatures(), gossipFeatures(), tableFeatures()),
	}
}

func dialled(transport string) func(context.Context, *bed.Scene) (string, error) {
	return func(ctx context.Context, s *bed.Scene) (string, error) {
		k, err := start(ctx, s, role{})
		if err != nil {
			return "", err
		}
		d, err := s.Reach(ctx, "direct", k.addr(transport))
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s, %d protocols", d.Identify.Agent, len(d.Identify.Protocols)), nil
	}
}

// reserved starts a relay of ours and a kubo that reserves there, and returns its address through the relay.
func reserved(ctx context.Context, s *bed.Scene) (k *daemon, circuit string, err error) {
	relay, err := s.Serve(ctx, 1, "--relay")
	if err != nil {
		return nil, "", err
	}
	k, err = start(ctx, s, role{relay: relay.Addrs[0]})
	if err != nil {
		return nil, "", err
	}
	var opened struct {
		Peer string `json:"peer"`
	}
	if err := relay.Event(ctx, "relay.reservation.opened", &opened); err != nil {
		return nil, "", err
	}
	if opened.Peer != k.id {
		return nil, "", fmt.Errorf("%s has reserved, not %s", opened.Peer, k.id)
	}
	return k, bed.Circuit(relay.Addrs[0], k.id), nil
}

func reserves(ctx context.Context, s *bed.Scene) (string, error) {
	_, circuit, err := reserved(ctx, s)
	if err != nil {
		return "", err
	}
	d, err := s.Reach(ctx, "relayed", "--relay-only", circuit)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s; we are told %v", d.Identify.Agent, d.Limits), nil
}

func punches(ctx context.Context, s *bed.Scene) (string, error) {
	k, circuit, err := reserved(ctx, s)
	if err != nil {
		return "", err
	}
	// Its hole puncher sees only connections made once it knows a public address, which it looks for at growing intervals.
	if err := k.speaks(ctx, "/libp2p/dcutr"); err != nil {
		return "", err
	}
	return s.PunchedThrough(ctx, circuit)
}

func dials(ctx context.Context, s *bed.Scene) (string, error) {
	relay, err := s.Serve(ctx, 1, "--relay")
	if err != nil {
		return "", err
	}
	ours, err := s.Reserved(ctx, 4, relay.Addrs[0])
	if err != nil {
		return "", err
	}
	k, err := start(ctx, s, role{})
	if err != nil {
		return "", err
	}
	if err := k.connect(ctx, bed.Circuit(relay.Addrs[0], ours.Peer)); err != nil {
		return "", err
	}
	at, err := k.connectedAt(ctx, ours.Peer)
	if err != nil {
		return "", err
	}
	if !strings.Contains(at, "/p2p-circuit") {
		return "", fmt.Errorf("it is connected at %s", at)
	}
	return "connected at /p2p-circuit", nil
}

func isRefused(ctx context.Context, s *bed.Scene) (string, error) {
	relay, err := s.Serve(ctx, 1, "--relay")
	if err != nil {
		return "", err
	}
	k, err := start(ctx, s, role{})
	if err != nil {
		return "", err
	}
	return bed.SaysNoReservation(k.connect(ctx, bed.Circuit(relay.Addrs[0], bed.Nobody)))
}

func serves(ctx context.Context, s *bed.Scene) (string, error) {
	k, err := start(ctx, s, role{serves: true})
	if err != nil {
		return "", err
	}
	return s.MeetThrough(ctx, k.addr("quic-v1"), "120 s, 131072 bytes")
}

func refuses(ctx context.Context, s *bed.Scene) (string, error) {
	k, err := start(ctx, s, role{serves: true})
	if err != nil {
		return "", err
	}
	return s.RefusedBy(ctx, k.addr("quic-v1"))
}
