package discover

import (
	"context"
	"errors"
	"math"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/mdns"
	"dibber/netkit/ping"
	"dibber/netkit/rendezvous"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// The words for sources.
const (
	SourceRendezvous = "rendezvous"
	SourceMDNS       = "mdns"
	SourceDNSAddr    = "dnsaddr"
	SourceDHT        = "dht"
	SourceTable      = "table"
)

// The ways in which a source is watched.
const (
	viaPush = string(rendezvous.ViaPush)
	viaPoll = string(rendezvous.ViaPoll)
)

// SourceResult is how a source did, at its latest answer.
type SourceResult struct {
	Source  string   `json:"source"`  // rendezvous, mdns, dht, dnsaddr, pubsub or table
	Server  *string  `json:"server"`  // address of the server, or the name; null: there is none
	OK      bool     `json:"ok"`      // whether it answered
	MS      *float64 `json:"ms"`      // how long the answer took; null: none, or it is listened to
	Count   int      `json:"count"`   // peers known by it, also through others
	Skipped int      `json:"skipped"` // entries of the answer that were broken or forged
	More    bool     `json:"more"`    // it has more entries than MaxPerSource; the rest is left out
	// Via is how changes are learned: push, the source tells them, or poll, it is
	// asked again and again. Null: it was asked once, or did not answer.
	Via   *string `json:"via"`
	Error *string `json:"error"` // null: it answered
}

// source is one source of a session.
type source struct {
	SourceResult
	// ask asks it once; nil if it tells by itself.
	ask func(context.Context) (answer, error)
	// server is the rendezvous point that it is; nil for none. It is followed,
	// where others are asked again.
	server   *peer.AddrInfo
	stop     func() error // when it is asked no more; nil for nothing
	answered bool
	err      error // a *SourceError
}

// answer is what an asked source said.
type answer struct {
	sightings []sighting
	all       bool // everything it knows, not only news
	skipped   int
	via       string // empty for an answer that no other follows
}

func (src *source) fail(err error) {
	src.answered, src.OK, src.Via = true, false, nil
	src.err = &SourceError{src.Source, *orEmpty(src.Server), err}
	text := err.Error()
	src.Error = &text
}

func orEmpty[T any](p *T) *T {
	if p == nil {
		return new(T)
	}
	return p
}

// makeSources makes the sources of the configuration, in the order in which
// reports list them.
func makeSources(n *host.Node, cfg Config, hear *listener) []*source {
	var out []*source
	add := func(word, server string, ask func(context.Context) (answer, error)) *source {
		src := &source{SourceResult: SourceResult{Source: word, Server: optional(server)}, ask: ask}
		out = append(out, src)
		return src
	}
	for _, server := range cfg.Servers {
		add(SourceRendezvous, serverText(server), func(ctx context.Context) (answer, error) {
			return askServer(ctx, n, server, cfg)
		}).server = &server
	}
	for _, name := range cfg.DNSAddrs {
		add(SourceDNSAddr, name.String(), func(ctx context.Context) (answer, error) { return askName(ctx, n, name) })
	}
	if cfg.Pubsub != nil {
		for _, p := range cfg.Pubsub.Peers {
			add(SourcePubsub, serverText(p), func(ctx context.Context) (answer, error) { return hear.ask(ctx, p, cfg.Pubsub.Topic) })
		}
	}
	if cfg.MDNS != nil {
		add(SourceMDNS, "", nil)
	}
	if cfg.DHT != nil || cfg.Route != nil {
		t := &tableSource{n: n, cfg: cfg, route: cfg.Route}
		add(SourceDHT, "", t.ask).stop = t.close
	}
	if cfg.Table != nil {
		add(SourceTable, "", func(context.Context) (answer, error) { return fromTable(cfg.Table), nil })
	}
	return out
}

// serverText names a server in reports: by its first address.
func serverText(server peer.AddrInfo) string {
	return addr.Target{ID: server.ID, Addrs: server.Addrs}.P2PAddrs()[0].String()
}

// start sets all sources to work.
func (s *session) start(ctx context.Context) {
	if s.cfg.Register {
		s.register()
	}
	for i, src := range s.sources {
		switch {
		case src.ask == nil:
			s.listen(i, src)
		case s.repeat && src.server != nil:
			s.follow(i, src)
		default:
			s.working.Go(func() { s.askOn(ctx, i, src) })
		}
	}
}

// askOn asks a source, and again as long as the session repeats.
func (s *session) askOn(ctx context.Context, i int, src *source) {
	for {
		within, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
		began := time.Now()
		got, err := src.ask(within)
		took := time.Since(began)
		cancel()
		if s.repeat {
			got.via = viaPoll
		}
		if err == nil || ctx.Err() == nil {
			s.steps <- func() { s.heard(i, src, got, err, took) }
		}
		if !s.repeat {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.cfg.Interval):
		}
	}
}

// heard takes an answer. What a failed question brought nevertheless is kept.
func (s *session) heard(i int, src *source, got answer, err error, took time.Duration) {
	s.view.put(i, got.all && err == nil, got.sightings)
	src.answered, src.OK, src.err, src.Error = true, true, nil, nil
	src.Skipped, src.MS, src.Via = got.skipped, nil, optional(got.via)
	if err != nil {
		src.fail(err)
	} else {
		ms := ping.Milliseconds(took)
		src.MS = &ms
	}
	src.Count, src.More = s.view.countPeers(i), s.view.more[i]
	report := src.SourceResult
	s.cfg.On(Event{Kind: SourceAsked, Source: &report})
}

