package pchain

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// Hash is a SHA-256 hash. Its text is base64, as for all bytes that dibber prints.
type Hash [32]byte

// Signature is one of Ed25519. Its text is base64.
type Signature [64]byte

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return base64.StdEncoding.AppendEncode(nil, h[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(text []byte) error { return decodeText(h[:], text) }

// MarshalText implements encoding.TextMarshaler.
func (s Signature) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, s[:]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Signature) UnmarshalText(text []byte) error { return decodeText(s[:], text) }

func decodeText(dst, text []byte) error {
	data, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil || len(data) != len(dst) {
		return fmt.Errorf("%w: %.100q is not %d bytes in base64", ErrMalformed, text, len(dst))
	}
	copy(dst, data)
	return nil
}

// Message is what validators say to each other: to make progress, or to catch up. Exactly one field is set, and in it again.
type Message struct {
	Progress *Progress `json:"progress,omitempty"`
	Sync     *Sync     `json:"sync,omitempty"`
}

// Progress is a step of consensus.
type Progress struct {
	Proposal *Proposal `json:"proposal,omitempty"`
	Nudge    *Nudge    `json:"nudge,omitempty"`
	Vote     *Vote     `json:"vote,omitempty"`
	NewView  *NewView  `json:"new_view,omitempty"`
}

// Sync asks for blocks or brings them.
type Sync struct {
	Request  *SyncRequest  `json:"request,omitempty"`
	Response *SyncResponse `json:"response,omitempty"`
}

func (Message) isEnum()  {}
func (Progress) isEnum() {}
func (Sync) isEnum()     {}
func (Phase) isEnum()    {}

// Proposal is a leader's block for a view.
type Proposal struct {
	ChainID uint64 `json:"chain_id"`
	View    uint64 `json:"view"`
	Block   Block  `json:"block"`
}

// Nudge is a leader's certificate for a view that has no block of its own.
type Nudge struct {
	ChainID uint64      `json:"chain_id"`
	View    uint64      `json:"view"`
	Justify Certificate `json:"justify"`
}

// Vote is a validator's for a block.
type Vote struct {
	ChainID   uint64    `json:"chain_id"`
	View      uint64    `json:"view"`
	Block     Hash      `json:"block_b64"`
	Phase     Phase     `json:"phase"`
	Signature Signature `json:"signature_b64"`
}

// NewView is a validator's wish for the next view.
type NewView struct {
	ChainID   uint64      `json:"chain_id"`
	View      uint64      `json:"view"`
	HighestQC Certificate `json:"highest_qc"`
}

// SyncRequest asks for blocks from a height on.
type SyncRequest struct {
	StartHeight uint64 `json:"start_height"`
	Limit       uint32 `json:"limit"` // blocks
}

// SyncResponse answers a SyncRequest.
type SyncResponse struct {
	Blocks    []Block     `json:"blocks"`
	HighestQC Certificate `json:"highest_qc"`
}

// Block is a block as consensus sees it.
type Block struct {
	Height   uint64      `json:"height"`
	Hash     Hash        `json:"hash_b64"`
	Justify  Certificate `json:"justify"`
	DataHash Hash        `json:"data_hash_b64"`
	Data     [][]byte    `json:"data_b64"`
}

// Certificate is the signatures of a quorum under a block (QuorumCertificate).
type Certificate struct {
	ChainID    uint64       `json:"chain_id"`
	View       uint64       `json:"view"`
	Block      Hash         `json:"block_b64"`
	Phase      Phase        `json:"phase"`
	Signatures []*Signature `json:"signatures_b64"` // in the order of the validators; null of those who did not sign
}

// Phase is that of consensus in which a block is voted on; exactly one field is set. The later ones name the view in which the
// first was.
type Phase struct {
	Generic   *struct{} `json:"generic,omitempty"`
	Prepare   *struct{} `json:"prepare,omitempty"`
	Precommit *uint64   `json:"precommit,omitempty"`
	Commit    *uint64   `json:"commit,omitempty"`
}

// Genesis is the certificate of the block before the first, which nobody signed.
func Genesis() Certificate { return Certificate{Phase: Phase{Generic: new(struct{})}} }

// ExpectedHash is what Hash of a correct block is.
func (b Block) ExpectedHash() (Hash, error) {
	data, err := marshal(nil, b.Height)
	if err == nil {
		data, err = marshal(data, b.Justify)
	}
	if err != nil {
		return Hash{}, err
	}
	return sha256.Sum256(append(data, b.DataHash[:]...)), nil
}

// SignedBy reports whether the vote bears the signature of a validator.
func (v Vote) SignedBy(a Address) bool {
	signed, err := marshal(nil, struct {
		ChainID, View uint64
		Block         Hash
		Phase         Phase
	}{v.ChainID, v.View, v.Block, v.Phase})
	return err == nil && ed25519.Verify(a[:], signed, v.Signature[:])
}
