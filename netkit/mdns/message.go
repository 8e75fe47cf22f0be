package mdns

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/miekg/dns"
	ma "github.com/multiformats/go-multiaddr"

	"dibber/netkit/addr"
)

const (
	// maxPacket is the largest packet looked at, in bytes (RFC 6762 section 17).
	maxPacket = 9000
	// maxRecords is the most records and questions of one packet that are looked at. A
	// peer with an address a record needs a tenth of it.
	maxRecords = 256
	// textBudget is how many bytes of addresses go into one packet. With the names and the other
	// records it then stays below the 1400 bytes that fit every link.
	textBudget = 900
	// maxText is the longest string that a TXT record can hold, in bytes (RFC 1035 section 3.3).
	maxText = 255
	// dnsaddrPrefix is in front of each address in a TXT record (libp2p mDNS specification).
	dnsaddrPrefix = "dnsaddr="
	// cacheFlush marks records that only one peer has (RFC 6762 section 10.2).
	cacheFlush = 1 << 15
	// metaService is what DNS-SD browsers ask to list the services of a link (RFC 6763 section 9).
	metaService = "_services._dns-sd._udp.local."
)

// errPacket says that a packet is not one that this package has to look at.
var errPacket = errors.New("not an mdns message")

// names are those that a peer answers for, all with the final dot.
type names struct {
	service  string // _p2p._udp.local.
	instance string // <random>._p2p._udp.local.
	host     string // <random>.local.
}

// message is what a packet says about the service.
type message struct {
	asks         bool    // it asks for us
	asksServices bool    // it asks what services there are
	found        []found // peers that it tells of
}

// found is what one packet tells of one peer.
type found struct {
	info     peer.AddrInfo
	instance string        // lower case
	ttl      time.Duration // 0: the peer takes its leave
}

// parse reads a packet. Whatever does not concern the service is left out.
func parse(packet []byte, us names) (message, error) {
	if len(packet) > maxPacket || len(packet) < 12 {
		return message{}, errPacket
	}
	// The counts of the header are checked before anything is made of them.
	records := 0
	for i := 4; i < 12; i += 2 {
		records += int(packet[i])<<8 | int(packet[i+1])
	}
	if records > maxRecords {
		return message{}, errPacket
	}
	var m dns.Msg
	if err := m.Unpack(packet); err != nil {
		return message{}, err
	}
	if m.Opcode != dns.OpcodeQuery || m.Rcode != dns.RcodeSuccess {
		return message{}, errPacket // RFC 6762 section 18: silently ignored
	}
	if m.Response {
		return message{found: parsePeers(&m, us.service)}, nil
	}
	return parseQuestions(&m, us), nil
}

func parseQuestions(m *dns.Msg, us names) message {
	var msg message
	for _, q := range m.Question {
		// The top bit of the class asks for a unicast answer, which is not required to be one.
		if class := q.Qclass &^ cacheFlush; class != dns.ClassINET && class != dns.ClassANY {
			continue
		}
		switch name := strings.ToLower(q.Name); {
		case name == us.service && isType(q, dns.TypePTR):
			msg.asks = msg.asks || !knowsUs(m, us)
		case name == us.instance && isType(q, dns.TypeSRV, dns.TypeTXT),
			name == us.host && isType(q, dns.TypeA, dns.TypeAAAA):
			msg.asks = true
		case name == metaService && isType(q, dns.TypePTR):
			msg.asksServices = true
		}
	}
	return msg
}

func isType(q dns.Question, types ...uint16) bool {
	if slices.Contains(types, q.Qtype) {
		return true
	}
	return q.Qtype == dns.TypeANY
}

// knowsUs reports whether the asker says it has our record, for at least half its life to come (RFC
// 6762 section 7.1).
func knowsUs(m *dns.Msg, us names) bool {
	for _, rr := range m.Answer {
		ptr, ok := rr.(*dns.PTR)
		if ok && strings.EqualFold(ptr.Hdr.Name, us.service) && strings.EqualFold(ptr.Ptr, us.instance) &&
			ptr.Hdr.Ttl >= uint32(recordTTL/time.Second)/2 {
			return true
		}
	}
	return false
}

// parsePeers joins the PTR and TXT records of a response. They may stand in any section: the
// libp2p specification and rust-libp2p put TXT into the additional one, js-libp2p and zeroconf's announcements
// into the answer. SRV and address records are not needed.
func parsePeers(m *dns.Msg, service string) []found {
	records := append(append([]dns.RR{}, m.Answer...), m.Extra...)
	ttls := make(map[string]uint32) // by instance
	var order []string
	for _, rr := range records {
		ptr, ok := rr.(*dns.PTR)
		if ok && strings.EqualFold(ptr.Hdr.Name, service) {
			order = addInstance(order, ttls, ptr.Ptr, ptr.Hdr.Ttl)
		}
	}
	texts := make(map[string][]string)
	for _, rr := range records {
		txt, ok := rr.(*dns.TXT)
		if !ok {
			continue
		}
		name := strings.ToLower(txt.Hdr.Name)
		if _, known := ttls[name]; !known {
			if !strings.HasSuffix(name, "."+service) {
				continue
			}
			order = addInstance(order, ttls, name, txt.Hdr.Ttl)
		}
		texts[name] = append(texts[name], txt.Txt...)
	}
	var all []found
	for _, name := range order {
		f := found{instance: name, ttl: time.Duration(ttls[name]) * time.Second}
		f.info = parseTexts(texts[name])
		if f.info.ID != "" || f.ttl == 0 {
			all = append(all, f)
		}
	}
	return all
}

