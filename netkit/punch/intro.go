package punch

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"dibber/netkit/nat"
	"dibber/netkit/relay"
	"dibber/netkit/vantage"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/encoding/protowire"
)

// How two hosts of ours tell each other, before they dial, what is known of their NATs,
// so that both can tell what will get through: an offer and an answer. A dibber relay
// carries them (relay.IntroProtocol), or a relayed connection does (relay.OfferProtocol,
// and there an empty frame follows at which both begin). Nobody has to trust who carries
// them: each is signed, and names whom it is for.
//
//	Intro { run = 1, nonce = 2, reply_to = 3, to = 4, addrs = 5, paths = 6, attestations = 7, held_ms = 8, rtt_ms = 9, paced = 10 }
//	Path  { observed = 1, nat = 2, mapping = 3, filtering = 4, pattern = 5, next = 6, assumed = 7 }
//
// in protobuf, in the signed envelope of libp2p (RFC 0002 of libp2p/specs).
//
// What a relay could still cause that is in league with a peer, or makes up peers of its
// own: it attests that a peer is at the address of a third party, and a host that answers
// that peer's offer then sends there what its own limits allow, whoever asks: within a
// minute at most host.ProbesPerMinute probes of 20 bytes to one address (41 KiB, or 94 KiB
// with the headers of UDP and IP), at most host.ProbesPerSecond to all addresses, and one
// run for each peer. A dial, whose first packets nobody answers, counts as
// host.ProbesOfDial of them, so that there are at most 32. Only the host's own relay can
// bring that about, since a host believes no other. DCUtR has no attestations: whoever
// calls may name addresses, at mostIPs IP addresses each time, and all callers together
// have the dials of the same budget.

const (
	// maxIntro bounds a message in bytes.
	maxIntro = relay.MaxIntro
	// maxRTT bounds what is believed of a round trip to a relay.
	maxRTT = 2 * time.Second
	// nonceBytes is the length of what is new in each message.
	nonceBytes = 16
	// maxPaths is one path for each family of addresses.
	maxPaths = 2
	// attestedFor is how old an attestation may be, by the clock of the server that
	// both ends have one from; slack is for what its own milliseconds leave out.
	attestedFor = time.Minute
	slack       = 2 * time.Second
)

// intro is an offer or an answer.
type intro struct {
	run      []byte         // the name of the run; the answer has the offer's
	nonce    []byte         // new each time
	replyTo  []byte         // the nonce of the offer; empty in an offer
	to       peer.ID        // whom it is for
	addrs    []ma.Multiaddr // where the sender was seen
	dropped  []Dropped      // of the addresses, as received
	paths    []path         // none where too little is known
	attested [][]byte       // attestations of the relay, where it saw the sender; at most one a family
	held     time.Duration  // from when the offer came until it was answered, to the millisecond
	rtt      time.Duration  // from the sender to the relay and back, to the millisecond; 0: not known
	paced    bool           // of an answer: its sender begins half a round trip later by itself
}

// path is what is known of UDP in one family.
type path struct {
	observed netip.AddrPort
	kind     nat.Kind
	next     uint16 // the port that the NAT will give a flow soon; 0 where it cannot be told
	assumed  bool   // the mapping may be ADM: a vantage point with one address cannot tell
}

// otherwise is the path if what is assumed of it is wrong.
func (p path) otherwise() path {
	if p.assumed {
		p.kind.Mapping = nat.ADM
	}
	return p
}

func newIntro(to peer.ID, addrs []ma.Multiaddr) intro {
	return intro{nonce: newNonce(), to: to, addrs: addrs}
}

// newNonce is new each time.
func newNonce() []byte {
	n := make([]byte, nonceBytes)
	_, _ = rand.Read(n) // never fails (crypto/rand)
	return n
}

// introRecord is an intro in its envelope.
type introRecord struct{ intro }

// Domain implements record.Record.
func (*introRecord) Domain() string { return "dibber-intro" }

// Codec implements record.Record.
func (*introRecord) Codec() []byte { return []byte(relay.OfferProtocol) }

// The kinds' words by their numbers on the wire, of which 0 is none.
func mappings() []nat.Mapping     { return []nat.Mapping{"", nat.EIM, nat.ADM, nat.APDM} }
func filterings() []nat.Filtering { return []nat.Filtering{"", nat.EIF, nat.ADF, nat.APDF} }
func patterns() []nat.Pattern {
	return []nat.Pattern{"", nat.Preserved, nat.Sequential, nat.Random}
}

