package pchain

import (
	"crypto/sha256"
	"slices"
	"strconv"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// What all versions have in common.
const (
	// IdentifyVersion is the protocol version that peers of 0.4 tell by identify. Nobody checks it.
	IdentifyVersion = "/pchain_p2p/1.0.0"
	// Kademlia is the protocol of peers' distributed hash tables: fixed in 0.4, later the one of its examples. The protocol's text
	// has a v before the number, which no peer speaks.
	Kademlia protocol.ID = "/pchain_p2p/1.0.0"
	// MaxMessage is the largest message that gossip carries, in bytes. The protocol's text says 4 KB, the code 4 MiB.
	MaxMessage = 4 << 20
)

// The names of the profiles.
const (
	V042 = "pchain-0.4.2" // pchain-network 0.4.2
	V04  = "pchain-0.4"   // 0.4.3, the one that is in the package registry
	V05  = "pchain-0.5"   // 0.5.0-beta.1
	V06  = "pchain-0.6"   // 0.6.0-beta.1
)

// Profile is how one version of pchain-network talks. Peers of versions whose message ids differ still hear each other, with some
// messages twice; where topics differ they do not.
type Profile struct {
	Name string
	// Consensus, Mempool and Dropped are the topics that have a meaning; Dropped is empty where there is none.
	Consensus, Mempool, Dropped string
	// AnyTopic is set where an application may use further topics; later versions hand it nothing else.
	AnyTopic bool
	// NeighboursOnly is set where an application gets messages only of those peers that its own is connected to and that have
	// identified themselves. Others are passed on, but not handed over.
	NeighboursOnly bool
	// Echo is set where a node hears its own broadcasts on topics that it subscribes to. Messages to itself it always hears.
	Echo bool
	// Hub is set where a mailbox is of use to peers that are not connected to its owner: they take the sender from the message.
	Hub bool
	// RelaysClose is set where every node relays the mailboxes of the peers that are close to it; see Close.
	RelaysClose bool

	mailbox   string // what stands before the address in a mailbox's topic
	versioned bool   // transactions in the mempool say their version
	id        func(topic string, from peer.ID, seqno uint64) string
}

// Profiles returns every profile, the oldest first.
func Profiles() []Profile {
	return []Profile{
		{Name: V042, Consensus: "consensus", Mempool: "mempool", Dropped: "droppedTx", AnyTopic: true, NeighboursOnly: true, id: idOfTopicAndPeer},
		{Name: V04, Consensus: "consensus", Mempool: "mempool", Dropped: "droppedTx", AnyTopic: true, NeighboursOnly: true, id: idOfTopicAndBytes},
		{Name: V05, Consensus: "consensus", Mempool: "mempool", Dropped: "droppedTx", Echo: true, Hub: true, id: idOfTopicAndBytes},
		{
			Name: V06, Consensus: "hotstuff_rs", Mempool: "mempool", Echo: true, Hub: true, RelaysClose: true,
			mailbox: "hotstuff_rs/", versioned: true, id: idOfPeer,
		},
	}
}

// ProfileOf returns the profile of a name.
func ProfileOf(name string) (Profile, bool) {
	all := Profiles()
	i := slices.IndexFunc(all, func(p Profile) bool { return p.Name == name })
	if i < 0 {
		return Profile{}, false
	}
	return all[i], true
}

// The ids of messages, which peers offer and ask for: where they differ, a message is fetched again that is there. seqno is counted
// by the sender.
func idOfTopicAndPeer(topic string, from peer.ID, seqno uint64) string {
	return topic + idOfPeer(topic, from, seqno)
}

func idOfTopicAndBytes(topic string, from peer.ID, seqno uint64) string {
	return topic + encoding.EncodeToString([]byte(from)) + strconv.FormatUint(seqno, 10)
}

func idOfPeer(_ string, from peer.ID, seqno uint64) string {
	return from.String() + strconv.FormatUint(seqno, 10)
}

// MessageID is the id of a message in gossip.
func (p Profile) MessageID(topic string, from peer.ID, seqno uint64) string {
	return p.id(topic, from, seqno)
}

// Mailbox is the topic on which a peer is written to.
func (p Profile) Mailbox(a Address) string { return p.mailbox + a.String() }

// Owner returns whose mailbox a topic is.
func (p Profile) Owner(topic string) (Address, bool) {
	text, found := strings.CutPrefix(topic, p.mailbox)
	if !found {
		return Address{}, false
	}
	a, err := ParseAddress(text)
	return a, err == nil
}

// Topics are those that a full node subscribes to beside its mailbox.
func (p Profile) Topics() []string {
	return slices.DeleteFunc([]string{p.Consensus, p.Mempool, p.Dropped}, func(t string) bool { return t == "" })
}

// Close reports whether the ids of two peers share the first bit of their place in the Kademlia table. From 0.6 on a peer relays
// the mailboxes of those that do.
func Close(a, b peer.ID) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return (x[0]^y[0])&0x80 == 0
}
