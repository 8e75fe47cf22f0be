package vantage_test

import (
	"net/netip"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/vantage"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// TestAttestation: the server signs whom it sees where, which is behind a NAT the
// router's address, and nobody can change a bit of it.
func TestAttestation(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		n := lab.Internet().Machine("vantage", natlab.MachineConfig{}).Host(host.Config{})
		s, err := vantage.New(n, vantage.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		asker := lab.Internet().Router("home", natlab.RouterConfig{}).LAN().Machine("node", natlab.MachineConfig{}).Host(host.Config{})
		c, err := asker.Dial(t.Context(), n.ID(), n.ListenAddrs())
		if err != nil {
			t.Fatal(err)
		}
		st, err := asker.OpenStream(t.Context(), c, vantage.Protocol)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := vantage.AskAttestation(t.Context(), st)
		if err != nil {
			t.Fatal(err)
		}
		got, err := vantage.OpenAttestation(answer.Attestation)
		if err != nil {
			t.Fatal(err)
		}
		if age := time.Since(got.At); age < 0 || age > time.Second {
			t.Errorf("%s old", age)
		}
		want := vantage.Attestation{Server: n.ID(), Peer: asker.ID(), Observed: answer.Observed, At: got.At}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Error(diff)
		}
		for i := range answer.Attestation {
			changed := append([]byte(nil), answer.Attestation...)
			changed[i] ^= 1
			if other, err := vantage.OpenAttestation(changed); err == nil && other.Server == n.ID() && other != got {
				t.Errorf("byte %d changed: %+v", i, other)
			}
		}
	})
}

func FuzzOpenAttestation(f *testing.F) {
	key, _, err := crypto.GenerateKeyPair(crypto.Ed25519, -1)
	if err != nil {
		f.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		f.Fatal(err)
	}
	good, err := vantage.Attestation{Peer: id, Observed: netip.MustParseAddrPort("17.0.0.1:1"), At: time.Unix(1, 0)}.Sign(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, err := vantage.OpenAttestation(data); err == nil && (a.Server == "" || a.Peer == "" || !a.Observed.IsValid()) {
			t.Errorf("%x: %+v", data, a)
		}
	})
}
