package natcheck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/nat"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Protocol is how a node tells another one its report: an empty request, and as JSON a
// reply that is either refused or has the report with its age. A report holds the node's
// own addresses, so not everybody is told.
const Protocol protocol.ID = "/dibber/natcheck/1.0.0"

const (
	// maxReport is the largest reply in bytes.
	maxReport = 64 << 10
	// freshFor is how long a report is told before another is made.
	freshFor = time.Minute
	// shareTimeout covers a look and the way of a reply.
	shareTimeout = 2 * DefaultLimit
	// askedPerSecond and askedAtOnce are how often each peer may ask, and askers how many
	// peers that is kept for.
	askedPerSecond = 0.2
	askedAtOnce    = 5
	askers         = 1024
	// fewPeers are enough to look from.
	fewPeers = 3
)

var (
	// ErrNotTold means that a peer does not tell this node its report.
	ErrNotTold = errors.New("the peer tells its natcheck only to those it allows or punches with")
	// ErrUnsupported means that a peer tells nobody.
	ErrUnsupported = errors.New("the peer does not speak " + string(Protocol))
)

// Standing is what of a report counts for a connection with another node.
type Standing struct {
	Verdict  nat.Verdict  `json:"verdict"`
	Families nat.Families `json:"families"`
	PortMap  *PortMap     `json:"portmap"`
}

// Standing is what of r counts for a connection with another node.
func (r Result) Standing() Standing { return Standing{r.Verdict, r.Families, r.PortMap} }

// ParseStanding reads that part of a report written as JSON, by whomever. It fails where
// there is no verdict, or a word is none of package nat.
func ParseStanding(report []byte) (Standing, error) {
	var s Standing
	if err := json.Unmarshal(report, &s); err != nil {
		return s, fmt.Errorf("natcheck: %w", err)
	}
	if s.Verdict == "" {
		return s, errors.New("natcheck: it has no verdict")
	}
	if err := errors.Join(s.Verdict.Check(), s.Families.Check()); err != nil {
		return s, fmt.Errorf("natcheck: %w", err)
	}
	return s, nil
}

// Expect says what is to be expected between the nodes of two reports.
func Expect(a, b Standing) nat.Outlook { return nat.Expect(a.nat(), b.nat()) }

func (s Standing) nat() nat.Standing {
	double := s.PortMap != nil && s.PortMap.DoubleNAT != nil && *s.PortMap.DoubleNAT
	return nat.Standing{Families: s.Families, DoubleNAT: double}
}

// ShareConfig says who is told. The zero value tells the peers of the allow list.
type ShareConfig struct {
	// Chosen are peers that this node wants to punch with; they are told besides those
	// of host.Access.AllowPeers.
	Chosen []peer.ID
	// Servers are looked from besides the relays that the node has a reservation on.
	Servers []peer.AddrInfo
}

// Share tells other peers the report of its node, which it makes when asked: as seen from
// its servers and the relays that the node has a reservation on, and where these are few
// from some of its peers.
type Share struct {
	n       *host.Node
	cfg     ShareConfig
	service *wire.Service

	mu   sync.Mutex // held while a report is made; guards following
	last *Result
	at   time.Time
}

// shared is the reply.
type shared struct {
	Refused bool            `json:"refused"`
	AgeMS   float64         `json:"age_ms"`
	Report  json.RawMessage `json:"report,omitempty"`
}

// NewShare starts to tell.
func NewShare(n *host.Node, cfg ShareConfig) *Share {
	s := &Share{n: n, cfg: cfg}
	limiter := wire.NewLimiter[peer.ID](askedPerSecond, askedAtOnce, askers)
	s.service = wire.NewService(wire.ServiceConfig{
		Name: string(Protocol), MaxRequest: 1, MaxReply: maxReport, Timeout: shareTimeout,
		Screen: func(req wire.Request) ([]byte, bool) {
			if !n.AllowListed(req.Peer) && !slices.Contains(cfg.Chosen, req.Peer) {
				return []byte(`{"refused":true}`), true
			}
			return nil, !limiter.Allow(req.Peer, time.Now())
		},
	}, s.answer)
	n.SetStreamHandler(Protocol, s.service.Handle)
	return s
}

// Close ends it, after what is being answered.
func (s *Share) Close() error {
	s.n.RemoveStreamHandler(Protocol)
	return s.service.Close()
}

func (s *Share) answer(ctx context.Context, _ wire.Request) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || time.Since(s.at) > freshFor {
		// What was found until the time was over counts, whatever the verdict on it.
		r, _ := Do(ctx, s.n, Config{Servers: s.servers(), LookOnly: true})
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s.last, s.at = &r, time.Now()
	}
	report, err := json.Marshal(s.last)
	if err != nil {
		return nil, fmt.Errorf("encode natcheck: %w", err)
	}
	return json.Marshal(shared{AgeMS: ms(time.Since(s.at)), Report: report})
}

// servers are those to look from.
func (s *Share) servers() []peer.AddrInfo {
	out := slices.Clone(s.cfg.Servers)
	for _, c := range s.n.Circuits() {
		at, ok := addr.RelayOf(c)
		if i := slices.IndexFunc(out, func(o peer.AddrInfo) bool { return o.ID == at.ID }); ok && i >= 0 {
			out[i].Addrs = slices.Concat(out[i].Addrs, at.Addrs)
		} else if ok {
			out = append(out, at)
		}
	}
	for _, c := range s.n.Network().Conns() {
		known := slices.ContainsFunc(out, func(o peer.AddrInfo) bool { return o.ID == c.RemotePeer() })
		if len(out) >= fewPeers || known || addr.IsRelayed(c.RemoteMultiaddr()) || c.Stat().Direction != network.DirOutbound {
			continue
		}
		out = append(out, peer.AddrInfo{ID: c.RemotePeer(), Addrs: s.n.Peerstore().Addrs(c.RemotePeer())})
	}
	return out
}

// Fetch asks the peer at the other end of c for its report, and returns that with its
// age. The error is ErrNotTold, ErrUnsupported or that of the stream.
func Fetch(ctx context.Context, n *host.Node, c network.Conn) (s Standing, age time.Duration, err error) {
	st, err := n.OpenStream(ctx, c, Protocol)
	if err != nil {
		return s, 0, err
	}
	raw, err := wire.Exchange(ctx, st, nil, maxReport)
	if err != nil {
		if speaks, other := n.Supports(ctx, c, Protocol); other == nil && !speaks {
			return s, 0, ErrUnsupported
		}
		return s, 0, fmt.Errorf("ask %s for its natcheck: %w", c.RemotePeer(), err)
	}
	var reply shared
	if err := json.Unmarshal(raw, &reply); err != nil {
		return s, 0, fmt.Errorf("natcheck of %s: %w", c.RemotePeer(), err)
	}
	if reply.Refused {
		return s, 0, ErrNotTold
	}
	s, err = ParseStanding(reply.Report)
	return s, time.Duration(min(max(reply.AgeMS, 0), ms(24*time.Hour)) * float64(time.Millisecond)), err
}
