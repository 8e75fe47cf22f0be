package reach

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// agreement is by how many answers one side must lead.
	agreement = 2
	// maxVoices is how many servers are asked in one round before the majority
	// counts.
	maxVoices = 5
	// firstRound is the wait for the next look at an address after something
	// changed, doubled up to lastRound while nothing does. Nobody tells a host of
	// a firewall, so this bounds how long one goes unnoticed.
	firstRound = 5 * time.Minute
	lastRound  = 30 * time.Minute
	// askAgain is the wait before the only server there is is asked a second time.
	askAgain = 15 * time.Second
)

// candidate is an address of the node that others may reach it at.
type candidate struct {
	addr ma.Multiaddr
	// observers are the peers that see the node there; nil for addresses that the
	// node knows of itself.
	observers []peer.ID
}

// ledger is what servers said about each address, and what follows. It is pure:
// time is an argument. It is not safe for concurrent use.
//
// Answers are gathered in rounds. A round ends as soon as one side leads by
// agreement, or when every server was asked; while nothing is known of an address
// and there is but one server, its answer is enough. A round that only confirms
// what is known takes one answer; one that contradicts goes on until it is certain.
// So no single server turns a verdict that stands: it takes two, or the only one
// there is twice.
type ledger struct {
	addrs   []*address // of the node now
	servers map[peer.ID]*server
	v1      State
	state   State
	order   func(n int) []int // of asking; random but in tests
}

// address is what is known of one address.
type address struct {
	candidate
	verdict Verdict
	voices  map[peer.ID]bool // the last word of each server: reachable
	round   map[peer.ID]*vote
	open    bool          // a round is under way
	next    time.Time     // when the next round may begin
	every   time.Duration // until the one after it
}

// vote is what a server said in one round, times in a row.
type vote struct {
	reachable bool
	times     int
	last      time.Time
}

func newLedger(order func(n int) []int) *ledger {
	return &ledger{servers: make(map[peer.ID]*server), v1: Undecided, state: Undecided, order: order}
}

// setAddrs replaces the addresses. When they change, all are due: the network is
// another one. That one peer alone sees another address says nothing of the network:
// behind a symmetric NAT every peer does, and all would be due for ever.
func (l *ledger) setAddrs(now time.Time, list []candidate) []Event {
	var events []Event
	var kept []*address
	changed := false
	for _, c := range list {
		a := l.find(c.addr)
		if a == nil {
			changed = changed || len(c.observers) != 1
			a = &address{verdict: Unknown, voices: make(map[peer.ID]bool), every: firstRound}
		}
		a.candidate = c
		kept = append(kept, a)
	}
	for _, a := range l.addrs {
		if slices.Contains(kept, a) {
			continue
		}
		changed = changed || len(a.observers) != 1
		if a.verdict != Unknown {
			events = append(events, Event{Address: &AddressEvent{Addr: a.addr, Was: a.verdict, Is: Unknown, Asked: len(a.voices), Cause: CauseGone}})
		}
	}
	l.addrs = kept
	if changed {
		l.recheck(now)
	}
	return append(events, l.settle(now)...)
}

// find returns what is known of an address; nil when it is none of the node's.
func (l *ledger) find(at ma.Multiaddr) *address {
	i := slices.IndexFunc(l.addrs, func(a *address) bool { return a.addr.Equal(at) })
	if i < 0 {
		return nil
	}
	return l.addrs[i]
}

// recheck makes every address due.
func (l *ledger) recheck(now time.Time) {
	for _, a := range l.addrs {
		a.every = firstRound
		a.next = now
	}
}

// setV1 takes AutoNAT v1's word. It decides only while nobody said anything about
// an address; otherwise, if it differs, it is a reason to look again.
func (l *ledger) setV1(now time.Time, s State) []Event {
	l.v1 = s
	if s != Undecided && s != l.state && l.spoken() {
		l.recheck(now)
	}
	return l.settle(now)
}

// answer takes what a server said about an address that it was asked about.
func (l *ledger) answer(now time.Time, q question, o outcome) []Event {
	if s := l.servers[q.server]; s != nil {
		s.answered(now, q.about, o)
	}
	a := l.find(q.about)
	if a == nil {
		return nil // gone meanwhile
	}
	if a.open && o.err == nil {
		a.vote(now, q.server, o.reachable)
		a.voices[q.server] = o.reachable
	}
	return append(l.conclude(now, a), l.settle(now)...)
}

