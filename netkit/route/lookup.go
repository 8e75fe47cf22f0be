package route

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dibber/netkit/addr"

	"github.com/ipfs/go-cid"
	kb "github.com/libp2p/go-libp2p-kbucket"
	libp2precord "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/routing"
	ma "github.com/multiformats/go-multiaddr"
)

// Why a lookup found nothing.
var (
	// ErrNotFound means that those who should know do not.
	ErrNotFound = errors.New("not found in the network")
	// ErrNoAnswer means that nobody who was asked answered.
	ErrNoAnswer = errors.New("no peer of the network answered")
	// ErrNotKept means that no peer keeps what was to be put.
	ErrNotKept = errors.New("no peer keeps it")
	// ErrOff means that this network has no records and providers.
	ErrOff = errors.New("this network keeps no records")
)

// PeerInfo is a peer in a result.
type PeerInfo struct {
	Peer       peer.ID  `json:"peer"`
	Addrs      []string `json:"addrs"` // each ends with /p2p/PEER
	Distance   string   `json:"distance"`
	CommonBits int      `json:"common_bits"` // zero bits that Distance begins with
}

// infoOf describes p, as it is known now.
func (s *Service) infoOf(p peer.ID, addrs []ma.Multiaddr, target kb.ID) PeerInfo {
	out := PeerInfo{Peer: p}
	addrs = slices.Clone(addrs)
	addr.Sort(addrs)
	for _, a := range addrs {
		out.Addrs = append(out.Addrs, addr.WithPeer(a, p).String())
	}
	out.Distance, out.CommonBits = distance(p, target)
	return out
}

// FindPeer looks for the addresses of a peer, in the network or of an open connection. It does not dial the peer: what is
// found are the addresses that those closest to it name. on is told of each step; nil tells nobody. Errors are ErrNotFound, ErrNoAnswer, ErrNoBoot or ctx's.
func (s *Service) FindPeer(ctx context.Context, id peer.ID, on func(Step)) (peer.AddrInfo, Lookup, error) {
	ctx, t := s.trace(ctx, string(id), on)
	t.spare = id
	pi, err := s.dht.FindPeer(ctx, id)
	l := t.end()
	if errors.Is(err, routing.ErrNotFound) && t.named(id) { // the library wants a peer that it could dial
		pi, err = s.n.Peerstore().PeerInfo(id), nil
	}
	if err == nil && len(pi.Addrs) == 0 {
		err = routing.ErrNotFound
	}
	return pi, l, s.failure(ctx, l, err)
}

// Closest looks for the Config.Replication peers whose keys are closest to that of key, the closest first. The key of a
// peer is its id in binary, of a CID its multihash, of a record its text.
func (s *Service) Closest(ctx context.Context, key string, on func(Step)) ([]PeerInfo, Lookup, error) {
	ctx, t := s.trace(ctx, key, on)
	ids, err := s.dht.GetClosestPeers(ctx, key)
	l := t.end()
	if err == nil && len(ids) == 0 {
		err = routing.ErrNotFound
	}
	var out []PeerInfo
	for _, id := range ids {
		out = append(out, s.infoOf(id, s.n.Peerstore().Addrs(id), t.target))
	}
	return out, l, s.failure(ctx, l, err)
}

// Walk looks for a random key and returns the peers closest to it. Those who answered are in the table then, as far as it
// has room.
func (s *Service) Walk(ctx context.Context, on func(Step)) ([]PeerInfo, Lookup, error) {
	key, err := randomKey()
	if err != nil {
		return nil, Lookup{}, err
	}
	out, l, err := s.Closest(ctx, string(key), on)
	if err != nil {
		return out, l, err
	}
	s.walks.Add(1)
	for _, st := range l.Steps {
		if st.Outcome == Answered {
			// The library does so too, soon. It is no failure that there is no room.
			_, _ = s.dht.RoutingTable().TryAddPeer(st.Peer, true, true)
		}
	}
	return out, l, nil
}

// Kept counts what became of a record or provider entry at the peers that should keep it.
type Kept struct {
	Kept    int `json:"kept"`
	Refused int `json:"refused"`
	Failed  int `json:"failed"` // not reached, no answer, or another protocol
}

// keptOf counts the requests of one kind.
func keptOf(l Lookup, request string) (k Kept) {
	for _, st := range l.Steps {
		switch {
		case st.Request == nil || *st.Request != request:
		case st.Outcome == Answered:
			k.Kept++
		case st.Outcome == Rejected:
			k.Refused++
		default:
			k.Failed++
		}
	}
	return k
}

// Put has the peers closest to key keep a record. Errors are those of the record, which wrap ErrKey or ErrRecord,
// ErrNotKept, with ErrRefused where that is why, or those of Closest.
func (s *Service) Put(ctx context.Context, key string, value []byte, on func(Step)) (Kept, Lookup, error) {
	if err := s.valid(key, value); err != nil {
		return Kept{}, Lookup{}, err
	}
	ctx, t := s.trace(ctx, key, on)
	err := s.dht.PutValue(ctx, key, value)
	l := t.end()
	k := keptOf(l, requestPut)
	if err == nil && ctx.Err() == nil {
		err = notKept(k)
	}
	return k, l, s.failure(ctx, l, err)
}

