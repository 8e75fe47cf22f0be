package rendezvous

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	ma "github.com/multiformats/go-multiaddr"

	"dibber/netkit/wire"
)

// goldenKey is the Ed25519 key of the seed 32 times 07.
func goldenKey(t testing.TB) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(bytes.NewReader(bytes.Repeat([]byte{7}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func goldenRegister(t testing.TB, flavour Flavour) message {
	t.Helper()
	addrs := []ma.Multiaddr{ma.StringCast("/ip4/203.0.113.7/tcp/4001")}
	envelope, err := SealRecord(goldenKey(t), 1700000000, addrs, flavour)
	if err != nil {
		t.Fatal(err)
	}
	return message{
		kind:     new(typeRegister),
		register: &registerMessage{ns: new("my-app"), record: envelope, ttl: new(uint64(7200))},
	}
}

func TestGoldenRegisterFrames(t *testing.T) {
	tests := []struct {
		flavour Flavour
		size    int
		sum     string
	}{
		{Standard, 189, "551142b64bfaf8372c7622219277abb3a7634407a57c316fb73e45ccc264bf2f"},
		{Legacy, 215, "dc243f03290561781323a524519e23b14ac8f8083c9de0a9666f559fd7873694"},
	}
	for _, test := range tests {
		t.Run(test.flavour.String(), func(t *testing.T) {
			frame := wire.AppendFrame(nil, goldenRegister(t, test.flavour).encode())
			sum := sha256.Sum256(frame)
			if len(frame) != test.size || hex.EncodeToString(sum[:]) != test.sum {
				t.Errorf("frame of %d bytes with sum %x, want %d and %s:\n%x", len(frame), sum, test.size, test.sum, frame)
			}
		})
	}
	standard := wire.AppendFrame(nil, goldenRegister(t, Standard).encode())
	if want, _ := hex.DecodeString("bb01080012b6010a066d792d61707012a8010a2408011220"); !bytes.HasPrefix(standard, want) {
		t.Errorf("frame begins %x, want %x", standard[:len(want)], want)
	}
}

// TestGoldenReplies pins that zero enums are written: 08 00 for the type of
// REGISTER, and the status OK in both responses.
func TestGoldenReplies(t *testing.T) {
	tests := []struct {
		name string
		m    message
		want string
	}{
		{"register response", message{
			kind:             new(typeRegisterResponse),
			registerResponse: &registerResponse{status: new(StatusOK), ttl: new(uint64(7200))},
		}, "0801" + "1a05" + "0800" + "18a038"},
		{"refusal", message{
			kind:             new(typeRegisterResponse),
			registerResponse: &registerResponse{status: new(StatusUnavailable), text: new("no")},
		}, "0801" + "1a07" + "089003" + "12026e6f"},
		{"empty discover response", message{
			kind:             new(typeDiscoverResponse),
			discoverResponse: &discoverResponse{status: new(StatusOK), cookie: []byte("12345678")},
		}, "0804" + "320c" + "12083132333435363738" + "1800"},
		{"unregister", message{
			kind:       new(typeUnregister),
			unregister: &unregisterMessage{ns: new("a")},
		}, "0802" + "2203" + "0a0161"},
		{"discover", message{
			kind:     new(typeDiscover),
			discover: &discoverMessage{ns: new("a"), limit: new(uint64(5)), cookie: []byte("c"), both: true},
		}, "0803" + "2a0b" + "0a0161" + "1005" + "1a0163" + "c00c01"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := test.m.encode()
			if diff := cmp.Diff(test.want, hex.EncodeToString(got)); diff != "" {
				t.Error(diff)
			}
			back, err := decodeMessage(got)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.m, back, cmp.AllowUnexported(messageParts()...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func messageParts() []any {
	return []any{
		message{}, registerMessage{}, registerResponse{}, unregisterMessage{}, discoverMessage{}, discoverResponse{},
	}
}

// TestDecodeIgnoresUnknownFields adds fields of every wire type to a message.
func TestDecodeIgnoresUnknownFields(t *testing.T) {
	m := goldenRegister(t, Standard)
	unknown, _ := hex.DecodeString("f80601" + "f2060161" + "fd0601020304" + "f9060102030405060708")
	got, err := decodeMessage(append(m.encode(), unknown...))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, got, cmp.AllowUnexported(messageParts()...)); diff != "" {
		t.Error(diff)
	}
}

func TestRecordRoundTrip(t *testing.T) {
	key := goldenKey(t)
	addrs := []ma.Multiaddr{ma.StringCast("/ip4/203.0.113.7/udp/4001/quic-v1"), ma.StringCast("/ip6/2001:db8::1/tcp/1")}
	for _, flavour := range []Flavour{Standard, Legacy} {
		envelope, err := SealRecord(key, 42, addrs, flavour)
		if err != nil {
			t.Fatal(err)
		}
		got, err := OpenRecord(envelope)
		if err != nil {
			t.Fatalf("%s: %v", flavour, err)
		}
		if got.Seq != 42 || got.Flavour != flavour || len(got.Addrs) != 2 || !got.Addrs[1].Equal(addrs[1]) || !got.Peer.MatchesPrivateKey(key) {
			t.Errorf("%s: opened %+v", flavour, got)
		}
		for i := range envelope {
			broken := bytes.Clone(envelope)
			broken[i] ^= 1
			if rec, err := OpenRecord(broken); err == nil {
				t.Fatalf("%s: opened with byte %d changed: %+v", flavour, i, rec)
			}
		}
	}
}

// TestRecordAboutAnotherPeer signs, with the right domain, what only the other
// peer may say.
func TestRecordAboutAnotherPeer(t *testing.T) {
	other := peer.PeerRecord{PeerID: newHost(t).ID(), Seq: 1, Addrs: []ma.Multiaddr{addrA}}
	for _, rec := range []record.Record{&other, &legacyRecord{other}} {
		envelope, err := record.Seal(rec, goldenKey(t))
		if err != nil {
			t.Fatal(err)
		}
		data, err := envelope.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if opened, err := OpenRecord(data); !errors.Is(err, ErrRecordPeer) {
			t.Errorf("opened %+v, %v", opened, err)
		}
	}
}

// TestRecordFlavourIsSigned moves a payload from one flavour's envelope to the
// other's type, which the domain in the signature must not survive.
func TestRecordFlavourIsSigned(t *testing.T) {
	envelope, err := SealRecord(goldenKey(t), 1, []ma.Multiaddr{ma.StringCast("/ip4/203.0.113.7/tcp/1")}, Legacy)
	if err != nil {
		t.Fatal(err)
	}
	legacy := append([]byte{0x12, byte(len(legacyPayloadType))}, legacyPayloadType...)
	swapped := bytes.Replace(envelope, legacy, []byte{0x12, 2, 3, 1}, 1)
	if bytes.Equal(swapped, envelope) {
		t.Fatal("payload type not found")
	}
	if rec, err := OpenRecord(swapped); err == nil {
		t.Errorf("opened %+v", rec)
	}
}
