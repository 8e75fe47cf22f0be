// Package nat says what kind of network address translation stands between a node
// and the internet, from what others saw and sent. It is pure: evidence in, report
// out; it opens no socket and knows no clock.
//
// The words are those of RFC 4787: a mapping (section 4.1) or a filter (section 5)
// that is endpoint-independent, address-dependent or address and port-dependent.
// What is not known is nil, never a guess.
package nat

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
