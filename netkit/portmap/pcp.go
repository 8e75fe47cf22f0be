package portmap

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"dibber/netkit/host"
)

// pmpPort is where a router listens for PCP and NAT-PMP.
const pmpPort = 5351

// The numbers of PCP (RFC 6887 sections 7 and 11).
const (
	pcpVersion = 2
	pcpMap     = 1
	pcpReply   = 0x80
	pcpLen     = 60
	udpNumber  = 17 // of IP's protocols
)

// pcpRequest is a MAP request; a lifetime of 0 removes the mapping.
func pcpRequest(own netip.Addr, nonce [12]byte, port, outside uint16, lifetime time.Duration) []byte {
	b := make([]byte, pcpLen)
	b[0], b[1] = pcpVersion, pcpMap
	binary.BigEndian.PutUint32(b[4:], uint32(lifetime/time.Second))
	client := own.As16()
	copy(b[8:], client[:])
	copy(b[24:], nonce[:])
	b[36] = udpNumber
	binary.BigEndian.PutUint16(b[40:], port)
	binary.BigEndian.PutUint16(b[42:], outside)
	b[54], b[55] = 0xff, 0xff // ::ffff:0.0.0.0 leaves the IPv4 address to the router
	return b
}

// pcpResponse reads the answer to a MAP request; done is false for what is none.
func pcpResponse(b []byte, nonce [12]byte, port uint16) (at netip.AddrPort, done bool, err error) {
	switch {
	case len(b) >= 4 && b[0] == 0:
		// A router that knows only NAT-PMP (RFC 6887 appendix A).
		return at, true, fmt.Errorf("%w: version not known", ErrSilent)
	case len(b) < 24 || b[0] != pcpVersion || b[1] != pcpReply|pcpMap:
		return at, false, nil
	case b[3] != 0:
		return at, true, fmt.Errorf("%w: PCP result %d", ErrRefused, b[3])
	case len(b) < pcpLen || [12]byte(b[24:36]) != nonce || b[36] != udpNumber || binary.BigEndian.Uint16(b[40:]) != port:
		return at, false, nil
	}
	ip := netip.AddrFrom16([16]byte(b[44:60])).Unmap()
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[42:])), true, nil
}

func askPCP(ctx context.Context, n *host.Node, cfg Config) (at netip.AddrPort, remove func(context.Context) error, err error) {
	var nonce [12]byte
	_, _ = rand.Read(nonce[:]) // never fails (crypto/rand)
	router := netip.AddrPortFrom(cfg.Gateway, pmpPort)
	ask := func(ctx context.Context, lifetime time.Duration) error {
		return exchange(ctx, n, cfg, router, pcpRequest(cfg.Own, nonce, cfg.Port, cfg.Outside, lifetime), func(b []byte) (done bool, err error) {
			at, done, err = pcpResponse(b, nonce, cfg.Port)
			return done, err
		})
	}
	if err := ask(ctx, cfg.Lifetime); err != nil {
		return netip.AddrPort{}, nil, err
	}
	return at, func(ctx context.Context) error { return ask(ctx, 0) }, nil
}

// The numbers of NAT-PMP (RFC 6886 section 3).
const (
	pmpExternal = 0
	pmpMapUDP   = 1
	pmpReply    = 0x80
)

// pmpResponse reads an answer to an operation; done is false for what is none. body
// follows the head of eight bytes.
func pmpResponse(b []byte, op byte, size int) (body []byte, done bool, err error) {
	if len(b) < 4 || b[0] != 0 || b[1] != pmpReply|op {
		return nil, false, nil
	}
	if code := binary.BigEndian.Uint16(b[2:]); code != 0 {
		return nil, true, fmt.Errorf("%w: NAT-PMP result %d", ErrRefused, code)
	}
	if len(b) < 8+size {
		return nil, false, nil
	}
	return b[8 : 8+size], true, nil
}

func askNATPMP(ctx context.Context, n *host.Node, cfg Config) (netip.AddrPort, func(context.Context) error, error) {
	router := netip.AddrPortFrom(cfg.Gateway, pmpPort)
	ask := func(ctx context.Context, question []byte, size int) (body []byte, err error) {
		err = exchange(ctx, n, cfg, router, question, func(b []byte) (done bool, err error) {
			body, done, err = pmpResponse(b, question[1], size)
			return done, err
		})
		return body, err
	}
	external, err := ask(ctx, []byte{0, pmpExternal}, 4)
	if err != nil {
		return netip.AddrPort{}, nil, err
	}
	ip := netip.AddrFrom4([4]byte(external))
	mapUDP := func(ctx context.Context, outside uint16, lifetime time.Duration) ([]byte, error) {
		b := make([]byte, 12)
		b[1] = pmpMapUDP
		binary.BigEndian.PutUint16(b[4:], cfg.Port)
		binary.BigEndian.PutUint16(b[6:], outside)
		binary.BigEndian.PutUint32(b[8:], uint32(lifetime/time.Second))
		return ask(ctx, b, 8)
	}
	mapped, err := mapUDP(ctx, cfg.Outside, cfg.Lifetime)
	if err != nil {
		return netip.AddrPort{}, nil, err
	}
	if inside := binary.BigEndian.Uint16(mapped); inside != cfg.Port {
		return netip.AddrPort{}, nil, fmt.Errorf("%w: port %d was mapped instead", ErrRefused, inside)
	}
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(mapped[2:])), func(ctx context.Context) error {
		_, err := mapUDP(ctx, 0, 0)
		return err
	}, nil
}
