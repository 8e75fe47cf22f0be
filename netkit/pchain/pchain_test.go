package pchain_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"dibber/netkit/pchain"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

func TestAddressesAreWrittenOneWay(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "short": vectorAddress[1:], "long": vectorAddress + "A", "padded": vectorAddress + "=",
		"standard alphabet": "6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw", "unused bits set": vectorAddress[:42] + "x",
		"line end within": vectorAddress[:20] + "\n" + vectorAddress[20:],
		"a peer id":       vectorPeer,
	} {
		if a, err := pchain.ParseAddress(text); !errors.Is(err, pchain.ErrAddress) {
			t.Errorf("%s: %v, %v", name, a, err)
		}
	}
}

func TestOnlyEd25519HasAddresses(t *testing.T) {
	for name, kind := range map[string]int{"secp256k1": crypto.Secp256k1, "rsa": crypto.RSA} {
		_, key, err := crypto.GenerateKeyPairWithReader(kind, 2048, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		id, err := peer.IDFromPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if a, err := pchain.AddressOf(id); !errors.Is(err, pchain.ErrAddress) {
			t.Errorf("%s: %v, %v", name, a, err)
		}
		if _, err := profile(t, pchain.V05).Open("mempool", id, nil); !errors.Is(err, pchain.ErrAddress) {
			t.Errorf("%s: envelope: %v", name, err)
		}
	}
	if a, err := pchain.AddressOf("nobody"); !errors.Is(err, pchain.ErrAddress) {
		t.Errorf("no id: %v, %v", a, err)
	}
}

func TestBootNodes(t *testing.T) {
	for host, want := range map[string]string{
		"10.0.0.1": "/ip4/10.0.0.1/tcp/25519", "[2001:db8::1]": "/ip6/2001:db8::1/tcp/25519",
		"boot.example.org": "/dns/boot.example.org/tcp/25519",
	} {
		text := vectorAddress + "@" + host + ":25519"
		b, err := pchain.ParseBoot(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		info, err := b.AddrInfo()
		if err != nil || info.ID.String() != vectorPeer || len(info.Addrs) != 1 || info.Addrs[0].String() != want {
			t.Errorf("%s: %v, %v", text, info, err)
		}
		if b.String() != text {
			t.Errorf("%s writes itself as %s", text, b)
		}
	}
	for name, text := range map[string]string{
		"no address": "127.0.0.1:1", "bad address": "abc@127.0.0.1:1", "no port": vectorAddress + "@127.0.0.1",
		"port 0": vectorAddress + "@127.0.0.1:0", "port too high": vectorAddress + "@127.0.0.1:65536", "a sign": vectorAddress + "@h:+1",
		"no host": vectorAddress + "@:1", "a zone": vectorAddress + "@[fe80::1%eth0]:1", "a path": vectorAddress + "@a/tcp/1/ip4/b:1",
		"a blank": vectorAddress + "@a b:1",
	} {
		if b, err := pchain.ParseBoot(text); !errors.Is(err, pchain.ErrBoot) {
			t.Errorf("%s: %+v, %v", name, b, err)
		}
	}
	if _, err := pchain.ParseBoot("abc@127.0.0.1:1"); !errors.Is(err, pchain.ErrAddress) {
		t.Errorf("a bad address is not told as one: %v", err)
	}
}

// transaction encodes one with some number of commands in its head, and then those bytes.
func transaction(count uint32, commands ...byte) []byte {
	head := binary.LittleEndian.AppendUint32(make([]byte, 32+8), count)
	return slices.Concat(head, commands, make([]byte, 3*8+64+32))
}

func TestMalformedMessagesAreRefused(t *testing.T) {
	call := func(method ...byte) []byte {
		return transaction(1, slices.Concat([]byte{2}, make([]byte, 32), []byte{byte(len(method)), 0, 0, 0}, method, []byte{0, 0})...)
	}
	if _, err := profile(t, pchain.V04).Decode("mempool", call('o', 'k')); err != nil {
		t.Fatal(err)
	}
	dropped := func(status uint16) []byte {
		return binary.LittleEndian.AppendUint16(append([]byte{1}, make([]byte, 32)...), status)
	}
	for _, c := range []struct {
		name, topic string
		data        []byte
		want        error
	}{
		{"nothing", "consensus", nil, pchain.ErrMalformed},
		{"variant that is none", "consensus", []byte{2}, pchain.ErrMalformed},
		{"command that is none", "mempool", transaction(1, 13), pchain.ErrMalformed},
		{"more commands than bytes", "mempool", transaction(200), pchain.ErrMalformed},
		{"most commands there are numbers for", "mempool", transaction(1<<32 - 1), pchain.ErrMalformed},
		{"too many commands", "mempool", transaction(pchain.MaxItems+1, bytes.Repeat([]byte{12}, pchain.MaxItems+1)...), pchain.ErrMalformed},
		{"text that is not UTF-8", "mempool", call(0xff), pchain.ErrMalformed},
		{"option that is neither", "mempool", transaction(1, slices.Concat([]byte{2}, make([]byte, 36), []byte{2, 0})...), pchain.ErrMalformed},
		{"truth that is neither", "mempool", transaction(1, slices.Concat([]byte{7}, make([]byte, 32), []byte{2})...), pchain.ErrMalformed},
		{"too long", "mempool", make([]byte, pchain.MaxMessage+1), pchain.ErrTooLong},
		{"too long for an opaque one", "else", make([]byte, pchain.MaxMessage+1), pchain.ErrTooLong},
		{"status below", "droppedTx", dropped(0x0514), pchain.ErrStatus},
		{"status above", "droppedTx", dropped(0x0518), pchain.ErrStatus},
		{"status as the protocol's text has it", "droppedTx", dropped(515), pchain.ErrStatus},
	} {
		m, err := profile(t, pchain.V04).Decode(c.topic, c.data)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, %v", c.name, m, err)
		}
	}
	if m, err := profile(t, pchain.V04).Decode("droppedTx", dropped(0x0515)); err != nil || m.Kind != pchain.KindExecDropped {
		t.Errorf("status that exists: %+v, %v", m, err)
	}
}

// What would crash a peer of 0.5 does not leave.
func TestUnknownStatusIsNotWritten(t *testing.T) {
	m := pchain.Dropped{Executor: &pchain.DroppedFromExecutor{Status: 515}}
	if data, err := profile(t, pchain.V05).Encode(pchain.Payload{Dropped: &m}); !errors.Is(err, pchain.ErrStatus) {
		t.Errorf("%x, %v", data, err)
	}
}

func TestOnlyWhatCanBeReadIsWritten(t *testing.T) {
	one := uint64(1)
	for name, phase := range map[string]pchain.Phase{"no phase": {}, "two phases": {Precommit: &one, Commit: &one}} {
		m := pchain.Message{Progress: &pchain.Progress{Vote: &pchain.Vote{Phase: phase}}}
		if data, err := profile(t, pchain.V05).Encode(pchain.Payload{Message: &m}); !errors.Is(err, pchain.ErrMalformed) {
			t.Errorf("%s: %x, %v", name, data, err)
		}
	}
	long := &pchain.Transaction{Commands: []pchain.Command{{Deploy: &pchain.Deploy{Contract: make([]byte, pchain.MaxMessage)}}}}
	if _, err := profile(t, pchain.V05).Encode(pchain.Payload{Transaction: long, TxVersion: pchain.TxV1}); !errors.Is(err, pchain.ErrTooLong) {
		t.Errorf("too long: %v", err)
	}
	many := &pchain.Transaction{Commands: slices.Repeat([]pchain.Command{{NextEpoch: new(struct{})}}, pchain.MaxItems+1)}
	if _, err := profile(t, pchain.V05).Encode(pchain.Payload{Transaction: many, TxVersion: pchain.TxV1}); !errors.Is(err, pchain.ErrMalformed) {
		t.Errorf("too many: %v", err)
	}
}

func TestVersionsLackMessages(t *testing.T) {
	dropped := pchain.Payload{Dropped: &pchain.Dropped{Executor: &pchain.DroppedFromExecutor{Status: pchain.StatusInvalid}}}
	for name, c := range map[string]struct {
		profile string
		m       pchain.Payload
	}{
		"no droppedTx in 0.6": {pchain.V06, dropped}, "no V2 in 0.5": {pchain.V05, pchain.Payload{Transaction: emptyTransaction(t, 2), TxVersion: 2}},
		"nothing": {pchain.V05, pchain.Payload{}},
	} {
		if data, err := profile(t, c.profile).Encode(c.m); !errors.Is(err, pchain.ErrTopic) {
			t.Errorf("%s: %x, %v", name, data, err)
		}
	}
	for name, c := range map[string]struct{ profile, topic string }{
		"others' topics in 0.5": {pchain.V05, "else"}, "droppedTx in 0.6": {pchain.V06, "droppedTx"}, "consensus in 0.6": {pchain.V06, "consensus"},
		"an early mailbox in 0.6": {pchain.V06, vectorAddress}, "a late mailbox in 0.5": {pchain.V05, "hotstuff_rs/" + vectorAddress},
		"no topic in 0.6": {pchain.V06, ""},
	} {
		if m, err := profile(t, c.profile).Decode(c.topic, []byte{0}); !errors.Is(err, pchain.ErrTopic) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	for _, topic := range []string{"else", vectorAddress} {
		if m, err := profile(t, pchain.V04).Decode(topic, []byte{255}); err != nil || m.Kind != pchain.KindOpaque {
			t.Errorf("%s in 0.4: %+v, %v", topic, m, err)
		}
	}
	if m, err := profile(t, pchain.V05).Decode(vectorAddress, []byte{255}); !errors.Is(err, pchain.ErrMalformed) {
		t.Errorf("anything in a mailbox of 0.5: %+v, %v", m, err)
	}
}

func TestEnvelopesSayFromAndTo(t *testing.T) {
	p, a := profile(t, pchain.V06), address(t, vectorAddress)
	m := pchain.Message{Sync: &pchain.Sync{Request: &pchain.SyncRequest{StartHeight: 1, Limit: 5}}}
	data, err := p.Encode(pchain.Payload{Message: &m})
	if err != nil {
		t.Fatal(err)
	}
	for topic, to := range map[string]*pchain.Address{p.Consensus: nil, p.Mailbox(a): &a} {
		want := pchain.Envelope{
			Origin: a, Topic: topic, To: to, Data: data, Payload: pchain.Payload{Kind: pchain.KindSyncRequest, Message: &m},
		}
		got, err := p.Open(topic, a.Peer(), data)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v: %s", topic, err, diff)
		}
	}
	if e, err := p.Open(p.Consensus, a.Peer(), data[1:]); !errors.Is(err, pchain.ErrMalformed) {
		t.Errorf("cut: %+v, %v", e, err)
	}
}

func TestTransactionsAreWhatWasSigned(t *testing.T) {
	for name, change := range map[string]func(*pchain.Transaction){
		"nonce": func(tx *pchain.Transaction) { tx.Nonce++ }, "signer": func(tx *pchain.Transaction) { tx.Signer[0]++ },
		"hash": func(tx *pchain.Transaction) { tx.Hash[31]++ }, "signature": func(tx *pchain.Transaction) { tx.Signature[5]++ },
		"command that none is": func(tx *pchain.Transaction) { tx.Commands = make([]pchain.Command, 1) },
	} {
		for _, v := range []pchain.TxVersion{pchain.TxV1, pchain.TxV2} {
			tx := emptyTransaction(t, v)
			change(tx)
			if err := tx.Verify(v); !errors.Is(err, pchain.ErrTransaction) {
				t.Errorf("V%d with another %s: %v", v, name, err)
			}
		}
	}
	if err := emptyTransaction(t, pchain.TxV1).Verify(3); !errors.Is(err, pchain.ErrTransaction) {
		t.Errorf("version 3: %v", err)
	}
}

func TestHalfOfPeersAreClose(t *testing.T) {
	var ids []peer.ID
	for i := range 64 {
		ids = append(ids, pchain.Address{byte(i)}.Peer())
	}
	close := 0
	for _, a := range ids {
		for _, b := range ids {
			if pchain.Close(a, b) != pchain.Close(b, a) {
				t.Errorf("%s and %s are close one way", a, b)
			}
			if pchain.Close(a, b) {
				close++
			}
		}
		if !pchain.Close(a, a) {
			t.Errorf("%s is not close to itself", a)
		}
	}
	if close < 64*64*2/5 || close > 64*64*3/5 {
		t.Errorf("%d of %d are close", close, 64*64)
	}
}