func addInstance(order []string, ttls map[string]uint32, name string, ttl uint32) []string {
	name = strings.ToLower(name)
	if _, known := ttls[name]; !known {
		order = append(order, name)
	}
	ttls[name] = ttl
	return order
}

// parseTexts reads the addresses of one instance. The first names the peer; those of another, and those
// that make no sense on a link, are left out.
func parseTexts(texts []string) peer.AddrInfo {
	var info peer.AddrInfo
	for _, text := range texts {
		text, ok := strings.CutPrefix(text, dnsaddrPrefix)
		if !ok {
			continue
		}
		a, err := addr.ParseAddr(text)
		if err != nil {
			continue
		}
		one, err := addr.Split(a)
		if err != nil || info.ID != "" && one.ID != info.ID {
			continue
		}
		info.ID = one.ID
		if len(one.Addrs) == 1 && acceptable(one.Addrs[0]) && len(info.Addrs) < maxAddrs {
			info.Addrs = append(info.Addrs, one.Addrs[0])
		}
	}
	return info
}

// buildQuery returns the packet that asks all peers to answer.
func buildQuery(us names) ([]byte, error) {
	m := dns.Msg{Question: []dns.Question{{Name: us.service, Qtype: dns.TypePTR, Qclass: dns.ClassINET}}}
	return m.Pack()
}

// buildServices returns the answer to a question for metaService.
func buildServices(us names) ([]byte, error) {
	m := response()
	m.Answer = []dns.RR{&dns.PTR{Hdr: header(metaService, dns.TypePTR, dns.ClassINET, recordTTL), Ptr: us.service}}
	return m.Pack()
}

// buildAnswers returns the packets that tell of the peer id and its addresses; with a ttl of 0 they
// take them back. Addresses that cannot be written into a packet are left out.
func buildAnswers(us names, id peer.ID, addrs []ma.Multiaddr, ttl time.Duration) [][]byte {
	var packets [][]byte
	texts := textsOf(id, addrs)
	for len(texts) > 0 {
		n, size := 0, 0
		for n < len(texts) && (n == 0 || size+len(texts[n]) < textBudget) {
			size += len(texts[n]) + 1
			n++
		}
		if packet, err := buildAnswer(us, texts[:n], addrs, ttl); err == nil {
			packets = append(packets, packet)
		}
		texts = texts[n:]
	}
	return packets
}

// textsOf writes addresses as they stand in TXT records, without those that do not fit one.
func textsOf(id peer.ID, addrs []ma.Multiaddr) []string {
	var texts []string
	for _, a := range addrs {
		text := dnsaddrPrefix + addr.WithPeer(a, id).String()
		// A backslash would be read as the escape of a zone file.
		if len(text) <= maxText && !strings.Contains(text, `\`) {
			texts = append(texts, text)
		}
	}
	return texts
}

// buildAnswer writes one packet. There is one PTR and it is the only answer, because js-libp2p looks at the
// last; there is one TXT record and it is an additional one, because zeroconf looks at the last
// and rust-libp2p at additional ones only. SRV and addresses are there for zeroconf, which drops peers without.
func buildAnswer(us names, texts []string, addrs []ma.Multiaddr, ttl time.Duration) ([]byte, error) {
	m := response()
	m.Answer = []dns.RR{&dns.PTR{Hdr: header(us.service, dns.TypePTR, dns.ClassINET, ttl), Ptr: us.instance}}
	const unique = dns.ClassINET | cacheFlush
	m.Extra = []dns.RR{
		&dns.TXT{Hdr: header(us.instance, dns.TypeTXT, unique, ttl), Txt: texts},
		&dns.SRV{Hdr: header(us.instance, dns.TypeSRV, unique, ttl), Port: portOf(addrs), Target: us.host},
	}
	ip4, ip6 := firstIPs(addrs)
	if ip4.IsValid() {
		m.Extra = append(m.Extra, &dns.A{Hdr: header(us.host, dns.TypeA, unique, ttl), A: ip4.AsSlice()})
	}
	if ip6.IsValid() {
		m.Extra = append(m.Extra, &dns.AAAA{Hdr: header(us.host, dns.TypeAAAA, unique, ttl), AAAA: ip6.AsSlice()})
	}
	return m.Pack()
}

func response() *dns.Msg {
	return &dns.Msg{MsgHdr: dns.MsgHdr{Response: true, Authoritative: true}, Compress: true}
}

func header(name string, rrtype, class uint16, ttl time.Duration) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: class, Ttl: uint32(ttl / time.Second)}
}

// firstIPs returns the first address of each family.
func firstIPs(addrs []ma.Multiaddr) (ip4, ip6 netip.Addr) {
	for _, a := range addrs {
		ip, ok := addr.IP(a)
		switch {
		case ok && ip.Is4() && !ip4.IsValid():
			ip4 = ip
		case ok && ip.Is6() && !ip6.IsValid():
			ip6 = ip
		}
	}
	return ip4, ip6
}
