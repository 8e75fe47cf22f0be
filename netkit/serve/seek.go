package serve

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/reach"
	"dibber/netkit/relay"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// lookAround is how often a private node that lacks relays looks for some.
	lookAround = 10 * time.Second
	// unwanted is for how long a relay that was lost or refused is left alone while
	// there are others, and a known peer that is none is not dialled again.
	unwanted = 5 * time.Minute
	// visitTimeout bounds the dial of a known peer.
	visitTimeout = 15 * time.Second
)

// seeker keeps reservations on relays of its choice. It belongs to the goroutine of
// a full node.
type seeker struct {
	held    map[peer.ID]*holding
	resting map[peer.ID]time.Time // until when it is not asked
	visited map[peer.ID]time.Time // known peers: when they were dialled
	rtts    map[peer.ID]measured
	poor    map[peer.ID]bool // those whose limits turned out to be too low
}

// holding is a reservation, or the attempt to get it.
type holding struct {
	client *relay.Client
	bad    atomic.Bool // the last word was a loss or failure
	got    atomic.Bool // there is a reservation
	poor   atomic.Bool // its limits are too low
}

func newSeeker() seeker {
	return seeker{
		held: make(map[peer.ID]*holding), resting: make(map[peer.ID]time.Time), visited: make(map[peer.ID]time.Time),
		rtts: make(map[peer.ID]measured), poor: make(map[peer.ID]bool),
	}
}

// fitReservations keeps as many as there should be, and reports whether more relays
// are to be looked for.
func (f *full) fitReservations(ctx context.Context) (lacking bool) {
	f.mu.Lock()
	is, was := f.is, f.reserves
	f.reserves = is == reach.Private && !f.cfg.NoReserve
	reserves := f.reserves
	f.mu.Unlock()
	if !reserves {
		f.release()
	}
	if reserves != was && len(f.others) == 0 {
		e := RoleEvent{Kind: "started", Role: RoleRelayed, Cause: is}
		if was {
			e.Kind = "stopped"
		}
		f.tell(Event{Role: &e})
	}
	if !reserves {
		return false
	}
	want := f.cfg.Reservations - len(f.others)
	pool := f.pool(ctx, want-len(f.seeker.held)+len(f.unfit()))
	f.dropBad(pool)
	fresh := max(0, min(len(pool), want-len(f.seeker.held)))
	for _, p := range pool[:fresh] {
		f.hold(p)
	}
	pool = pool[fresh:]
	bad := slices.ContainsFunc(f.unfit(), func(h *holding) bool { return h.bad.Load() })
	lacks := max(0, want-len(f.seeker.held))
	if bad {
		lacks = max(lacks, 1)
	}
	f.seekInNetwork(ctx, lacks)
	if lacks == 0 {
		f.moveNear(want, pool)
	}
	if len(f.seeker.held) < want {
		f.visit(ctx)
		return true
	}
	return bad
}

// unfit are the holdings that another relay could do better than.
func (f *full) unfit() (out []*holding) {
	for _, h := range f.seeker.held {
		if h.bad.Load() || h.poor.Load() {
			out = append(out, h)
		}
	}
	return out
}

// hold keeps a reservation on p.
func (f *full) hold(p peer.ID) {
	h := new(holding)
	h.poor.Store(f.seeker.poor[p])
	h.client = relay.NewClient(f.n, relay.ClientConfig{
		Relay: peer.AddrInfo{ID: p}, MaxBackoff: f.retry,
		On: func(e relay.ClientEvent) {
			f.tell(Event{Relay: &e})
			bad, poor := e.Err != nil, h.poor.Load()
			if !bad {
				poor = scanty(e.Reservation)
			}
			turned := h.got.Swap(!bad) == bad
			if h.bad.Swap(bad) != bad || h.poor.Swap(poor) != poor || turned {
				poke(f.wake)
			}
		},
	})
	f.seeker.held[p] = h
}

// dropBad gives up relays that relay no more, and as many as there are others for: of
// those that were lost or refuse, and, where the others may do better, of those whose
// limits are too low.
func (f *full) dropBad(pool []peer.ID) {
	for p, h := range f.seeker.held {
		f.seeker.poor[p] = h.poor.Load()
		better := len(pool) > 0 && !f.seeker.poor[pool[0]] && (f.open(pool[0]) || !f.open(p))
		switch {
		case f.at(p) != nil && !f.relays(p): // it is in the pool again as soon as it does
		case h.bad.Load() && len(pool) > 0:
			f.seeker.resting[p] = time.Now().Add(unwanted)
			pool = pool[1:]
		case h.poor.Load() && better:
			pool = pool[1:]
		default:
			continue
		}
		f.drop(p, h)
	}
}

func (f *full) drop(p peer.ID, h *holding) {
	_ = h.client.Close() // returns nil always
	delete(f.seeker.held, p)
}

// release gives up every reservation. The protocol knows no word for it: the
// circuits are announced no more, and the relay forgets when the connection or the
// time ends.
func (f *full) release() {
	for p, h := range f.seeker.held {
		f.drop(p, h)
	}
}

// at is where p is connected, past relays; nil where it is not.
func (f *full) at(p peer.ID) ma.Multiaddr {
	if conns := f.n.Conns(p); len(conns) > 0 && !addr.IsRelayed(conns[0].RemoteMultiaddr()) {
		return conns[0].RemoteMultiaddr()
	}
	return nil
}

// open reports whether strangers can reach p.
func (f *full) open(p peer.ID) bool {
	at := f.at(p)
	return at != nil && addr.ScopeOf(at) == addr.ScopePublic
}

// relays reports whether p says that it relays.
func (f *full) relays(p peer.ID) bool {
	protos, err := f.n.Peerstore().SupportsProtocols(p, proto.ProtoIDv2Hop)
	return err == nil && len(protos) > 0
}

// visit dials a peer of the table, so that identify tells whether it relays.
func (f *full) visit(ctx context.Context) {
	now := time.Now()
	known := f.n.Known()
	for _, i := range rand.Perm(len(known)) {
		to := known[i]
		if at, ok := f.seeker.visited[to.ID]; to.ID == f.n.ID() || f.at(to.ID) != nil || ok && now.Sub(at) < unwanted {
			continue
		}
		f.seeker.visited[to.ID] = now
		f.done.Go(func() {
			within, cancel := context.WithTimeout(ctx, visitTimeout)
			defer cancel()
			// Whether it relays identify tells, and a peer that is away may be back
			// at the next visit.
			_, _ = f.n.Dial(within, to.ID, to.Addrs)
		})
		return
	}
}
