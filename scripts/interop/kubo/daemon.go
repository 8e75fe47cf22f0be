package kubo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dibber/scripts/interop/bed"
)

// daemon is a running kubo.
type daemon struct {
	id    string
	addrs []string // with the peer id
	api   string
}

// role is what a kubo is to be.
type role struct {
	relay  string // a relay to reserve at; empty: none
	serves bool   // it is a relay
	table  bool   // it takes part in the network of a hash table
}

// private are the settings of a node that keeps to itself. Telemetry is on by default; an "auto" that is left in the
// configuration keeps it from starting without AutoConf.
func (r role) private(ip string) map[string]any {
	reachability := "private"
	if r.serves {
		reachability = "public"
	}
	routing := "none"
	if r.table {
		routing = "dhtserver"
	}
	relays := []string{}
	if r.relay != "" {
		relays = append(relays, r.relay)
	}
	return map[string]any{
		"Addresses": map[string]any{
			"Swarm": []string{"/ip4/" + ip + "/udp/0/quic-v1", "/ip4/" + ip + "/tcp/0"},
			"API":   "/ip4/127.0.0.1/tcp/0", "Gateway": []string{}, "Announce": []string{}, "AppendAnnounce": []string{}, "NoAnnounce": []string{},
		},
		"AutoConf":  map[string]any{"Enabled": false},
		"AutoTLS":   map[string]any{"Enabled": false},
		"Bootstrap": []string{},
		"DNS":       map[string]any{"Resolvers": map[string]string{}},
		"Discovery": map[string]any{"MDNS": map[string]any{"Enabled": false}},
		// Else it asks a connected peer for a block only if that is on its own network.
		"Internal": map[string]any{"Libp2pForceReachability": reachability, "Bitswap": map[string]any{"BroadcastControl": map[string]any{"Enable": false}}},
		"Ipns":     map[string]any{"DelegatedPublishers": []string{}},
		"Plugins":  map[string]any{"Plugins": map[string]any{"telemetry": map[string]any{"Config": map[string]any{"Mode": "off"}}}},
		"Pubsub":   map[string]any{"Enabled": true},
		"Routing":  map[string]any{"Type": routing, "DelegatedRouters": []string{}},
		"Swarm": map[string]any{
			"AddrFilters": []string{}, "DisableNatPortMap": true, "EnableHolePunching": r.relay != "", "ResourceMgr": map[string]any{"Enabled": false},
			"RelayClient":  map[string]any{"Enabled": r.relay != "", "StaticRelays": relays},
			"RelayService": map[string]any{"Enabled": r.serves},
		},
	}
}

func start(ctx context.Context, s *bed.Scene, r role) (*daemon, error) {
	repo := filepath.Join(s.Dir, "kubo")
	env := []string{"IPFS_PATH=" + repo, "IPFS_TELEMETRY=off", "DO_NOT_TRACK=1"}
	ipfs := filepath.Join(s.Bin, "ipfs")
	init, err := s.Start(ctx, env, ipfs, "init", "--profile=test")
	if err != nil {
		return nil, err
	}
	if err := init.Ended(ctx); err != nil {
		return nil, fmt.Errorf("ipfs init: %w", err)
	}
	if err := configure(filepath.Join(repo, "config"), r.private(s.IP(2))); err != nil {
		return nil, err
	}
	p, err := s.Start(ctx, env, ipfs, "daemon")
	if err != nil {
		return nil, err
	}
	k := &daemon{}
	rpc, err := p.Line(ctx, "RPC API server listening on ")
	if err != nil {
		return nil, err
	}
	// /ip4/127.0.0.1/tcp/PORT
	k.api = "http://127.0.0.1:" + rpc[strings.LastIndex(rpc, "/")+1:] + "/api/v0/"
	if _, err := p.Line(ctx, "Daemon is ready"); err != nil {
		return nil, err
	}
	var self struct{ ID string }
	if err := k.call(ctx, "id", nil, &self); err != nil {
		return nil, err
	}
	// All it listens on: id leaves out private addresses where it believes to be public.
	var listens struct{ Strings []string }
	if err := k.call(ctx, "swarm/addrs/listen", nil, &listens); err != nil {
		return nil, err
	}
	k.id = self.ID
	for _, a := range listens.Strings {
		if !strings.Contains(a, "/p2p-circuit") {
			k.addrs = append(k.addrs, strings.TrimSuffix(a, "/p2p/"+k.id)+"/p2p/"+k.id)
		}
	}
	return k, nil
}

// configure replaces sections of a configuration; what they do not name keeps its default.
func configure(file string, sections map[string]any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var config map[string]any
	if err := json.Unmarshal(data, &config); err != nil {
		return err
	}
	maps.Copy(config, sections)
	if data, err = json.MarshalIndent(config, "", "  "); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}

// addr is its address of a transport.
func (k *daemon) addr(transport string) string {
	for _, a := range k.addrs {
		if strings.Contains(a, "/"+transport) {
			return a
		}
	}
	return ""
}

// connect has it connect to an address.
func (k *daemon) connect(ctx context.Context, addr string) error {
	return k.call(ctx, "swarm/connect", url.Values{"arg": {addr}}, &struct{}{})
}

// connectedAt is the address at which it is connected to a peer.
func (k *daemon) connectedAt(ctx context.Context, peer string) (string, error) {
	var list struct{ Peers []struct{ Peer, Addr string } }
	if err := k.call(ctx, "swarm/peers", nil, &list); err != nil {
		return "", err
	}
	for _, p := range list.Peers {
		if p.Peer == peer {
			return p.Addr, nil
		}
	}
	return "", fmt.Errorf("kubo is not connected to %s", peer)
}

// speaks waits until it speaks a protocol.
func (k *daemon) speaks(ctx context.Context, protocol string) error {
	for {
		var self struct{ Protocols []string }
		if err := k.call(ctx, "id", nil, &self); err != nil || slices.Contains(self.Protocols, protocol) {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("kubo never spoke %s: %w", protocol, ctx.Err())
		}
	}
}

// call calls a command of its RPC.
func (k *daemon) call(ctx context.Context, command string, args url.Values, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, k.api+command+"?"+args.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return fmt.Errorf("kubo %s: %w", command, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("kubo %s: %s: %s", command, response.Status, bytes.TrimSpace(body))
	}
	return json.Unmarshal(body, into)
}
