package punch

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"dibber/netkit/addr"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch/pb"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	// maxMessage is the size that the library's peers take.
	maxMessage = 4096
	// maxAddrs bounds how many addresses are offered and taken: nobody has more
	// that matter, and each of them is sent packets.
	maxAddrs = 16
	// runField carries the id of the run in a CONNECT, which those who do not know
	// it ignore.
	runField = 200
	runBytes = 8
)

// errProtocol means that the peer said something else than DCUtR asks for.
var errProtocol = errors.New("peer broke the protocol")

// newRunID makes the name under which both ends report the same punch.
func newRunID() string {
	var id [runBytes]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	return hex.EncodeToString(id[:])
}

// writeConnect sends where this host was seen. id is the run's; empty sends none.
func writeConnect(st network.Stream, addrs []ma.Multiaddr, id string) error {
	msg := pb.HolePunch{Type: pb.HolePunch_CONNECT.Enum()}
	for _, a := range addrs {
		msg.ObsAddrs = append(msg.ObsAddrs, a.Bytes())
	}
	if raw, err := hex.DecodeString(id); err == nil && len(raw) == runBytes {
		msg.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, runField, protowire.BytesType), raw))
	}
	return write(st, &msg)
}

func writeSync(st network.Stream) error {
	return write(st, &pb.HolePunch{Type: pb.HolePunch_SYNC.Enum()})
}

func write(st network.Stream, msg *pb.HolePunch) error {
	raw, err := proto.Marshal(msg)
	if err != nil {
		return fmt.Errorf("encode %s: %w", msg.GetType(), err)
	}
	if err := wire.WriteFrame(st, raw, maxMessage); err != nil {
		return fmt.Errorf("send %s: %w", msg.GetType(), err)
	}
	return nil
}

// read takes one message of the wanted type.
func read(frames *wire.Reader, want pb.HolePunch_Type) (*pb.HolePunch, error) {
	raw, err := frames.Next()
	if err != nil {
		return nil, fmt.Errorf("wait for %s: %w", want, err)
	}
	var msg pb.HolePunch
	if err := proto.Unmarshal(raw, &msg); err != nil {
		return nil, fmt.Errorf("%w: %w", errProtocol, err)
	}
	if msg.GetType() != want {
		return nil, fmt.Errorf("%w: %s where %s was due", errProtocol, msg.GetType(), want)
	}
	return &msg, nil
}

// readConnect takes the other side's CONNECT: where it was seen, which of its
// addresses are no use and why, and the id of the run if it gave one.
func readConnect(frames *wire.Reader) (addrs []ma.Multiaddr, dropped []Dropped, id string, err error) {
	msg, err := read(frames, pb.HolePunch_CONNECT)
	if err != nil {
		return nil, nil, "", err
	}
	addrs, dropped = chosen(msg.GetObsAddrs())
	return addrs, dropped, runOf(msg.ProtoReflect().GetUnknown()), nil
}

// runOf finds the id of the run among fields that DCUtR does not know.
func runOf(fields []byte) (run string) {
	err := wire.Fields(fields, func(f wire.Field) error {
		if f.Num == runField && len(f.Bytes) == runBytes {
			run = hex.EncodeToString(f.Bytes)
		}
		return nil
	})
	if err != nil {
		return ""
	}
	return run
}

// chosen sorts the addresses a peer offers into those to dial, in its order, and those not to.
func chosen(raw [][]byte) (use []ma.Multiaddr, dropped []Dropped) {
	for _, b := range raw {
		a, err := ma.NewMultiaddrBytes(b)
		if err != nil {
			dropped = append(dropped, Dropped{Reason: DroppedMalformed})
			continue
		}
		switch why := unfit(a); {
		case why != "":
			dropped = append(dropped, Dropped{Addr: a.String(), Reason: why})
		case slices.ContainsFunc(use, a.Equal):
		case len(use) == maxAddrs:
			dropped = append(dropped, Dropped{Addr: a.String(), Reason: DroppedTooMany})
		default:
			use = append(use, a)
		}
	}
	return use, dropped
}

// unfit is why an address cannot be punched; empty if it can.
func unfit(a ma.Multiaddr) string {
	if addr.IsRelayed(a) {
		return DroppedRelayed
	}
	if _, ok := addr.IP(a); !ok {
		return DroppedName
	}
	if t := addr.Transport(a); t != addr.TransportQUIC && t != addr.TransportTCP {
		return DroppedTransport
	}
	return ""
}
