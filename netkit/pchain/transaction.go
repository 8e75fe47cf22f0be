package pchain

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
)

// TxVersion says what a transaction's signature is over. Both versions are encoded alike.
type TxVersion int

// The versions.
const (
	TxV1 TxVersion = 1 // the whole transaction, with signature and hash zero
	TxV2 TxVersion = 2 // the version in one byte, and the fields before the signature
)

// Transaction is a list of commands that an account wants executed.
type Transaction struct {
	Signer            Address   `json:"signer"`
	Nonce             uint64    `json:"nonce"` // of the signer's transactions, from 0
	Commands          []Command `json:"commands"`
	GasLimit          uint64    `json:"gas_limit"`
	MaxBaseFeePerGas  uint64    `json:"max_base_fee_per_gas"` // in grays, as all amounts
	PriorityFeePerGas uint64    `json:"priority_fee_per_gas"`
	Signature         Signature `json:"signature_b64"`
	Hash              Hash      `json:"hash_b64"` // of the signature
}

// ErrTransaction means that a transaction is not what its signer has signed.
var ErrTransaction = errors.New("transaction not correct")

// Sign sets signer, signature and hash.
func (t *Transaction) Sign(key ed25519.PrivateKey, v TxVersion) error {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok || len(public) != len(t.Signer) {
		return fmt.Errorf("sign transaction: %w", ErrAddress)
	}
	t.Signer = Address(public)
	signed, err := t.signed(v)
	if err != nil {
		return fmt.Errorf("sign transaction: %w", err)
	}
	t.Signature = Signature(ed25519.Sign(key, signed))
	t.Hash = sha256.Sum256(t.Signature[:])
	return nil
}

// Verify returns nil if signature and hash are those of a version. Errors wrap ErrTransaction.
func (t Transaction) Verify(v TxVersion) error {
	signed, err := t.signed(v)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrTransaction, err)
	case !ed25519.Verify(t.Signer[:], signed, t.Signature[:]):
		return fmt.Errorf("%w: the signature is not the signer's", ErrTransaction)
	case t.Hash != sha256.Sum256(t.Signature[:]):
		return fmt.Errorf("%w: the hash is not that of the signature", ErrTransaction)
	}
	return nil
}

// signed is what the signature is over.
func (t Transaction) signed(v TxVersion) ([]byte, error) {
	t.Signature, t.Hash = Signature{}, Hash{}
	whole, err := marshal(nil, t)
	if err != nil {
		return nil, err
	}
	switch v {
	case TxV1:
		return whole, nil
	case TxV2:
		return append([]byte{byte(TxV2)}, whole[:len(whole)-len(t.Signature)-len(t.Hash)]...), nil
	}
	return nil, fmt.Errorf("%w: no version %d of transactions", ErrMalformed, v)
}

// versioned is a transaction that says its version.
type versioned struct{ V1, V2 *Transaction }

func (versioned) isEnum() {}

// Command is one step of a transaction. Exactly one field is set.
type Command struct {
	Transfer           *Transfer        `json:"transfer,omitempty"`
	Deploy             *Deploy          `json:"deploy,omitempty"`
	Call               *Call            `json:"call,omitempty"`
	CreatePool         *PoolSettings    `json:"create_pool,omitempty"`
	SetPoolSettings    *PoolSettings    `json:"set_pool_settings,omitempty"`
	DeletePool         *struct{}        `json:"delete_pool,omitempty"`
	CreateDeposit      *CreateDeposit   `json:"create_deposit,omitempty"`
	SetDepositSettings *DepositSettings `json:"set_deposit_settings,omitempty"`
	TopUpDeposit       *TopUpDeposit    `json:"top_up_deposit,omitempty"`
	WithdrawDeposit    *MostOfDeposit   `json:"withdraw_deposit,omitempty"`
	StakeDeposit       *MostOfDeposit   `json:"stake_deposit,omitempty"`
	UnstakeDeposit     *MostOfDeposit   `json:"unstake_deposit,omitempty"`
	NextEpoch          *struct{}        `json:"next_epoch,omitempty"`
}

func (Command) isEnum() {}

// Transfer gives an amount to another account.
type Transfer struct {
	Recipient Address `json:"recipient"`
	Amount    uint64  `json:"amount"`
}

// Deploy makes a contract.
type Deploy struct {
	Contract   []byte `json:"contract_b64"` // WebAssembly
	CBIVersion uint32 `json:"cbi_version"`
}

// Call calls a method of a contract.
type Call struct {
	Target    Address   `json:"target"`
	Method    string    `json:"method"`
	Arguments *[][]byte `json:"arguments_b64"`
	Amount    *uint64   `json:"amount"`
}

// PoolSettings are those of a stake pool.
type PoolSettings struct {
	CommissionRate uint8 `json:"commission_rate"` // per cent
}

// CreateDeposit deposits with a pool.
type CreateDeposit struct {
	Operator         Address `json:"operator"`
	Balance          uint64  `json:"balance"`
	AutoStakeRewards bool    `json:"auto_stake_rewards"`
}

// DepositSettings are those of a deposit.
type DepositSettings struct {
	Operator         Address `json:"operator"`
	AutoStakeRewards bool    `json:"auto_stake_rewards"`
}

// TopUpDeposit adds to a deposit.
type TopUpDeposit struct {
	Operator Address `json:"operator"`
	Amount   uint64  `json:"amount"`
}

// MostOfDeposit is how much is moved at most.
type MostOfDeposit struct {
	Operator  Address `json:"operator"`
	MaxAmount uint64  `json:"max_amount"`
}

// Dropped says why a transaction will not be in a block. Exactly one field is set.
type Dropped struct {
	Mempool  *DroppedFromMempool  `json:"mempool,omitempty"`
	Executor *DroppedFromExecutor `json:"executor,omitempty"`
}

func (Dropped) isEnum() {}

// DroppedFromMempool is a transaction that was dropped before it was tried.
type DroppedFromMempool struct {
	Transaction Transaction `json:"transaction"`
	Status      Status      `json:"status"`
}

// DroppedFromExecutor is a transaction that was dropped when it was tried.
type DroppedFromExecutor struct {
	TxHash Hash   `json:"tx_hash_b64"`
	Status Status `json:"status"`
}

// Status says why a transaction was dropped. The protocol's text has the digits of the numbers right and their base wrong.
type Status uint16

// The statuses.
const (
	StatusInvalid           Status = 0x0515
	StatusNonceTooLow       Status = 0x0516
	StatusNonceInaccessible Status = 0x0517
)

// check guards peers of 0.5, whose decoder ends their process at any other number.
func (s Status) check() error {
	if s < StatusInvalid || s > StatusNonceInaccessible {
		return fmt.Errorf("%w: %#04x", ErrStatus, uint16(s))
	}
	return nil
}

// String returns a word.
func (s Status) String() string {
	switch s {
	case StatusInvalid:
		return "invalid"
	case StatusNonceTooLow:
		return "nonce-too-low"
	case StatusNonceInaccessible:
		return "nonce-inaccessible"
	}
	return fmt.Sprintf("%#04x", uint16(s))
}

// MarshalText implements encoding.TextMarshaler.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Status) UnmarshalText(text []byte) error {
	for _, known := range []Status{StatusInvalid, StatusNonceTooLow, StatusNonceInaccessible} {
		if string(text) == known.String() {
			*s = known
			return nil
		}
	}
	return fmt.Errorf("%w: %.60q", ErrStatus, text)
}