// add takes what a source told unasked, and says so once there is no more room for it.
func (s *session) add(i int, src *source, all bool, sightings []sighting) {
	s.view.put(i, all, sightings)
	if s.view.more[i] == src.More {
		return
	}
	src.Count, src.More = s.view.countPeers(i), s.view.more[i]
	report := src.SourceResult
	s.cfg.On(Event{Kind: SourceAsked, Source: &report})
}

// listen starts multicast DNS, which tells by itself.
func (s *session) listen(i int, src *source) {
	cfg := *s.cfg.MDNS
	cfg.Announce, cfg.Browse = false, true
	cfg.On = func(e mdns.Event) {
		s.steps <- func() {
			if e.Kind == mdns.Expired {
				s.view.gone(i, "", e.Peer.ID)
				return
			}
			s.add(i, src, false, []sighting{{peer: e.Peer.ID, addrs: e.Peer.Addrs, until: time.Now().Add(e.TTL)}})
		}
	}
	service, err := mdns.New(s.n, cfg)
	src.answered, src.OK, src.Via = true, true, optional(viaPush)
	if err != nil {
		src.fail(err)
	} else {
		s.closers = append(s.closers, service.Close)
	}
	report := src.SourceResult
	s.cfg.On(Event{Kind: SourceAsked, Source: &report})
}

// follow has a rendezvous point tell what changes, or asks it again and again if it
// does not.
func (s *session) follow(i int, src *source) {
	f, err := rendezvous.NewFollower(s.n, rendezvous.FollowerConfig{
		Server: *src.server, Namespace: s.cfg.Namespace, Format: s.cfg.Format, Max: MaxPerSource + 1,
		Interval: s.cfg.Interval, Timeout: s.cfg.Timeout,
		On: func(e rendezvous.FollowerEvent) { s.steps <- func() { s.followed(i, src, e) } },
	})
	if err != nil {
		s.heard(i, src, answer{}, err, 0)
		return
	}
	stop := s.n.KeepAlive(src.server.ID)
	s.closers = append(s.closers, f.Close, func() error { stop(); return nil })
}

// followed takes what a followed server said: an answer, or something it told
// unasked.
func (s *session) followed(i int, src *source, e rendezvous.FollowerEvent) {
	got := answer{sightings: sightingsOf(e.Entries, e.At), all: e.Kind == rendezvous.FollowerAll, skipped: e.Skipped, via: string(e.Via)}
	switch {
	case e.Kind == rendezvous.FollowerGone && e.Peer == s.n.ID():
		if r := s.registrars[src.server.ID]; r != nil {
			r.Dropped(e.At)
		}
		if s.cfg.Dropped != nil {
			s.cfg.Dropped(src.server.ID, e.At)
		}
	case e.Kind == rendezvous.FollowerGone:
		s.view.gone(i, e.Namespace, e.Peer)
	case e.Answer || e.Err != nil:
		s.heard(i, src, got, e.Err, e.Took)
	default:
		s.add(i, src, got.all, got.sightings)
	}
}

// askServer asks one rendezvous point for everything.
func askServer(ctx context.Context, n *host.Node, server peer.AddrInfo, cfg Config) (answer, error) {
	began := time.Now()
	page, err := rendezvous.DiscoverAll(ctx, n, server, rendezvous.DiscoverRequest{
		Namespace: cfg.Namespace, Format: cfg.Format, Max: MaxPerSource + 1, // the one more shows that there are more
	})
	return answer{sightings: sightingsOf(page.Entries, began), all: len(page.Entries) <= MaxPerSource, skipped: page.Skipped}, err
}

// sightingsOf turns registrations into sightings. Their times run from the
// question, so that they do not outlast the server's.
func sightingsOf(entries []rendezvous.Entry, asked time.Time) []sighting {
	out := make([]sighting, 0, len(entries))
	for _, e := range entries {
		out = append(out, sightingOf(e, asked))
	}
	return out
}

func sightingOf(e rendezvous.Entry, asked time.Time) sighting {
	s := sighting{peer: e.Peer, ns: e.Namespace, addrs: e.Addrs, seq: &e.Seq, record: e.Flavour.String()}
	if e.TTL != nil {
		const most = uint64(math.MaxInt64 / time.Second / 2)
		s.until = asked.Add(time.Duration(min(*e.TTL, most)) * time.Second)
	}
	return s
}

// errNoPeer means that a name has addresses, but none that says whose.
var errNoPeer = errors.New("no address behind the name ends with a peer id")

// askName resolves a /dnsaddr name into the peers that it lists.
func askName(ctx context.Context, n *host.Node, name ma.Multiaddr) (answer, error) {
	r := n.Resolve(ctx, "", name)
	found := fromAddrs(r.Addrs)
	found.all = r.Err == nil
	if r.Err == nil && len(found.sightings) == 0 {
		return found, errNoPeer
	}
	return found, r.Err
}

// fromAddrs makes a sighting of each peer that the addresses name.
func fromAddrs(addrs []ma.Multiaddr) answer {
	var out answer
	var named []addr.Target
	for _, a := range addrs {
		t, err := addr.Split(a)
		if err != nil {
			out.skipped++
			continue
		}
		named = append(named, t)
	}
	for _, t := range addr.Merge(named) {
		out.sightings = append(out.sightings, sighting{peer: t.ID, addrs: t.Addrs})
	}
	return out
}

func fromTable(table []peer.AddrInfo) answer {
	out := answer{all: true}
	for _, p := range table {
		out.sightings = append(out.sightings, sighting{peer: p.ID, addrs: p.Addrs})
	}
	return out
}
