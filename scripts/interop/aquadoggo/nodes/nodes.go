// Package nodes runs real nodes of aquadoggo against dibber.
package nodes

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"dibber/scripts/interop/bed"
)

// namespace is where aquadoggo registers.
const namespace = "aquadoggo"

// Peer returns the peer.
func Peer() bed.Peer {
	return bed.Peer{
		Name: "aquadoggo", Version: "0.9.1", Needs: []string{"cargo", "cc"},
		Namespace: true, // its nodes listen on every interface
		Build:     func(ctx context.Context, b *bed.Builder) error { return b.Cargo(ctx) },
		Features: []bed.Feature{
			{Name: "two edges meet through our server and replicate", Public: true, Run: replicate, Limit: 4 * time.Minute},
			{Name: "we find an edge at our server and reach it", Public: true, Run: weReach},
			{Name: "an edge finds us at our server and reaches us", Public: true, Run: reachesUs},
			{Name: "we reserve and register at its relay, an edge reaches us", Public: true, Run: atTheirs},
			{Name: "our replicate exchanges entries with it", Public: true, Run: exchange, Limit: 3 * time.Minute},
			{Name: "our replicate exchanges entries with it through our relay", Public: true, Run: exchangeRelayed, Limit: 3 * time.Minute},
		},
	}
}

// node is a running node of aquadoggo.
type node struct {
	*bed.Process
	name string
	id   string
	api  string // of its GraphQL
}

// start starts a node; n tells its ports from those of others.
func start(ctx context.Context, s *bed.Scene, name string, n int, args ...string) (*node, error) {
	http, port := 2020+n, 2120+n
	env := []string{"RUST_LOG=aquadoggo=debug,libp2p_relay=debug"}
	args = append([]string{args[0], fmt.Sprint(http), fmt.Sprint(port)}, args[1:]...)
	p, err := s.Start(ctx, env, program(s), args...)
	if err != nil {
		return nil, err
	}
	v := &node{Process: p, name: name, api: fmt.Sprintf("http://127.0.0.1:%d/graphql", http)}
	if v.id, err = v.logs(ctx, `Peer id: (\S+)`); err != nil {
		return nil, err
	}
	s.Say("%s is %s", name, v.id)
	return v, nil
}

func program(s *bed.Scene) string { return filepath.Join(s.Bin, "debug", "aquadoggo-peer") }

// logs waits for a line of the log that a pattern is in and returns its last group.
func (v *node) logs(ctx context.Context, pattern string) (string, error) {
	want := regexp.MustCompile(pattern)
	for {
		line, err := v.Line(ctx, "")
		if err != nil {
			return "", fmt.Errorf("%s: %q: %w", v.name, pattern, err)
		}
		if groups := want.FindStringSubmatch(line); groups != nil {
			return groups[len(groups)-1], nil
		}
	}
}

// edge starts an edge of a relay and waits until it is registered and has asked who else is.
func edge(ctx context.Context, s *bed.Scene, name string, n int, relay string) (*node, error) {
	v, err := start(ctx, s, name, n, "edge", hostPort(relay))
	if err != nil {
		return nil, err
	}
	if _, err := v.logs(ctx, "Discovering peers in namespace"); err != nil {
		return nil, err
	}
	s.Say("%s has a reservation, is registered, and asks who else is", name)
	return v, nil
}

// hostPort turns a QUIC address into what aquadoggo is told of a relay.
func hostPort(addr string) string {
	parts := strings.Split(addr, "/")
	return parts[2] + ":" + parts[4]
}

// server starts ours.
func server(ctx context.Context, s *bed.Scene) (*bed.Node, error) {
	n, err := s.Serve(ctx, 1, "--relay", "--rendezvous")
	if err == nil {
		s.Say("dibber serve --relay --rendezvous at %s", n.Addrs[0])
	}
	return n, err
}

