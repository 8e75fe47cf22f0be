package rendezvous

import (
	"bytes"
	cryptorand "crypto/rand"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// TestPackKeepsEveryByte packs real records of several keys and both flavours.
func TestPackKeepsEveryByte(t *testing.T) {
	addrs := []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.1/udp/4001/quic-v1")}
	for kind, size := range map[int]int{crypto.Ed25519: 160, crypto.Secp256k1: 0, crypto.ECDSA: 0} {
		key, _, err := crypto.GenerateKeyPairWithReader(kind, 256, cryptorand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		id, err := peer.IDFromPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		var records [2][]byte
		for f := range records {
			if records[f], err = SealRecord(key, 1700000000, addrs, Flavour(f)); err != nil {
				t.Fatal(err)
			}
		}
		for _, in := range [][2][]byte{records, {records[0], nil}, {nil, records[1]}, {records[0], []byte("noise")}, {{}, nil}} {
			p := pack(id, in)
			for f := range in {
				flavour := Flavour(f)
				if got := p.envelope(id, flavour); !bytes.Equal(got, in[f]) || (got == nil) != (in[f] == nil) {
					t.Fatalf("key type %d: %s envelope %x, want %x", kind, flavour, got, in[f])
				}
				if in[f] != nil && (!p.part(flavour).is(in[f], id, flavour) || p.part(flavour).is(append(in[f], 0), id, flavour)) {
					t.Errorf("key type %d: %s envelope is not told from another", kind, flavour)
				}
			}
			if !p.valid(id) {
				t.Errorf("key type %d: %x is not valid", kind, p)
			}
		}
		p := pack(id, records)
		if size > 0 && len(p) > size+40 {
			t.Errorf("%d bytes for %d and %d", len(p), len(records[0]), len(records[1]))
		}
		if got := p.recordSeq(id, Standard); got != 1700000000 || p.recordSeq(id, Legacy) != got {
			t.Errorf("key type %d: seq %d", kind, got)
		}
	}
}

// FuzzPacked unpacks what a disk may hold: valid is never wrong.
func FuzzPacked(f *testing.F) {
	key := goldenKey(f)
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(pack(id, [2][]byte{goldenRegister(f, Standard).register.record, goldenRegister(f, Legacy).register.record})), true)
	f.Add(string(pack(id, [2][]byte{nil, []byte("noise")})), false)
	f.Fuzz(func(t *testing.T, data string, own bool) {
		if !own {
			id = "another"
		}
		p := packed(data)
		if !p.valid(id) {
			return
		}
		records := [2][]byte{p.envelope(id, Standard), p.envelope(id, Legacy)}
		again := pack(id, records)
		for f := range records {
			if !bytes.Equal(again.envelope(id, Flavour(f)), records[f]) {
				t.Fatalf("%x is not what is packed", data)
			}
		}
	})
}

// FuzzSplit packs any bytes as an envelope and gets them back.
func FuzzSplit(f *testing.F) {
	id, err := peer.IDFromPrivateKey(goldenKey(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(goldenRegister(f, Standard).register.record)
	f.Add(goldenRegister(f, Legacy).register.record)
	f.Fuzz(func(t *testing.T, envelope []byte) {
		for _, flavour := range []Flavour{Standard, Legacy} {
			var in [2][]byte
			in[flavour] = append([]byte{}, envelope...)
			p := pack(id, in)
			if !bytes.Equal(p.envelope(id, flavour), envelope) || !p.part(flavour).is(envelope, id, flavour) || !p.valid(id) {
				t.Fatalf("%x came out as %x", envelope, p.envelope(id, flavour))
			}
		}
	})
}
