package discover

import (
	"context"
	"errors"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/route"

	"github.com/libp2p/go-libp2p/core/peer"
)

// tableSource is the network of a hash table as a source. It is used by one goroutine at a time.
type tableSource struct {
	n     *host.Node
	cfg   Config
	route *route.Service
	own   bool // route was started here

	provided time.Time // when this host was last registered
}

// providedFor is for how long this host stays registered before it does so again; its peers forget it after two days.
const providedFor = 6 * time.Hour

// ask asks the network once. That it has nobody is an answer.
func (t *tableSource) ask(ctx context.Context) (answer, error) {
	if t.route == nil {
		cfg := *t.cfg.DHT
		cfg.On, cfg.Mode, cfg.Walk = nil, route.Client, -1
		r, err := route.New(t.n, cfg)
		if err != nil {
			return answer{}, err
		}
		t.route, t.own = r, true
	}
	if err := t.route.Join(ctx); err != nil {
		return answer{}, err
	}
	found, err := t.look(ctx)
	if errors.Is(err, route.ErrNotFound) {
		err = nil
	}
	out := answer{all: true}
	for _, p := range found {
		out.sightings = append(out.sightings, sighting{peer: p.ID, addrs: p.Addrs, ns: t.cfg.Namespace})
	}
	return out, err
}

// look finds the one peer that is wanted, those of the namespace, or anybody.
func (t *tableSource) look(ctx context.Context) ([]peer.AddrInfo, error) {
	if t.cfg.find != "" {
		p, _, err := t.route.FindPeer(ctx, t.cfg.find, nil)
		return []peer.AddrInfo{p}, err
	}
	if t.cfg.Namespace == "" {
		_, _, err := t.route.Walk(ctx, nil)
		var out []peer.AddrInfo
		for _, e := range t.route.Table() {
			out = append(out, peer.AddrInfo{ID: e.Peer, Addrs: t.n.Peerstore().Addrs(e.Peer)})
		}
		return out, err
	}
	c, err := route.NamespaceCID(t.cfg.Namespace)
	if err != nil {
		return nil, err
	}
	if t.cfg.Register && time.Since(t.provided) > providedFor {
		if _, _, err := t.route.Provide(ctx, c, nil); err != nil {
			return nil, err
		}
		t.provided = time.Now()
	}
	found, _, err := t.route.FindProviders(ctx, c, MaxPerSource+1, nil, nil)
	for i, p := range found {
		if len(p.Addrs) > 0 {
			continue
		}
		// Whoever keeps the entry has forgotten the addresses: the peer itself may be known.
		if p, _, err := t.route.FindPeer(ctx, p.ID, nil); err == nil {
			found[i].Addrs = p.Addrs
		}
	}
	return found, err
}

// close ends what was started for the session.
func (t *tableSource) close() error {
	if !t.own {
		return nil
	}
	return t.route.Close()
}