func (a *address) vote(now time.Time, p peer.ID, reachable bool) {
	v := a.round[p]
	if v == nil || v.reachable != reachable {
		v = &vote{reachable: reachable}
		a.round[p] = v
	}
	v.times++
	v.last = now
}

// count returns the votes of the round for and against.
func (a *address) count() (yes, no int) {
	for _, v := range a.round {
		if v.reachable {
			yes += v.times
		} else {
			no += v.times
		}
	}
	return yes, no
}

// conclude ends the round of a if it is certain or nobody is left to be asked.
func (l *ledger) conclude(now time.Time, a *address) []Event {
	if !a.open {
		return nil
	}
	yes, no := a.count()
	left := len(l.eligible(now, a)) > 0 || l.asking(a) > 0
	is := a.verdict
	switch {
	case yes-no >= agreement:
		is = Reachable
	case no-yes >= agreement:
		is = Unreachable
	case a.confirmed(yes, no): // as it was
	case left && len(a.round) < maxVoices:
		return nil
	case yes > no && (yes >= agreement || a.verdict == Unknown):
		is = Reachable
	case no > yes && (no >= agreement || a.verdict == Unknown):
		is = Unreachable
	}
	a.open = false
	if yes+no == 0 {
		return nil // nobody answered: due as soon as somebody may
	}
	was := a.verdict
	if is != was {
		a.verdict, a.every = is, firstRound
	}
	a.next = now.Add(a.every)
	a.every = min(2*a.every, lastRound)
	if is == was {
		return nil
	}
	return []Event{{Address: &AddressEvent{Addr: a.addr, Was: was, Is: is, By: a.by(is), Asked: len(a.voices), Cause: CauseAnswers}}}
}

// confirmed reports whether the round says nothing but what is known already. What
// fewer than agreement servers stand for is to be asked of more, where there are.
func (a *address) confirmed(yes, no int) bool {
	return (a.verdict == Reachable && yes > 0 && no == 0 || a.verdict == Unreachable && no > 0 && yes == 0) &&
		len(a.by(a.verdict)) >= agreement
}

// by returns the servers whose last word is v.
func (a *address) by(v Verdict) []peer.ID {
	if v == Unknown {
		return nil
	}
	var out []peer.ID
	for _, p := range slices.Sorted(maps.Keys(a.voices)) {
		if a.voices[p] == (v == Reachable) {
			out = append(out, p)
		}
	}
	return out
}

// spoken reports whether a server said anything about an address of now.
func (l *ledger) spoken() bool {
	return slices.ContainsFunc(l.addrs, func(a *address) bool { return a.verdict != Unknown || len(a.voices) > 0 })
}

// settle draws the conclusion from all addresses.
func (l *ledger) settle(now time.Time) []Event {
	is, cause, at := l.conclusion(now)
	if is == l.state {
		return nil
	}
	was := l.state
	l.state = is
	return []Event{{State: &StateEvent{Was: was, Is: is, Addr: at, Cause: cause}}}
}

// conclusion is what follows from what is known of the addresses now.
func (l *ledger) conclusion(now time.Time) (State, Cause, ma.Multiaddr) {
	var refused, doubtful, asking bool
	for _, a := range l.addrs {
		switch a.verdict {
		case Reachable:
			return Public, CauseReachable, a.addr
		case Unreachable:
			refused = true
		case Unknown:
			doubtful = doubtful || !l.declined(now, a)
			asking = asking || a.open
		}
	}
	switch {
	case asking:
		return l.state, "", nil // it will be known better in a moment
	case !l.spoken() && l.v1 != Undecided:
		return l.v1, CauseV1, nil
	case refused && (!doubtful || l.state == Private):
		// A node that was private stays so while it has another address: behind a
		// symmetric NAT each new peer brings one.
		return Private, CauseUnreachable, nil
	default:
		return Undecided, CauseDoubt, nil
	}
}

// sortCandidates orders them by how likely they are to be of use: known ones first,
// then those that most peers see.
func sortCandidates(list []candidate) {
	slices.SortStableFunc(list, func(a, b candidate) int {
		switch {
		case a.observers == nil && b.observers != nil:
			return -1
		case a.observers != nil && b.observers == nil:
			return 1
		case len(a.observers) != len(b.observers):
			return len(b.observers) - len(a.observers)
		}
		return bytes.Compare(a.addr.Bytes(), b.addr.Bytes())
	})
}
