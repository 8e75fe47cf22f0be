package pchain_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"dibber/netkit/pchain"

	"github.com/google/go-cmp/cmp"
)

// crates are the messages of testdata/crates.txt by name.
func crates(t *testing.T) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/crates.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string][]byte)
	for line := range strings.Lines(string(text)) {
		if name, data, found := strings.Cut(strings.TrimSpace(line), " "); found && name != "#" {
			out[name] = unhex(t, data)
		}
	}
	return out
}

func filled[T ~[32]byte | ~[64]byte](b byte) (out T) {
	for i := range len(out) {
		out[i] = b
	}
	return out
}

// signed is the certificate, and block the block, of scripts/interop/pchain/peer.
func signed() pchain.Certificate {
	return pchain.Certificate{
		ChainID: 1, View: 7, Block: filled[pchain.Hash](5), Phase: pchain.Phase{Precommit: new(uint64(6))},
		Signatures: []*pchain.Signature{nil, new(filled[pchain.Signature](8)), nil},
	}
}

func block(t *testing.T) pchain.Block {
	t.Helper()
	b := pchain.Block{Height: 11, Justify: signed(), DataHash: filled[pchain.Hash](12), Data: [][]byte{{}, {1, 2, 3}}}
	var err error
	if b.Hash, err = b.ExpectedHash(); err != nil {
		t.Fatal(err)
	}
	return b
}

func vote(p pchain.Phase) pchain.Message {
	return pchain.Message{Progress: &pchain.Progress{Vote: &pchain.Vote{
		ChainID: 1, View: 2, Block: filled[pchain.Hash](3), Phase: p, Signature: filled[pchain.Signature](4),
	}}}
}

func everyCommand() []pchain.Command {
	one := filled[pchain.Address](1)
	return []pchain.Command{
		{Transfer: &pchain.Transfer{Recipient: one, Amount: 2}},
		{Deploy: &pchain.Deploy{Contract: []byte{3, 4, 5}, CBIVersion: 6}},
		{Call: &pchain.Call{Target: one, Method: "tränsfer", Arguments: &[][]byte{{7}, {}}, Amount: new(uint64(8))}},
		{Call: &pchain.Call{Target: one}},
		{CreatePool: &pchain.PoolSettings{CommissionRate: 9}},
		{SetPoolSettings: &pchain.PoolSettings{CommissionRate: 10}},
		{DeletePool: new(struct{})},
		{CreateDeposit: &pchain.CreateDeposit{Operator: one, Balance: 11, AutoStakeRewards: true}},
		{SetDepositSettings: &pchain.DepositSettings{Operator: one}},
		{TopUpDeposit: &pchain.TopUpDeposit{Operator: one, Amount: 12}},
		{WithdrawDeposit: &pchain.MostOfDeposit{Operator: one, MaxAmount: 13}},
		{StakeDeposit: &pchain.MostOfDeposit{Operator: one, MaxAmount: 14}},
		{UnstakeDeposit: &pchain.MostOfDeposit{Operator: one, MaxAmount: 15}},
		{NextEpoch: new(struct{})},
	}
}

func TestMessagesAreThoseOfTheCrates(t *testing.T) {
	want, p := crates(t), profile(t, pchain.V04)
	for name, m := range map[string]pchain.Message{
		"proposal":         {Progress: &pchain.Progress{Proposal: &pchain.Proposal{ChainID: 1, View: 2, Block: block(t)}}},
		"nudge":            {Progress: &pchain.Progress{Nudge: &pchain.Nudge{ChainID: 1, View: 2, Justify: signed()}}},
		"vote-generic":     vote(pchain.Phase{Generic: new(struct{})}),
		"vote-prepare":     vote(pchain.Phase{Prepare: new(struct{})}),
		"vote-precommit":   vote(pchain.Phase{Precommit: new(uint64(9))}),
		"vote-commit":      vote(pchain.Phase{Commit: new(uint64(10))}),
		"new-view-genesis": {Progress: &pchain.Progress{NewView: &pchain.NewView{ChainID: 1, View: 2, HighestQC: pchain.Genesis()}}},
		"sync-request":     {Sync: &pchain.Sync{Request: &pchain.SyncRequest{StartHeight: 1, Limit: 5}}},
		"sync-response":    {Sync: &pchain.Sync{Response: &pchain.SyncResponse{Blocks: []pchain.Block{block(t), block(t)}, HighestQC: signed()}}},
	} {
		got, err := p.Encode(pchain.Payload{Message: &m})
		if err != nil || !bytes.Equal(got, want[name]) {
			t.Errorf("%s: %x, %v, want %x", name, got, err, want[name])
		}
		back, err := p.Decode(p.Consensus, want[name])
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if again, err := p.Encode(back); err != nil || !bytes.Equal(again, want[name]) {
			t.Errorf("%s is read as %+v: %v", name, back, err)
		}
	}
	if hash := block(t).Hash; !bytes.Equal(hash[:], want["block-hash"]) {
		t.Errorf("hash of the block %x, want %x", hash, want["block-hash"])
	}
}

func TestTransactionsAreThoseOfTheCrates(t *testing.T) {
	want, p := crates(t), profile(t, pchain.V05)
	for name, commands := range map[string][]pchain.Command{"tx-empty": {}, "tx-every-command": everyCommand()} {
		tx := &pchain.Transaction{Commands: commands, GasLimit: 200000, MaxBaseFeePerGas: 8}
		if err := tx.Sign(vectorKey(), pchain.TxV1); err != nil {
			t.Fatal(err)
		}
		got, err := p.Encode(pchain.Payload{Transaction: tx, TxVersion: pchain.TxV1})
		if err != nil || !bytes.Equal(got, want[name]) {
			t.Errorf("%s: %x, %v, want %x", name, got, err, want[name])
		}
		back, err := p.Decode(p.Mempool, want[name])
		if diff := cmp.Diff(tx, back.Transaction); diff != "" || err != nil {
			t.Errorf("%s: %v: %s", name, err, diff)
		}
		if err := back.Transaction.Verify(pchain.TxV1); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