func replicate(ctx context.Context, s *bed.Scene) (string, error) {
	relay, err := server(ctx, s)
	if err != nil {
		return "", err
	}
	first, err := edge(ctx, s, "first", 1, relay.Addrs[0])
	if err != nil {
		return "", err
	}
	second, err := edge(ctx, s, "second", 2, relay.Addrs[0])
	if err != nil {
		return "", err
	}
	via, err := second.logs(ctx, `Connected to (\S*p2p-circuit\S*)`)
	if err != nil {
		return "", err
	}
	s.Say("second has reached first at %s", via)
	var circuit struct {
		Peer        string `json:"peer"`
		Destination string `json:"destination"`
	}
	if err := relay.Event(ctx, "relay.circuit.opened", &circuit); err != nil {
		return "", err
	}
	if circuit.Peer != second.id || circuit.Destination != first.id {
		return "", fmt.Errorf("our relay's circuit is from %s to %s", circuit.Peer, circuit.Destination)
	}
	s.Say("our relay carries a circuit from second to first")
	if at, err := second.upgraded(ctx); err == nil {
		s.Say("second has punched through to first: %s", at)
	} else {
		s.Say("no direct connection: %v", err)
	}
	took, err := documents(ctx, s, first, second)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("a document of a new schema came over in %s", took.Round(100*time.Millisecond)), nil
}

// upgraded waits for a direct connection beside the relayed one.
func (v *node) upgraded(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	return v.logs(ctx, `Connection with (\S+) upgraded to direct connection`)
}

func weReach(ctx context.Context, s *bed.Scene) (string, error) {
	relay, err := server(ctx, s)
	if err != nil {
		return "", err
	}
	v, err := edge(ctx, s, "edge", 1, relay.Addrs[0])
	if err != nil {
		return "", err
	}
	found, err := s.Discover(ctx, relay.Addrs[0], namespace)
	if err != nil {
		return "", err
	}
	if len(found) != 1 || found[0].Peer != v.id || found[0].Found[0].Record != "legacy" {
		return "", fmt.Errorf("dibber discover: %+v", found)
	}
	// It answers no ping.
	d, err := s.Dial(ctx, "--relay-only", "--ping", "0", bed.Circuit(relay.Addrs[0], v.id))
	if err != nil {
		return "", err
	}
	if !d.OK || d.Identify == nil || d.Path == nil || *d.Path != "relayed" {
		return "", fmt.Errorf("dibber dial: %+v", d)
	}
	return fmt.Sprintf("%s, legacy record with addresses: %d", d.Identify.Agent, len(found[0].Addrs)), nil
}

func reachesUs(ctx context.Context, s *bed.Scene) (string, error) {
	relay, err := server(ctx, s)
	if err != nil {
		return "", err
	}
	return reached(ctx, s, relay.Addrs[0])
}

func atTheirs(ctx context.Context, s *bed.Scene) (string, error) {
	v, err := start(ctx, s, "relay", 3, "relay")
	if err != nil {
		return "", err
	}
	return reached(ctx, s, fmt.Sprintf("/ip4/%s/udp/2123/quic-v1/p2p/%s", s.IP(2), v.id))
}

// reached has a node of ours reserve and register at a server, and an edge find and reach it there.
func reached(ctx context.Context, s *bed.Scene, server string) (string, error) {
	ours, err := s.Serve(ctx, 4, "--use-relay", server, "--register", server, "--namespace", namespace)
	if err != nil {
		return "", err
	}
	for _, event := range []string{"reservation.reserved", "registration.registered"} {
		if err := ours.Event(ctx, event, &struct{}{}); err != nil {
			return "", err
		}
	}
	s.Say("ours is %s, reserved and registered", ours.Peer)
	v, err := edge(ctx, s, "edge", 1, server)
	if err != nil {
		return "", err
	}
	via, err := v.logs(ctx, `Connected to (\S*p2p-circuit/p2p/`+ours.Peer+`)`)
	if err != nil {
		return "", err
	}
	return "at " + via[strings.LastIndex(via, "/p2p-circuit"):], nil
}
