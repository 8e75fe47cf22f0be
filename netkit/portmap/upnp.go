package portmap

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"dibber/netkit/host"

	"github.com/huin/goupnp"
	"github.com/huin/goupnp/dcps/internetgateway2"
)

const (
	// ssdpPort is where devices listen for searches (UPnP Device Architecture 1.1,
	// section 1.3); ones by unicast have to be answered at once.
	ssdpPort = 1900
	// describe is what a mapping is called in the router's list.
	describe = "dibber"
)

// wanConnection is the service of a router that maps ports.
type wanConnection interface {
	AddPortMappingCtx(ctx context.Context, remoteHost string, externalPort uint16, protocol string, internalPort uint16,
		internalClient string, enabled bool, description string, leaseDuration uint32) error
	DeletePortMappingCtx(ctx context.Context, remoteHost string, externalPort uint16, protocol string) error
	GetExternalIPAddressCtx(ctx context.Context) (string, error)
}

func askUPnP(ctx context.Context, n *host.Node, cfg Config) (netip.AddrPort, func(context.Context) error, error) {
	none := netip.AddrPort{}
	at, err := searchGateway(ctx, n, cfg)
	if err != nil {
		return none, nil, err
	}
	root, err := goupnp.DeviceByURLCtx(ctx, at)
	if err != nil {
		return none, nil, fmt.Errorf("description of the router: %w", err)
	}
	service, err := wanService(root, at)
	if err != nil {
		return none, nil, err
	}
	text, err := service.GetExternalIPAddressCtx(ctx)
	if err != nil {
		return none, nil, fmt.Errorf("external address: %w", err)
	}
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return none, nil, fmt.Errorf("%w: external address %q", ErrRefused, text)
	}
	outside := cfg.Outside
	if outside == 0 {
		outside = cfg.Port // to leave the choice to the router takes IGD v2
	}
	lease := uint32(cfg.Lifetime / time.Second)
	if err := service.AddPortMappingCtx(ctx, "", outside, "UDP", cfg.Port, cfg.Own.String(), true, describe, lease); err != nil {
		return none, nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return netip.AddrPortFrom(ip, outside), func(ctx context.Context) error {
		return service.DeletePortMappingCtx(ctx, "", outside, "UDP")
	}, nil
}

// searchGateway asks the router where its description is.
func searchGateway(ctx context.Context, n *host.Node, cfg Config) (at *url.URL, err error) {
	router := netip.AddrPortFrom(cfg.Gateway, ssdpPort)
	err = exchange(ctx, n, cfg, router, ssdpSearch(router), func(b []byte) (done bool, err error) {
		at = ssdpLocation(b, cfg.Gateway)
		return at != nil, nil
	})
	return at, err
}

// ssdpSearch is a search for a router, sent to it alone.
func ssdpSearch(router netip.AddrPort) []byte {
	return fmt.Appendf(nil, "M-SEARCH * HTTP/1.1\r\nHOST: %s\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: %s\r\n\r\n",
		router, "urn:schemas-upnp-org:device:InternetGatewayDevice:1")
}

// ssdpLocation reads the answer to a search; nil for one that points elsewhere than at
// the router.
func ssdpLocation(b []byte, router netip.Addr) *url.URL {
	r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
	if err != nil {
		return nil
	}
	_ = r.Body.Close() // there is none
	at, err := r.Location()
	if err != nil || r.StatusCode != http.StatusOK || at.Scheme != "http" {
		return nil
	}
	if ip, err := netip.ParseAddr(at.Hostname()); err != nil || ip.Unmap() != router {
		return nil
	}
	return at
}

// wanService is the service of a router that maps ports.
func wanService(root *goupnp.RootDevice, at *url.URL) (wanConnection, error) {
	var errs []error
	ip, err := internetgateway2.NewWANIPConnection1ClientsFromRootDevice(root, at)
	if len(ip) > 0 {
		return ip[0], nil
	}
	errs = append(errs, err)
	ip2, err := internetgateway2.NewWANIPConnection2ClientsFromRootDevice(root, at)
	if len(ip2) > 0 {
		return ip2[0], nil
	}
	errs = append(errs, err)
	ppp, err := internetgateway2.NewWANPPPConnection1ClientsFromRootDevice(root, at)
	if len(ppp) > 0 {
		return ppp[0], nil
	}
	return nil, fmt.Errorf("the router maps no ports: %w", errors.Join(append(errs, err)...))
}
