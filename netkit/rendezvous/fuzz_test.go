package rendezvous

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	ma "github.com/multiformats/go-multiaddr"
)

// FuzzDecodeMessage decodes any bytes; what can be decoded survives being
// encoded and decoded again.
func FuzzDecodeMessage(f *testing.F) {
	f.Add(goldenRegister(f, Standard).encode())
	f.Add(goldenRegister(f, Legacy).encode())
	f.Add(discoverOf("ns", true).encode())
	f.Add(message{
		kind: new(typeDiscoverResponse),
		discoverResponse: &discoverResponse{
			registrations: []registerMessage{*goldenRegister(f, Standard).register, {}},
			cookie:        []byte("12345678"),
			status:        new(StatusOK),
		},
	}.encode())
	f.Add([]byte{0x08})
	f.Add([]byte{0x12, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeMessage(data)
		if err != nil {
			return
		}
		again, err := decodeMessage(m.encode())
		if err != nil {
			t.Fatalf("decoded %x, but not when encoded again: %v", data, err)
		}
		if diff := cmp.Diff(m, again, cmp.AllowUnexported(messageParts()...)); diff != "" {
			t.Fatal(diff)
		}
	})
}

// FuzzOpenRecord opens any bytes; what opens names its signer.
func FuzzOpenRecord(f *testing.F) {
	for _, flavour := range []Flavour{Standard, Legacy} {
		envelope, err := SealRecord(goldenKey(f), 7, []ma.Multiaddr{ma.StringCast("/ip4/203.0.113.7/tcp/1")}, flavour)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(envelope)
	}
	f.Add([]byte{0x12, 0x02, 0x03, 0x01})
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := OpenRecord(data)
		if err == nil && rec.Peer.Validate() != nil {
			t.Fatalf("opened %x without a peer", data)
		}
	})
}
