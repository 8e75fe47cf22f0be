// Package portmap has the router forward a UDP port: by PCP (RFC 6887), else by
// NAT-PMP (RFC 6886), else by UPnP (IGD v1 and v2, WANIPConnection and
// WANPPPConnection).
//
// Only the machine's default gateway is asked, and only what comes from its address
// is believed; of UPnP descriptions, only one that lies on it is fetched.
package portmap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"dibber/netkit/host"

	"github.com/libp2p/go-netroute"
)

// The words for the protocols, in the order in which they are tried.
const (
	PCP    = "pcp"
	NATPMP = "nat-pmp"
	UPnP   = "upnp"
)

var (
	// ErrNoGateway means that the machine has no default gateway.
	ErrNoGateway = errors.New("no default gateway")
	// ErrSilent means that the router does not answer in a protocol.
	ErrSilent = errors.New("no answer")
	// ErrRefused means that the router answered, and gave no mapping.
	ErrRefused = errors.New("refused")
)

// Config says what to map.
type Config struct {
	// Port is the UDP port of this machine.
	Port uint16
	// Outside is the port wished for at the router; 0 means any. The router may
	// give another.
	Outside uint16
	// Lifetime is how long the mapping lasts unless it is removed; 0 means 2 min.
	Lifetime time.Duration
	// Gateway and Own are the router and this machine's address towards it; zero
	// asks the routing table.
	Gateway, Own netip.Addr
}

// Attempt is what came of one protocol.
type Attempt struct {
	Protocol string  `json:"protocol"`
	OK       bool    `json:"ok"`
	Error    *string `json:"error"`
}

// Result is a mapping, or what was tried for one.
type Result struct {
	// Protocol is that of the mapping; empty if there is none.
	Protocol string
	Gateway  netip.Addr
	// External is the endpoint outside, by the router's own knowledge.
	External netip.AddrPort
	Tried    []Attempt

	remove func(context.Context) error
}

const (
	defaultLifetime = 2 * time.Minute
	// silence is how long a router may take to its first answer, and resend how long
	// after a question it is asked again.
	silence = 3 * resend
	resend  = 250 * time.Millisecond
)

// Do asks for a mapping, in one protocol after the other. The Result is filled
// whatever the error; what it holds must be given back by Remove.
func Do(ctx context.Context, n *host.Node, cfg Config) (Result, error) {
	if cfg.Lifetime == 0 {
		cfg.Lifetime = defaultLifetime
	}
	if !cfg.Gateway.IsValid() {
		var err error
		if cfg.Gateway, cfg.Own, err = gateway(n.Interface()); err != nil {
			return Result{}, err
		}
	}
	r := Result{Gateway: cfg.Gateway}
	var errs []error
	for _, p := range []struct {
		name string
		ask  func(context.Context, *host.Node, Config) (netip.AddrPort, func(context.Context) error, error)
	}{{PCP, askPCP}, {NATPMP, askNATPMP}, {UPnP, askUPnP}} {
		at, remove, err := p.ask(ctx, n, cfg)
		tried := Attempt{Protocol: p.name, OK: err == nil}
		if err != nil {
			tried.Error = new(err.Error())
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
		}
		r.Tried = append(r.Tried, tried)
		if err == nil {
			r.Protocol, r.External, r.remove = p.name, at, remove
			return r, nil
		}
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
	}
	return r, errors.Join(errs...)
}

// Remove gives a mapping back; nothing if there is none.
func (r Result) Remove(ctx context.Context) error {
	if r.remove == nil {
		return nil
	}
	if err := r.remove(ctx); err != nil {
		return fmt.Errorf("remove the mapping at %s by %s: %w", r.Gateway, r.Protocol, err)
	}
	return nil
}

// gateway asks the routing table for the way out. With an interface named, one by
// another interface is none.
func gateway(by string) (router, own netip.Addr, err error) {
	table, err := netroute.New()
	if err != nil {
		return router, own, fmt.Errorf("routing table: %w", err)
	}
	// Any address that is surely outside.
	out, via, from, err := table.Route(net.IPv4(1, 1, 1, 1))
	if err != nil || via == nil || by != "" && (out == nil || out.Name != by) {
		return router, own, ErrNoGateway
	}
	router, _ = netip.AddrFromSlice(via.To4())
	own, _ = netip.AddrFromSlice(from.To4())
	if !router.IsValid() || !own.IsValid() {
		return router, own, ErrNoGateway
	}
	return router, own, nil
}

// exchange sends a question to the router until it answers with what read takes.
func exchange(ctx context.Context, n *host.Node, cfg Config, to netip.AddrPort, question []byte, read func([]byte) (done bool, err error)) error {
	c, err := n.ListenUDP(netip.AddrPortFrom(cfg.Own, 0))
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 2048)
	for end := time.Now().Add(silence); time.Now().Before(end) && ctx.Err() == nil; {
		if _, err := c.WriteTo(question, net.UDPAddrFromAddrPort(to)); err != nil {
			return err
		}
		if err := c.SetReadDeadline(time.Now().Add(resend)); err != nil {
			return err
		}
		for {
			size, from, err := c.ReadFrom(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return err
			}
			at, ok := from.(*net.UDPAddr)
			if !ok || at.AddrPort().Addr().Unmap() != to.Addr() {
				continue // not the router
			}
			if done, err := read(buf[:size]); done || err != nil {
				return err
			}
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return ErrSilent
}
