package natlab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	madns "github.com/multiformats/go-multiaddr-dns"
)

// DNS is a name service whose names can be changed while hosts use them. It answers
// at once, whatever the state of links, and caches nothing. The zero value knows no
// name.
type DNS struct {
	mu    sync.Mutex // guards following
	names map[string][]netip.Addr
	asked int
}

// Set makes name stand for addrs; none takes it away.
func (d *DNS) Set(name string, addrs ...netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.names == nil {
		d.names = make(map[string][]netip.Addr)
	}
	d.names[name] = slices.Clone(addrs)
}

// Asked is how many questions were asked.
func (d *DNS) Asked() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked
}

// Resolver is what a host asks; see host.Config.
func (d *DNS) Resolver() (*madns.Resolver, error) {
	return madns.NewResolver(madns.WithDefaultResolver(d))
}

// LookupIPAddr and LookupTXT implement madns.BasicResolver.
func (d *DNS) LookupIPAddr(_ context.Context, name string) ([]net.IPAddr, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	var out []net.IPAddr
	for _, a := range d.names[name] {
		out = append(out, net.IPAddr{IP: a.AsSlice()})
	}
	if out == nil {
		return nil, fmt.Errorf("look up %s: %w", name, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true})
	}
	return out, nil
}

// LookupTXT knows no records.
func (d *DNS) LookupTXT(_ context.Context, name string) ([]string, error) {
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}
