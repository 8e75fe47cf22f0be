package route

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"dibber/netkit/addr"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/boxo/path"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Draft is a record that is not signed yet.
type Draft struct {
	// Key is a name, which stands for /dibber/AUTHOR/NAME, or a key as ParseKey reads it. Its author must be the signer.
	Key     string
	Value   []byte    // of /ipns a path, of /pk nothing
	Seq     uint64    // of several records the highest counts; /pk has none
	Expires time.Time // in whole seconds; /pk does not
}

// Sign makes the record, and returns its key and bytes. Errors wrap ErrKey or ErrRecord where the draft is at fault.
func (d Draft) Sign(key crypto.PrivKey) (at string, signed []byte, err error) {
	signer, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return "", nil, fmt.Errorf("signer of a record: %w", err)
	}
	if !strings.HasPrefix(d.Key, "/") {
		return Record{Name: d.Key, Seq: d.Seq, Expires: d.Expires, Value: d.Value}.Seal(key)
	}
	if at, err = ParseKey(d.Key); err != nil {
		return "", nil, err
	}
	ns, rest, _ := strings.Cut(at[1:], "/")
	author := peer.ID(rest)
	name := ""
	if ns == Namespace {
		if author, name, err = SplitRecordKey(at); err != nil {
			return "", nil, err
		}
	}
	if author != signer {
		return "", nil, fmt.Errorf("%w: only %s can sign for %.200s, and the key is that of %s", ErrKey, author, d.Key, signer)
	}
	switch ns {
	case "pk":
		signed, err = crypto.MarshalPublicKey(key.GetPublic())
	case "ipns":
		signed, err = d.ipns(key)
	default:
		return Record{Name: name, Seq: d.Seq, Expires: d.Expires, Value: d.Value}.Seal(key)
	}
	return at, signed, err
}

// ipns makes a record of IPNS (the IPNS specification of IPFS).
func (d Draft) ipns(key crypto.PrivKey) ([]byte, error) {
	to, err := path.NewPath(strings.TrimSpace(string(d.Value)))
	if err != nil {
		return nil, fmt.Errorf("%w: a record under /ipns holds a path such as /ipfs/CID: %w", ErrRecord, err)
	}
	r, err := ipns.NewRecord(key, to, d.Seq, d.Expires, ipnsTTL)
	if err != nil {
		return nil, fmt.Errorf("sign record: %w", err)
	}
	return ipns.MarshalRecord(r)
}

// ipnsTTL is how long resolvers may cache a record of IPNS; the value is kubo's.
const ipnsTTL = 5 * time.Minute

// Info is what a record says.
type Info struct {
	Kind    string // dibber, ipns or pk
	Author  peer.ID
	Seq     *uint64    // nil for pk
	Expires *time.Time // nil for pk
	Value   []byte     // of pk the key, as libp2p writes it
}

// Describe reads a record. That of /dibber is checked; others were by Service.Get. Errors wrap ErrKey or ErrRecord.
func Describe(key string, signed []byte) (Info, error) {
	ns, rest, _ := strings.Cut(strings.TrimPrefix(key, "/"), "/")
	switch ns {
	case Namespace:
		r, err := OpenRecord(key, signed)
		return Info{ns, r.Author, &r.Seq, &r.Expires, r.Value}, err
	case "pk":
		return Info{Kind: ns, Author: peer.ID(rest), Value: signed}, nil
	case "ipns":
		r, err := ipns.UnmarshalRecord(signed)
		if err != nil {
			return Info{}, fmt.Errorf("%w: %w", ErrRecord, err)
		}
		to, e1 := r.Value()
		seq, e2 := r.Sequence()
		until, e3 := r.Validity()
		if err := errors.Join(e1, e2, e3); err != nil {
			return Info{}, fmt.Errorf("%w: %w", ErrRecord, err)
		}
		return Info{ns, peer.ID(rest), &seq, &until, []byte(to.String())}, nil
	}
	return Info{}, fmt.Errorf("%w: %.200q", ErrKey, key)
}

// parseID reads the peer id of a key.
func parseID(text string) (peer.ID, error) {
	id, err := addr.ParseID(text)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrKey, err)
	}
	return id, nil
}
