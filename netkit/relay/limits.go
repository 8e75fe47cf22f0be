package relay

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
)

// NoLimit in a field of [Limits] lifts that limit; any negative value does.
const NoLimit = -1

// Limits bound what a relay gives away. Zero fields take their default, negative
// ones lift the limit.
type Limits struct {
	// Reservations is the most peers reachable through the relay at once; 0 means
	// 1,024.
	Reservations int `json:"reservations"`
	// ReservationsPerIP is the most reservations from one IPv4 address; 0 means
	// 256, because a carrier's NAT puts many peers behind one address.
	ReservationsPerIP int `json:"reservations_per_ip"`
	// ReservationsPerPrefix is the most reservations from one IPv6 prefix; 0 means
	// 256.
	ReservationsPerPrefix int `json:"reservations_per_prefix"`
	// PrefixLength is the length in bits of the IPv6 prefixes that are counted, 1
	// to 128; 0 means 56, which is what a provider gives one customer (RFC 6177).
	PrefixLength int `json:"prefix_length"`
	// ReservationsPerASN is the most reservations from one autonomous system, as
	// far as its IPv6 addresses tell it; 0 means half of Reservations.
	ReservationsPerASN int `json:"reservations_per_asn"`
	// Circuits is the most circuits open at once; 0 means 1,024.
	Circuits int `json:"circuits"`
	// CircuitsPerPeer is the most circuits open to and from one peer; 0 means 64.
	CircuitsPerPeer int `json:"circuits_per_peer"`
	// Duration is how long a circuit may last; 0 means 2 min. Peers are told whole
	// seconds, rounded up.
	Duration time.Duration `json:"-"`
	// Bytes is how much a circuit may carry each way; 0 means 128 KiB.
	Bytes int64 `json:"bytes"`
	// Rate is how many bytes a second a circuit may carry each way; 0 means no
	// limit.
	Rate int64 `json:"rate"`
}

// Defaults of Limits. Duration and bytes are those of the reference
// implementation in go-libp2p.
const (
	defaultReservations    = 1024
	defaultPerPlace        = 256
	defaultPrefixLength    = 56
	defaultCircuits        = 1024
	defaultCircuitsPerPeer = 64
	defaultDuration        = 2 * time.Minute
	defaultBytes           = 128 << 10
)

// WithDefaults returns l with every zero field filled and every lifted limit as
// [NoLimit]. It fails when PrefixLength is no length of an IPv6 prefix.
func (l Limits) WithDefaults() (Limits, error) {
	limit(&l.Reservations, defaultReservations)
	limit(&l.ReservationsPerIP, defaultPerPlace)
	limit(&l.ReservationsPerPrefix, defaultPerPlace)
	perASN := NoLimit
	if l.Reservations > 0 {
		perASN = max(l.Reservations/2, 1)
	}
	limit(&l.ReservationsPerASN, perASN)
	limit(&l.Circuits, defaultCircuits)
	limit(&l.CircuitsPerPeer, defaultCircuitsPerPeer)
	limit(&l.Duration, defaultDuration)
	limit(&l.Bytes, defaultBytes)
	limit(&l.Rate, NoLimit)
	if l.PrefixLength == 0 {
		l.PrefixLength = defaultPrefixLength
	}
	if l.PrefixLength < 1 || l.PrefixLength > 128 {
		return l, fmt.Errorf("relay limits: an IPv6 prefix has 1 to 128 bits, not %d", l.PrefixLength)
	}
	return l, nil
}

// limit fills in what a field means.
func limit[T int | int64 | time.Duration](field *T, whenZero T) {
	switch {
	case *field == 0:
		*field = whenZero
	case *field < 0:
		*field = NoLimit
	}
}

// reached reports whether n is all that a limit allows.
func reached(n, limit int) bool { return limit >= 0 && n >= limit }

// message tells peers what limits a circuit has (section "Reservation" of the
// specification); nil means none, and makes the connection an unlimited one.
func (l Limits) message() *pb.Limit {
	if l.Duration < 0 && l.Bytes < 0 {
		return nil
	}
	msg := new(pb.Limit)
	if l.Duration >= 0 {
		seconds := min((l.Duration+time.Second-1)/time.Second, math.MaxUint32)
		msg.Duration = new(uint32(seconds))
	}
	if l.Bytes >= 0 {
		msg.Data = new(uint64(l.Bytes))
	}
	return msg
}

// place is what reservations are counted under besides their total: an IPv4
// address, an IPv6 prefix or an autonomous system.
type place struct {
	net netip.Prefix // not valid for an autonomous system
	asn uint32
}

// places returns those of an address. asnOf returns 0 for an address whose
// system is not known.
func (l Limits) places(ip netip.Addr, asnOf func(netip.Addr) uint32) []place {
	if !ip.IsValid() || ip.Is4() {
		// Whatever has no IP address counts as one place.
		return []place{{net: netip.PrefixFrom(ip, ip.BitLen())}}
	}
	net, err := ip.Prefix(l.PrefixLength)
	if err != nil {
		net = netip.PrefixFrom(ip, ip.BitLen()) // a zone; not met in addresses of connections
	}
	out := []place{{net: net}}
	if asn := asnOf(ip); asn != 0 {
		out = append(out, place{asn: asn})
	}
	return out
}

// of returns how many reservations a place may have, and why it may not have
// more.
func (l Limits) of(p place) (int, Reason) {
	switch {
	case p.asn != 0:
		return l.ReservationsPerASN, ReasonASN
	case p.net.Addr().Is6():
		return l.ReservationsPerPrefix, ReasonPrefix
	default:
		return l.ReservationsPerIP, ReasonIP
	}
}
