package pchain_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"dibber/netkit/pchain"

	"github.com/google/go-cmp/cmp"
)

// The keys of these vectors are of go-libp2p; the rest was written by hand from the source of the crates. What the crates
// themselves encode is in crates_test.go.
const (
	vectorAddress = "6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw"
	vectorPeer    = "12D3KooWRawPbxPtP1eZaJpumGnyWX2DcUyd3RQnydr3eAto4Az7"
)

func vectorKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)) }

func profile(t testing.TB, name string) pchain.Profile {
	t.Helper()
	p, ok := pchain.ProfileOf(name)
	if !ok {
		t.Fatalf("no profile %q", name)
	}
	return p
}

func address(t testing.TB, text string) pchain.Address {
	t.Helper()
	a, err := pchain.ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAddressIsTheKey(t *testing.T) {
	a := address(t, vectorAddress)
	if got := hex.EncodeToString(a[:]); got != "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c" {
		t.Errorf("key %s", got)
	}
	if !bytes.Equal(a[:], vectorKey().Public().(ed25519.PublicKey)) {
		t.Error("not the public key of the seed")
	}
	if a.Peer().String() != vectorPeer || a.String() != vectorAddress {
		t.Errorf("peer %s, text %s", a.Peer(), a)
	}
	if back, err := pchain.AddressOf(a.Peer()); err != nil || back != a {
		t.Errorf("back: %v, %v", back, err)
	}
}

func TestMessageIDsAndMailboxesOfVersions(t *testing.T) {
	for _, c := range []struct{ profile, id, mailbox string }{
		{pchain.V042, "mempool" + vectorPeer + "1", vectorAddress},
		{pchain.V04, "mempoolACQIARIg" + vectorAddress + "1", vectorAddress},
		{pchain.V05, "mempoolACQIARIg" + vectorAddress + "1", vectorAddress},
		{pchain.V06, vectorPeer + "1", "hotstuff_rs/" + vectorAddress},
	} {
		p, a := profile(t, c.profile), address(t, vectorAddress)
		if got := p.MessageID("mempool", a.Peer(), 1); got != c.id {
			t.Errorf("%s: id %s, want %s", c.profile, got, c.id)
		}
		if got := p.Mailbox(a); got != c.mailbox {
			t.Errorf("%s: mailbox %s, want %s", c.profile, got, c.mailbox)
		}
		if owner, ok := p.Owner(c.mailbox); !ok || owner != a {
			t.Errorf("%s: owner %v, %v", c.profile, owner, ok)
		}
		if owner, ok := p.Owner("mempool"); ok {
			t.Errorf("%s: mempool is the mailbox of %s", c.profile, owner)
		}
	}
}

func TestTopicsOfVersions(t *testing.T) {
	early := []string{"consensus", "mempool", "droppedTx"}
	for name, want := range map[string][]string{
		pchain.V042: early, pchain.V04: early, pchain.V05: early, pchain.V06: {"hotstuff_rs", "mempool"},
	} {
		if diff := cmp.Diff(want, profile(t, name).Topics()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func emptyTransaction(t testing.TB, v pchain.TxVersion) *pchain.Transaction {
	t.Helper()
	tx := &pchain.Transaction{Commands: []pchain.Command{}, GasLimit: 200000, MaxBaseFeePerGas: 8}
	if err := tx.Sign(vectorKey(), v); err != nil {
		t.Fatal(err)
	}
	return tx
}

func TestMessagesByHand(t *testing.T) {
	for _, c := range []struct {
		name string
		m    pchain.Message
		want []byte
	}{
		{
			"sync request",
			pchain.Message{Sync: &pchain.Sync{Request: &pchain.SyncRequest{StartHeight: 1, Limit: 5}}},
			unhex(t, "0100"+"0100000000000000"+"05000000"),
		},
		{
			"new view",
			pchain.Message{Progress: &pchain.Progress{NewView: &pchain.NewView{ChainID: 1, View: 2, HighestQC: pchain.Genesis()}}},
			append(unhex(t, "0003"+"0100000000000000"+"0200000000000000"), make([]byte, 53)...),
		},
	} {
		p := profile(t, pchain.V04)
		got, err := p.Encode(pchain.Payload{Message: &c.m})
		if err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s: %x, %v, want %x", c.name, got, err, c.want)
		}
		back, err := p.Decode(p.Consensus, c.want)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		again, err := p.Encode(back)
		if err != nil || !bytes.Equal(again, c.want) {
			t.Errorf("%s: again %x, %v", c.name, again, err)
		}
	}
}

func TestTransactionsByHand(t *testing.T) {
	v1 := emptyTransaction(t, pchain.TxV1)
	if got := hex.EncodeToString(v1.Hash[:]); got != "041980cad5a249015725b383fae6b31f2d890753f687850f2817a5976a61ea26" {
		t.Errorf("hash of V1 %s", got)
	}
	data, err := profile(t, pchain.V05).Encode(pchain.Payload{Transaction: v1, TxVersion: pchain.TxV1})
	if err != nil || len(data) != 164 {
		t.Errorf("V1 has %d bytes, %v, want 164", len(data), err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != "73ff549fadb5424aae66918b1322148b1428f2f0d428855b52161a268b3232b0" {
		t.Errorf("V1 is %x", data)
	}
	v2 := emptyTransaction(t, pchain.TxV2)
	if got := hex.EncodeToString(v2.Hash[:]); got != "76173fd17a7c0a43a7688d15aa83af0330a3e7de68101176328d6caa9d59ecec" {
		t.Errorf("hash of V2 %s", got)
	}
	for v, tx := range map[pchain.TxVersion]*pchain.Transaction{pchain.TxV1: v1, pchain.TxV2: v2} {
		if err := tx.Verify(v); err != nil {
			t.Errorf("V%d: %v", v, err)
		}
		if err := tx.Verify(3 - v); err == nil {
			t.Errorf("V%d verifies as V%d", v, 3-v)
		}
		data, err := profile(t, pchain.V06).Encode(pchain.Payload{Transaction: tx, TxVersion: v})
		if err != nil || len(data) != 165 || data[0] != byte(v-1) {
			t.Errorf("V%d in 0.6: %x, %v", v, data, err)
		}
		back, err := profile(t, pchain.V06).Decode("mempool", data)
		if diff := cmp.Diff(pchain.Payload{Kind: pchain.KindTransaction, Transaction: tx, TxVersion: v}, back); diff != "" || err != nil {
			t.Errorf("V%d: %s, %v", v, diff, err)
		}
	}
}
