package punch

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"dibber/netkit/addr"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

// mostIPs is at how many IP addresses a peer is dialled that no relay has seen at any of
// them: DCUtR takes a caller's word for where it is.
const mostIPs = 4

// errSpent means that no address of the peer may be sent anything within the minute.
var errSpent = errors.New("the packets to the peer's addresses are used up for this minute")

// few keeps the first addresses, as many as are at no more than mostIPs.
func few(addrs []ma.Multiaddr) (kept []ma.Multiaddr, dropped []Dropped) {
	var ips []netip.Addr
	for _, a := range addrs {
		ip, _ := addr.IP(a)
		if !slices.Contains(ips, ip) {
			if len(ips) == mostIPs {
				dropped = append(dropped, Dropped{Addr: a.String(), Reason: DroppedTooMany})
				continue
			}
			ips = append(ips, ip)
		}
		kept = append(kept, a)
	}
	return kept, dropped
}

// spend counts a dial at each address that the peer of r named, leaves out those that
// have had as many as they may, and returns what it counted.
func (s *Service) spend(r *run) (spent []netip.Addr, err error) {
	var within []ma.Multiaddr
	var dropped []Dropped
	for _, a := range r.remote {
		ip, _ := addr.IP(a)
		if s.n.SpendDial(ip) == nil {
			within, spent = append(within, a), append(spent, ip)
		} else {
			dropped = append(dropped, Dropped{Addr: a.String(), Reason: DroppedSpent})
		}
	}
	r.remote = within
	r.leftOut(dropped)
	if len(within) == 0 {
		return nil, fmt.Errorf("%w: %d addresses", errSpent, len(dropped))
	}
	return spent, nil
}

// refund gives back what was counted for where the peer then proved to be, at the other
// end of c: nobody else was sent that.
func (s *Service) refund(spent []netip.Addr, c network.Conn) {
	at, ok := addr.IP(c.RemoteMultiaddr())
	for _, ip := range spent {
		if ok && ip == at {
			s.n.RefundDial(ip)
		}
	}
}