// notKept is the error of what nobody keeps; nil if somebody does.
func notKept(k Kept) error {
	switch {
	case k.Kept > 0:
		return nil
	case k.Refused > 0:
		return fmt.Errorf("%w: %d of %d asked have it refused: %w", ErrNotKept, k.Refused, k.Refused+k.Failed, ErrRefused)
	}
	return fmt.Errorf("%w: none of %d has answered", ErrNotKept, k.Failed)
}

// valid checks a record as those who are to keep it will.
func (s *Service) valid(key string, value []byte) error {
	if s.cfg.NoRecords {
		return ErrOff
	}
	v := s.dht.Validator
	known, ok := v.(interface {
		ValidatorByKey(string) libp2precord.Validator
	})
	if ok && known.ValidatorByKey(key) == nil {
		return fmt.Errorf("%w: no record of this network begins as %.200q", ErrKey, key)
	}
	if err := v.Validate(key, value); err != nil {
		if errors.Is(err, ErrKey) || errors.Is(err, ErrRecord) {
			return err
		}
		return fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return nil
}

// Get looks for the best record of a key, among all that the peers closest to it have. Records that are not valid are
// dropped. Errors are ErrKey, ErrNotFound or those of Closest.
func (s *Service) Get(ctx context.Context, key string, on func(Step)) ([]byte, Lookup, error) {
	if s.cfg.NoRecords {
		return nil, Lookup{}, ErrOff
	}
	ctx, t := s.trace(ctx, key, on)
	value, err := s.dht.GetValue(ctx, key)
	l := t.end()
	return value, l, s.failure(ctx, l, err)
}

// Provide has the peers closest to a CID know that this node has what it names. Errors are as of Put.
func (s *Service) Provide(ctx context.Context, c cid.Cid, on func(Step)) (Kept, Lookup, error) {
	if s.cfg.NoRecords {
		return Kept{}, Lookup{}, ErrOff
	}
	ctx, t := s.trace(ctx, string(c.Hash()), on)
	err := s.dht.Provide(ctx, c, true)
	l := t.end()
	k := keptOf(l, requestAddProvider)
	if err == nil && ctx.Err() == nil {
		err = notKept(k)
	}
	return k, l, s.failure(ctx, l, err)
}

// FindProviders looks for those who have what a CID names, at most count of them; 0 looks for all. found is told of each,
// one at a time, as soon as it is known; nil tells nobody. Errors are ErrNotFound or those of Closest.
func (s *Service) FindProviders(ctx context.Context, c cid.Cid, count int, found func(peer.AddrInfo), on func(Step)) ([]peer.AddrInfo, Lookup, error) {
	if s.cfg.NoRecords {
		return nil, Lookup{}, ErrOff
	}
	ctx, t := s.trace(ctx, string(c.Hash()), on)
	var out []peer.AddrInfo
	for p := range s.dht.FindProvidersAsync(ctx, c, count) {
		i := slices.IndexFunc(out, func(o peer.AddrInfo) bool { return o.ID == p.ID })
		if i >= 0 { // told again, with addresses this time
			out[i].Addrs = p.Addrs
		} else {
			out = append(out, p)
		}
		if found != nil {
			found(p)
		}
	}
	l := t.end()
	var err error
	if len(out) == 0 {
		err = routing.ErrNotFound
	}
	return out, l, s.failure(ctx, l, err)
}

// failure gives an error of the library its meaning.
func (s *Service) failure(ctx context.Context, l Lookup, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, kb.ErrLookupFailure):
		return ErrNoBoot
	case !errors.Is(err, routing.ErrNotFound):
		return err
	case l.Answered == 0 && l.Failed > 0:
		return ErrNoAnswer
	case s.dht.RoutingTable().Size() == 0 && l.Answered == 0:
		return ErrNoBoot
	}
	return ErrNotFound
}

// Entry is a peer in the table.
type Entry struct {
	PeerInfo
	AddedMS  float64  `json:"added_ms"`  // since it came into the table
	QueryMS  *float64 `json:"query_ms"`  // since it last answered; null: not yet
	UsefulMS *float64 `json:"useful_ms"` // since it last helped a lookup; null: not yet
	RTTms    *float64 `json:"rtt_ms"`    // of requests, smoothed; null: not measured
}

// Table is who is in the routing table, the closest to this node last. The distances are those to this node.
func (s *Service) Table() []Entry {
	own := kb.ConvertPeerID(s.n.ID())
	now := time.Now()
	var out []Entry
	for _, p := range s.dht.RoutingTable().GetPeerInfos() {
		e := Entry{
			PeerInfo: s.infoOf(p.Id, s.n.Peerstore().Addrs(p.Id), own),
			AddedMS:  ms(now.Sub(p.AddedAt)), QueryMS: sinceMS(now, p.LastSuccessfulOutboundQueryAt), UsefulMS: sinceMS(now, p.LastUsefulAt),
		}
		if rtt := s.n.Peerstore().LatencyEWMA(p.Id); rtt > 0 {
			e.RTTms = new(ms(rtt))
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Entry) int {
		switch {
		case a.Distance > b.Distance:
			return -1
		case a.Distance < b.Distance:
			return 1
		}
		return 0
	})
	return out
}

func sinceMS(now, at time.Time) *float64 {
	if at.IsZero() {
		return nil
	}
	return new(ms(now.Sub(at)))
}

// NetworkSize is about how many servers the network has, as the distances met in lookups tell; nil where there were too
// few of them.
func (s *Service) NetworkSize() *int {
	n, err := s.dht.NetworkSize()
	if err != nil {
		return nil
	}
	return new(int(n))
}
