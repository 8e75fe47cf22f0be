// Package browser is a page in Chromium: js-libp2p over the transports that a browser has.
package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"dibber/scripts/interop/bed"
)

// command is the browser, by the name Debian gives it.
const command = "chromium"

// transport is one that browsers have.
type transport struct {
	name   string // as people call it
	part   string // what addresses have of it
	listen string // the address to listen at, of an IPv4 address
}

var transports = [...]transport{
	{"WebTransport", "/webtransport", "/ip4/%s/udp/0/quic-v1/webtransport"},
	{"WebRTC-direct", "/webrtc-direct", "/ip4/%s/udp/0/webrtc-direct"},
	{"WebSocket", "/ws", "/ip4/%s/tcp/0/ws"},
}

// Peer returns the peer.
func Peer() bed.Peer {
	p := bed.Peer{
		Name: "browser", Version: "js-libp2p 3.3.11 in Chromium", Needs: []string{"node", "npm", command},
		Build: func(ctx context.Context, b *bed.Builder) error {
			if err := b.NPM(ctx, "page.mjs", "browser.mjs"); err != nil {
				return err
			}
			return b.Run(ctx, b.Dir, "node_modules/.bin/esbuild", "page.mjs", "--bundle", "--outfile=page.js", "--log-level=warning")
		},
	}
	// All are Public, to have an interface beside loopback: see serve.
	for _, t := range transports {
		p.Features = append(p.Features, bed.Feature{Name: "dials us, identify, ping: " + t.name, Public: true, Run: t.dials})
	}
	for _, t := range transports {
		p.Features = append(p.Features, bed.Feature{Name: "reaches a peer behind a NAT through our relay: " + t.name, Public: true, Run: t.reaches})
	}
	for _, t := range transports {
		p.Features = append(p.Features, bed.Feature{Name: "is refused by our relay: no reservation: " + t.name, Public: true, Run: t.refused})
	}
	return p
}

// serve starts a relay that listens for browsers, and for other peers over QUIC, and returns the address for browsers.
func (t transport) serve(ctx context.Context, s *bed.Scene) (relay *bed.Node, addr string, err error) {
	// Over loopback alone Chromium finds no way for WebRTC.
	if err := s.Interface(ctx); err != nil {
		return nil, "", err
	}
	listen := []string{fmt.Sprintf(t.listen, s.IP(1)), "/ip4/" + s.IP(1) + "/udp/0/quic-v1"}
	relay, err = s.ServeAt(ctx, listen, "--relay", "--transport", "quic,ws,webtransport,webrtc")
	if err != nil {
		return nil, "", err
	}
	if addr = relay.Addr(t.part[1:]); addr == "" {
		return nil, "", fmt.Errorf("we listen at %v, none of which has %s", relay.Addrs, t.part)
	}
	return relay, addr, nil
}

func (t transport) dials(ctx context.Context, s *bed.Scene) (string, error) {
	relay, addr, err := t.serve(ctx, s)
	if err != nil {
		return "", err
	}
	r, err := dial(ctx, s, addr)
	if err != nil {
		return "", err
	}
	if err := t.check(r, relay.Peer); err != nil {
		return "", err
	}
	if r.Limits != (bed.Limits{}) {
		return "", fmt.Errorf("it takes a direct connection for one with limits: %v", r.Limits)
	}
	return fmt.Sprintf("%s, %d protocols, ping %d ms", r.Agent, len(r.Protocols), r.RoundTripMS), nil
}

// reaches has a page reach a peer that nothing else can reach.
func (t transport) reaches(ctx context.Context, s *bed.Scene) (string, error) {
	relay, addr, err := t.serve(ctx, s)
	if err != nil {
		return "", err
	}
	node, err := s.ServeBehindNAT(ctx, "--use-relay", relay.Addr("udp/"), "--private-node")
	if err != nil {
		return "", err
	}
	if err := node.Event(ctx, "reservation.reserved", &struct{}{}); err != nil {
		return "", err
	}
	for _, direct := range node.Outside {
		if d, err := s.Dial(ctx, "--timeout", "3s", direct); err != nil || d.OK {
			return "", errors.Join(err, fmt.Errorf("the NAT lets in whoever dials %s", direct))
		}
	}
	r, err := dial(ctx, s, bed.Circuit(addr, node.Peer))
	if err != nil {
		return "", err
	}
	if err := t.check(r, node.Peer); err != nil {
		return "", err
	}
	if r.Limits.DurationS == nil || r.Limits.Bytes == nil {
		return "", errors.New("it was not told the limits of the circuit")
	}
	return fmt.Sprintf("%s, %d protocols, ping %d ms, %v", r.Agent, len(r.Protocols), r.RoundTripMS, r.Limits), nil
}

func (t transport) refused(ctx context.Context, s *bed.Scene) (string, error) {
	_, addr, err := t.serve(ctx, s)
	if err != nil {
		return "", err
	}
	_, err = dial(ctx, s, bed.Circuit(addr, bed.Nobody))
	return bed.SaysNoReservation(err)
}

// reached is what the page saw of a peer.
type reached struct {
	Peer        string     `json:"peer"`
	Addrs       []string   `json:"addrs"`
	Limits      bed.Limits `json:"limits"`
	Agent       string     `json:"agent"`
	Protocols   []string   `json:"protocols"`
	RoundTripMS int        `json:"round_trip_ms"`
}

// check tells whether the page reached a dibber that is peer, by the transport and no other.
func (t transport) check(r reached, peer string) error {
	switch {
	case r.Peer != peer:
		return fmt.Errorf("it reached %s, want %s", r.Peer, peer)
	case !strings.HasPrefix(r.Agent, "dibber/"):
		return fmt.Errorf("it was told the agent %q", r.Agent)
	}
	direct := 0
	for _, a := range r.Addrs {
		if strings.Contains(a, "/p2p-circuit") {
			continue // js-libp2p names one of the relay's addresses there, whichever it dialled
		}
		if direct++; !strings.Contains(a, t.part) {
			return fmt.Errorf("it used %s, want %s", a, t.part)
		}
	}
	if direct == 0 {
		return fmt.Errorf("it used no direct connection, only %v", r.Addrs)
	}
	return nil
}

// dial has a page in a new browser dial.
func dial(ctx context.Context, s *bed.Scene, addr string) (r reached, err error) {
	chromium, err := exec.LookPath(command)
	if err != nil {
		return r, err
	}
	// What it keeps is the scene's, and goes with it.
	p, err := s.Start(ctx, []string{"HOME=" + s.Dir, "TMPDIR=" + s.Dir}, "node", filepath.Join(s.Bin, "browser.mjs"), chromium, addr)
	if err != nil {
		return r, err
	}
	if _, err := p.Line(ctx, "browser "); err != nil {
		return r, err
	}
	said, err := p.Line(ctx, "")
	if err != nil {
		return r, err
	}
	seen, ok := strings.CutPrefix(said, "connected ")
	if !ok {
		return r, errors.New(said)
	}
	return r, json.Unmarshal([]byte(seen), &r)
}