// MarshalRecord implements record.Record.
func (r *introRecord) MarshalRecord() ([]byte, error) {
	var out []byte
	put := func(num protowire.Number, b []byte) {
		out = protowire.AppendBytes(protowire.AppendTag(out, num, protowire.BytesType), b)
	}
	put(1, r.run)
	put(2, r.nonce)
	put(3, r.replyTo)
	put(4, []byte(r.to))
	for _, a := range r.addrs {
		put(5, a.Bytes())
	}
	for _, p := range r.paths {
		at, err := p.observed.MarshalBinary()
		if err != nil {
			return nil, err
		}
		one := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), at)
		for i, v := range []uint64{
			protowire.EncodeBool(p.kind.NAT), numberOf(mappings(), p.kind.Mapping),
			numberOf(filterings(), p.kind.Filtering), numberOf(patterns(), p.kind.Pattern), uint64(p.next),
			protowire.EncodeBool(p.assumed),
		} {
			one = protowire.AppendVarint(protowire.AppendTag(one, protowire.Number(2+i), protowire.VarintType), v)
		}
		put(6, one)
	}
	for _, a := range r.attested {
		put(7, a)
	}
	out = protowire.AppendVarint(protowire.AppendTag(out, 8, protowire.VarintType), uint64(r.held.Milliseconds()))
	out = protowire.AppendVarint(protowire.AppendTag(out, 9, protowire.VarintType), uint64(r.rtt.Milliseconds()))
	return protowire.AppendVarint(protowire.AppendTag(out, 10, protowire.VarintType), protowire.EncodeBool(r.paced)), nil
}

func numberOf[T comparable](words []T, w T) uint64 { return uint64(max(0, slices.Index(words, w))) }

// word is the inverse of numberOf; what is not known is none.
func word[T any](words []T, n uint64) T { return words[min(n, uint64(len(words)))%uint64(len(words))] }

// UnmarshalRecord implements record.Record.
func (r *introRecord) UnmarshalRecord(data []byte) error {
	var addrs [][]byte
	err := wire.Fields(data, func(f wire.Field) error {
		switch f.Num {
		case 1:
			r.run = f.Bytes
		case 2:
			r.nonce = f.Bytes
		case 3:
			r.replyTo = f.Bytes
		case 4:
			r.to = peer.ID(f.Bytes)
		case 5:
			if len(addrs) > 4*maxAddrs {
				return fmt.Errorf("%w: more than %d addresses", errProtocol, 4*maxAddrs)
			}
			addrs = append(addrs, f.Bytes)
		case 6:
			p, err := readPath(f.Bytes)
			if err != nil {
				return err
			}
			if r.paths = append(r.paths, p); len(r.paths) > maxPaths {
				return fmt.Errorf("%w: more than %d paths", errProtocol, maxPaths)
			}
		case 7:
			if r.attested = append(r.attested, f.Bytes); len(r.attested) > maxPaths {
				return fmt.Errorf("%w: more than %d attestations", errProtocol, maxPaths)
			}
		case 8:
			r.held = milliseconds(f.Number, exchangeTimeout)
		case 9:
			r.rtt = milliseconds(f.Number, maxRTT)
		case 10:
			r.paced = f.Number != 0
		default: // of a later version
		}
		return nil
	})
	r.addrs, r.dropped = chosen(addrs)
	if err == nil && (len(r.run) != runBytes || len(r.nonce) != nonceBytes || len(r.replyTo) != 0 && len(r.replyTo) != nonceBytes) {
		err = fmt.Errorf("%w: run or nonce of another length", errProtocol)
	}
	return err
}

// milliseconds is a number of them, as far as it is plausible.
func milliseconds(n uint64, most time.Duration) time.Duration {
	return time.Duration(min(n, uint64(most.Milliseconds()))) * time.Millisecond
}

func readPath(data []byte) (p path, err error) {
	err = wire.Fields(data, func(f wire.Field) error {
		switch f.Num {
		case 1:
			if err := p.observed.UnmarshalBinary(f.Bytes); err != nil {
				return fmt.Errorf("%w: endpoint of %d bytes", errProtocol, len(f.Bytes))
			}
		case 2:
			p.kind.NAT = f.Number != 0
		case 3:
			p.kind.Mapping = word(mappings(), f.Number)
		case 4:
			p.kind.Filtering = word(filterings(), f.Number)
		case 5:
			p.kind.Pattern = word(patterns(), f.Number)
		case 6:
			p.next = uint16(min(f.Number, 1<<16-1))
		case 7:
			p.assumed = f.Number != 0
		default: // of a later version
		}
		return nil
	})
	if ip := p.observed.Addr(); err == nil && (!p.observed.IsValid() || ip.Zone() != "" || ip.Is4In6() || p.kind.Mapping == "" || p.kind.Filtering == "") {
		err = fmt.Errorf("%w: path without endpoint, mapping or filtering", errProtocol)
	}
	return p, err
}

