package mdns

import (
	"testing"

	"github.com/miekg/dns"
)

func FuzzParse(f *testing.F) {
	us := mustNames(f)
	query, _ := buildQuery(us)
	services, _ := buildServices(us)
	f.Add(query)
	f.Add(services)
	for _, packet := range buildAnswers(us, mustID(f, idA), mustAddrs(f, addr1, addr2), recordTTL) {
		f.Add(packet)
	}
	f.Add(mustPack(f, &dns.Msg{MsgHdr: dns.MsgHdr{Response: true}, Answer: rrs(f, svc+" 0 PTR abc.", "abc. 0 TXT "+txtA1)}))
	f.Fuzz(func(t *testing.T, packet []byte) {
		msg, err := parse(packet, us)
		if err != nil {
			return
		}
		if len(msg.found) > maxRecords {
			t.Fatalf("%d peers of one packet", len(msg.found))
		}
		for _, p := range msg.found {
			if p.info.ID == "" && p.ttl != 0 || len(p.info.Addrs) > maxAddrs {
				t.Fatalf("%+v", p)
			}
			for _, a := range p.info.Addrs {
				if !acceptable(a) {
					t.Fatalf("kept %s", a)
				}
			}
			for _, out := range buildAnswers(us, p.info.ID, p.info.Addrs, recordTTL) {
				if _, err := parse(out, us); err != nil {
					t.Fatalf("does not read its own packet: %v", err)
				}
			}
		}
	})
}
