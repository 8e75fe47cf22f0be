package vantage

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// The prefixes that are limited as one: what a site commonly gets.
const (
	prefix4 = 24
	prefix6 = 56
)

// reflect answers the datagrams of one socket until it is closed.
func (s *Server) reflect(c net.PacketConn) {
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return // closed: nothing else ends a UDP socket that is not connected
		}
		src := endpointOf(from)
		// A lost answer is asked for again, whatever it was lost by.
		if !src.IsValid() || !s.allow(src) {
			continue
		}
		d, ok := decodeDatagram(buf[:n])
		switch {
		case !ok:
		case d.kind == kindReflect:
			_, _ = c.WriteTo(datagram{kind: kindReflected, id: d.id, at: src}.encode(), from)
		case d.kind == kindLater:
			s.late.after(networkOf(src.Addr()), d.after, func() {
				_, _ = c.WriteTo(datagram{kind: kindReflected, id: d.id, at: src}.encode(), from)
			})
		case d.kind == kindAsk && s.tokens.valid(time.Now(), d.token, src):
			_, _ = c.WriteTo(datagram{kind: kindReflected, id: d.id, at: src}.encode(), from)
			if at := s.site(d.site, src.Addr(), endpointOf(c.LocalAddr()).Addr()); at != nil {
				_, _ = at.probe.WriteTo(datagram{kind: kindProbe, id: d.id, site: d.site}.encode(), from)
			}
		}
	}
}

// site is the number-th of the sites that the asker was told of.
func (s *Server) site(number byte, src, here netip.Addr) *site {
	all := s.sitesFor(here)
	if int(number) >= len(all) || all[number].IP.Is4() != src.Is4() {
		return nil
	}
	i := slices.IndexFunc(s.sites, func(at *site) bool { return at.IP == all[number].IP })
	return s.sites[i]
}

// allow counts what came from a network against its limit.
func (s *Server) allow(src netip.AddrPort) bool {
	p := networkOf(src.Addr())
	return p.IsValid() && s.perNet.Allow(p, time.Now())
}

// networkOf is the network that an address counts as; invalid for no address.
func networkOf(ip netip.Addr) netip.Prefix {
	bits := prefix4
	if !ip.Is4() {
		bits = prefix6
	}
	p, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// tell tells by TCP whom it sees.
func (s *Server) tell(l net.Listener) {
	places := make(chan struct{}, tcpAtOnce)
	var answers sync.WaitGroup
	defer answers.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return // closed
		}
		src := endpointOf(c.RemoteAddr())
		select {
		case places <- struct{}{}:
		default:
			_ = c.Close() // too many at once
			continue
		}
		answers.Go(func() {
			defer func() { <-places }()
			if s.allow(src) {
				_ = c.SetDeadline(time.Now().Add(tcpPatience))
				_, _ = c.Write(appendEndpoint(nil, src))
			}
			_ = c.Close()
		})
	}
}