// sign makes the message that goes over the wire.
func (in intro) sign(key crypto.PrivKey) ([]byte, error) {
	e, err := record.Seal(&introRecord{in}, key)
	if err != nil {
		return nil, fmt.Errorf("sign intro: %w", err)
	}
	return e.Marshal()
}

// openIntro reads a message to to, in reply to an offer with the given nonce; none for an
// offer. It returns who signed it.
func openIntro(signed []byte, to peer.ID, replyTo []byte) (in intro, from peer.ID, err error) {
	var r introRecord
	e, err := record.ConsumeTypedEnvelope(signed, &r)
	if err != nil {
		return intro{}, "", fmt.Errorf("%w: intro: %w", errProtocol, err)
	}
	if from, err = peer.IDFromPublicKey(e.PublicKey); err != nil || r.to != to {
		return intro{}, "", fmt.Errorf("%w: intro of %s to %s, not to %s", errProtocol, from, r.to, to)
	}
	if !slices.Equal(r.replyTo, replyTo) {
		return intro{}, "", fmt.Errorf("%w: answer to another offer", errProtocol)
	}
	return r.intro, from, nil
}

// openIntroOf is openIntro for a message that from must have signed.
func openIntroOf(from peer.ID, signed []byte, to peer.ID, replyTo []byte) (intro, error) {
	in, by, err := openIntro(signed, to, replyTo)
	if err == nil && by != from {
		err = fmt.Errorf("%w: intro of %s, not of %s", errProtocol, by, from)
	}
	return in, err
}

// id is the run's name.
func (in intro) id() string { return hex.EncodeToString(in.run) }

var errAttestation = errors.New("no fresh word of the relay or vantage point where the peer is")

// witness is who signed the first of some attestations, if it is one.
func witness(signed [][]byte) peer.ID {
	if len(signed) == 0 {
		return ""
	}
	a, err := vantage.OpenAttestation(signed[0])
	if err != nil {
		return ""
	}
	return a.Server
}

// attested are the addresses at which the server that both ends use saw the peer. Whoever
// has such an address proved to the server to be the peer: packets to it are not sent to
// anybody else. now is by the server's own clock.
func attested(signed [][]byte, p peer.ID, server peer.ID, now time.Time) (out []netip.Addr, err error) {
	for _, one := range signed {
		a, err := vantage.OpenAttestation(one)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errAttestation, err)
		}
		if age := now.Sub(a.At); a.Peer != p || a.Server != server || age > attestedFor || age < -slack {
			return nil, fmt.Errorf("%w: %s was seen by %s %s ago", errAttestation, a.Peer, a.Server, age.Round(time.Second))
		}
		out = append(out, a.Observed.Addr())
	}
	if len(out) == 0 {
		return nil, errAttestation
	}
	return out, nil
}

// pairing is two paths of one family and what is to be done with them.
type pairing struct {
	nat.Plan
	own, peer path
}

// otherwise is what to do when what was assumed has proved to be wrong; false if that is
// no search for ports, for which both ends have what they need.
func (p pairing) otherwise(offers bool) (pairing, bool) {
	p.own, p.peer = p.own.otherwise(), p.peer.otherwise()
	differs := p.own.assumed || p.peer.assumed
	p.own.assumed, p.peer.assumed = false, false
	p.Plan = nat.PlanFor(p.own.kind, p.peer.kind, offers)
	return p, differs && p.Method == nat.MethodSpray
}

// pair chooses the family in which the two ends do best. It is false where they know too
// little to tell.
func pair(own, theirs []path, offers bool) (best pairing, known bool) {
	rank := []nat.Method{nat.MethodDial, nat.MethodTogether, nat.MethodSpray, nat.MethodPredict, nat.MethodNone}
	for _, o := range own {
		for _, p := range theirs {
			if o.observed.Addr().Is4() != p.observed.Addr().Is4() {
				continue
			}
			plan := nat.PlanFor(o.kind, p.kind, offers)
			if plan.Direct == nat.Unknown {
				continue
			}
			if !known || slices.Index(rank, plan.Method) < slices.Index(rank, best.Method) {
				best, known = pairing{plan, o, p}, true
			}
		}
	}
	return best, known
}
