package dial

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
)

// identifications receives the outcomes of identify with one peer.
type identifications struct {
	sub  event.Subscription
	peer peer.ID
}

// watchIdentify must be called before the dial, or its outcome may be missed.
func watchIdentify(n *host.Node, p peer.ID) (identifications, error) {
	sub, err := n.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted), eventbus.Name("dial"), eventbus.BufSize(64))
	if err != nil {
		return identifications{}, fmt.Errorf("identify events: %w", err)
	}
	return identifications{sub, p}, nil
}

// close ends the subscription, which has no error to tell.
func (i identifications) close() { _ = i.sub.Close() }

// last returns the newest completed identification of the peer that has come in;
// nil if there is none.
func (i identifications) last() (found *event.EvtPeerIdentificationCompleted) {
	for {
		select {
		case e := <-i.sub.Out():
			if e, ok := e.(event.EvtPeerIdentificationCompleted); ok && e.Peer == i.peer {
				found = &e
			}
		default:
			return found
		}
	}
}

// identify waits for the peer to introduce itself on c. libp2p tells its event
// before it closes the channel waited for; on a connection that was identified
// earlier there is no event any more, and the peerstore knows most of it.
func (d *dialler) identify(ctx context.Context, ids identifications, c network.Conn) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.IdentifyTimeout)
	defer cancel()
	select {
	case <-ctx.Done():
		return
	case <-d.n.Identified(c):
	}
	e := ids.last()
	if e == nil {
		if e = d.known(); e == nil {
			return
		}
	}
	d.r.Identify = describe(e, c.RemotePublicKey())
	d.r.Identify.MS = *ms(d.connected, time.Now())
	d.tell(Event{Identify: d.r.Identify})
}

// known is what an earlier identification left in the peerstore; nil if there was
// none.
func (d *dialler) known() *event.EvtPeerIdentificationCompleted {
	ps := d.n.Peerstore()
	protos, err := ps.GetProtocols(d.peer)
	if err != nil || len(protos) == 0 {
		return nil
	}
	e := &event.EvtPeerIdentificationCompleted{Peer: d.peer, Protocols: protos, ListenAddrs: ps.Addrs(d.peer)}
	for key, field := range map[string]*string{"AgentVersion": &e.AgentVersion, "ProtocolVersion": &e.ProtocolVersion} {
		if v, err := ps.Get(d.peer, key); err == nil {
			*field, _ = v.(string)
		}
	}
	for _, o := range d.n.Observations() {
		if o.Conn.RemotePeer() == d.peer {
			e.ObservedAddr = o.Addr
		}
	}
	if cab, ok := peerstore.GetCertifiedAddrBook(ps); ok {
		e.SignedPeerRecord = cab.GetPeerRecord(d.peer)
	}
	return e
}

// describe turns libp2p's event into the report's form.
func describe(e *event.EvtPeerIdentificationCompleted, key crypto.PubKey) *Identify {
	id := &Identify{
		Agent: e.AgentVersion, ProtocolVersion: e.ProtocolVersion,
		Protocols: protocol.ConvertToStrings(e.Protocols), ListenAddrs: []string{},
		SignedRecord: e.SignedPeerRecord != nil,
	}
	slices.Sort(id.Protocols)
	listen := slices.Clone(e.ListenAddrs)
	addr.Sort(listen)
	for _, a := range listen {
		id.ListenAddrs = append(id.ListenAddrs, a.String())
	}
	if e.ObservedAddr != nil {
		id.ObservedAddr = new(e.ObservedAddr.String())
	}
	if key != nil {
		id.KeyType = new(strings.ToLower(key.Type().String()))
		if raw, err := crypto.MarshalPublicKey(key); err == nil {
			id.PublicKey = new(base64.StdEncoding.EncodeToString(raw))
		}
	}
	return id
}

// require checks that the peer speaks every required protocol. What identify does
// not list is proposed to it, since some peers list less than they speak.
func (d *dialler) require(ctx context.Context, c network.Conn) error {
	for _, p := range d.cfg.Require {
		if d.r.Identify != nil && slices.Contains(d.r.Identify.Protocols, string(p)) {
			continue
		}
		ok, err := d.n.Supports(ctx, c, p)
		if err != nil {
			return fmt.Errorf("ask for %s: %w", p, err)
		}
		if !ok {
			return &ProtocolError{d.peer, p}
		}
	}
	return nil
}
