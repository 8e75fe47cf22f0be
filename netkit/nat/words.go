// Package nat says what kind of network address translation stands between a node
// and the internet, from what others saw and sent. It is pure: evidence in, report
// out; it opens no socket and knows no clock.
//
// The words are those of RFC 4787: a mapping (section 4.1) or a filter (section 5)
// that is endpoint-independent, address-dependent or address and port-dependent.
// What is not known is nil, never a guess.
package nat

import (
	"errors"
	"fmt"
	"slices"
)

// Mapping says which remote endpoints share an outside port (RFC 4787 section 4.1).
type Mapping string

// The mappings.
const (
	EIM  Mapping = "EIM"  // all
	ADM  Mapping = "ADM"  // those of one address
	APDM Mapping = "APDM" // none
)

// Filtering says who may answer through a mapping (RFC 4787 section 5).
type Filtering string

// The filterings.
const (
	EIF  Filtering = "EIF"  // everybody
	ADF  Filtering = "ADF"  // the addresses that were written to
	APDF Filtering = "APDF" // the endpoints that were written to
)

// Pattern says how outside ports are chosen (RFC 4787 section 4.2).
type Pattern string

// The patterns.
const (
	Preserved  Pattern = "preserved"  // the inside port
	Sequential Pattern = "sequential" // one close to the last
	Random     Pattern = "random"
)

// Verdict is a node's situation in one word.
type Verdict string

// The verdicts, the best first.
const (
	Public         Verdict = "public"          // no translation, and everybody gets in
	Firewalled     Verdict = "firewalled"      // no translation, but not everybody gets in
	Easy           Verdict = "easy"            // EIM, and other ports of known addresses get in
	PortRestricted Verdict = "port-restricted" // EIM and APDF
	Hard           Verdict = "hard"            // ADM or APDM
	UDPBlocked     Verdict = "udp-blocked"     // only TCP gets out
	Offline        Verdict = "offline"         // nothing gets out
	Inconclusive   Verdict = "inconclusive"    // too little is known
)

// ErrWord means that a report has a word that this package does not know.
var ErrWord = errors.New("unknown word")

// Check fails with ErrWord unless v is one of the verdicts.
func (v Verdict) Check() error {
	return oneOf(&v, Public, Firewalled, Easy, PortRestricted, Hard, UDPBlocked, Offline, Inconclusive)
}

// Check fails with ErrWord if f, which somebody else may have written, has a mapping,
// filtering or pattern that is none.
func (f Families) Check() error {
	for _, p := range []Path{f.IP4.UDP, f.IP4.TCP, f.IP6.UDP, f.IP6.TCP} {
		err := errors.Join(
			oneOf(p.Mapping, EIM, ADM, APDM), oneOf(p.Filtering, EIF, ADF, APDF), oneOf(p.PortPattern, Preserved, Sequential, Random))
		if err != nil {
			return err
		}
	}
	return nil
}

func oneOf[T ~string](word *T, words ...T) error {
	if word == nil || slices.Contains(words, *word) {
		return nil
	}
	return fmt.Errorf("%w %q", ErrWord, *word)
}
