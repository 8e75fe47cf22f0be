package punch

import (
	"crypto/rand"
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"dibber/netkit/nat"
	"dibber/netkit/vantage"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

func newKey(t testing.TB) (crypto.PrivKey, peer.ID) {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, id
}

// wholeIntro has every field.
func wholeIntro(to peer.ID) intro {
	in := newIntro(to, []ma.Multiaddr{ma.StringCast("/ip4/17.0.0.1/udp/4001/quic-v1"), ma.StringCast("/ip6/3fff::1/tcp/4001")})
	in.run, in.replyTo = newNonce()[:runBytes], newNonce()
	in.paths = []path{
		{observed: netip.MustParseAddrPort("[3fff::1]:4001"), kind: nat.Kind{Mapping: nat.EIM, Filtering: nat.APDF}, assumed: true},
		{observed: netip.MustParseAddrPort("17.0.0.1:4001"), kind: nat.Kind{NAT: true, Mapping: nat.APDM, Filtering: nat.APDF, Pattern: nat.Sequential}, next: 5000},
	}
	in.attested = [][]byte{{1}, {2, 3}}
	in.held, in.rtt, in.paced = 12*time.Millisecond, 34*time.Millisecond, true
	return in
}

// TestIntroIsForOne: a message is what its sender signed, and counts for whom it is and
// as the answer to what was asked.
func TestIntroIsForOne(t *testing.T) {
	key, from := newKey(t)
	_, to := newKey(t)
	_, other := newKey(t)
	in := wholeIntro(to)
	signed, err := in.sign(key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := openIntroOf(from, signed, to, in.replyTo)
	if err != nil || !reflect.DeepEqual(got, in) {
		t.Fatalf("%v:\n%+v, want\n%+v", err, got, in)
	}
	for name, open := range map[string]func() (intro, error){
		"another sender": func() (intro, error) { return openIntroOf(other, signed, to, in.replyTo) },
		"for another":    func() (intro, error) { return openIntroOf(from, signed, other, in.replyTo) },
		"another offer":  func() (intro, error) { return openIntroOf(from, signed, to, newNonce()) },
		"no answer":      func() (intro, error) { return openIntroOf(from, signed, to, nil) },
		"changed": func() (intro, error) {
			changed := append([]byte{}, signed...)
			changed[len(changed)-1] ^= 1
			return openIntroOf(from, changed, to, in.replyTo)
		},
	} {
		if _, err := open(); !errors.Is(err, errProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAttested: an address counts if this end's own relay saw the peer there within the
// last minute, by the relay's clock.
func TestAttested(t *testing.T) {
	key, server := newKey(t)
	wrongKey, _ := newKey(t)
	_, p := newKey(t)
	_, other := newKey(t)
	now := time.UnixMilli(1e12)
	at := netip.MustParseAddrPort("17.0.0.1:4001")
	for name, c := range map[string]struct {
		key crypto.PrivKey
		a   vantage.Attestation
		ok  bool
	}{
		"fresh":           {key, vantage.Attestation{Peer: p, Observed: at, At: now}, true},
		"a minute old":    {key, vantage.Attestation{Peer: p, Observed: at, At: now.Add(-attestedFor)}, true},
		"older":           {key, vantage.Attestation{Peer: p, Observed: at, At: now.Add(-attestedFor - time.Millisecond)}, false},
		"of the future":   {key, vantage.Attestation{Peer: p, Observed: at, At: now.Add(slack + time.Millisecond)}, false},
		"another peer's":  {key, vantage.Attestation{Peer: other, Observed: at, At: now}, false},
		"another relay's": {wrongKey, vantage.Attestation{Peer: p, Observed: at, At: now}, false},
	} {
		signed, err := c.a.Sign(c.key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := attested([][]byte{signed}, p, server, now)
		if (err == nil) != c.ok || c.ok && got[0] != at.Addr() {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := attested(nil, p, server, now); !errors.Is(err, errAttestation) {
		t.Errorf("none: %v", err)
	}
	if _, err := attested([][]byte{{1, 2}}, p, server, now); !errors.Is(err, errAttestation) {
		t.Errorf("no attestation: %v", err)
	}
}

// FuzzIntro: whatever is signed, it is refused, or it is within the bounds and reads the
// same when written again.
func FuzzIntro(f *testing.F) {
	_, to := newKey(f)
	whole, err := (&introRecord{wholeIntro(to)}).MarshalRecord()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte{0x32, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, data []byte) {
		var r introRecord
		if r.UnmarshalRecord(data) != nil {
			return
		}
		if len(r.addrs) > maxAddrs || len(r.paths) > maxPaths || len(r.attested) > maxPaths || r.held > exchangeTimeout || r.rtt > maxRTT {
			t.Fatalf("beyond the bounds: %+v", r.intro)
		}
		written, err := r.MarshalRecord()
		if err != nil {
			t.Fatal(err)
		}
		var again introRecord
		if err := again.UnmarshalRecord(written); err != nil {
			t.Fatal(err)
		}
		r.dropped, again.dropped = nil, nil // they are not sent on
		if third, err := again.MarshalRecord(); err != nil || string(third) != string(written) {
			t.Fatalf("%v: %x became %x", err, written, third)
		}
	})
}

// FuzzView: a report of the other end is refused, or names a run.
func FuzzView(f *testing.F) {
	f.Add([]byte(`{"run":"0011223344556677","timeline":[{"side":"initiator"}]}`))
	f.Add([]byte(`{"plan":{"method":"spray"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if v, err := parseView(data); err == nil && len(v.Run) != 2*runBytes {
			t.Fatalf("run %q", v.Run)
		}
	})
}
