package rendezvous

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// maxBarren is how many pages in a row may be empty with more to come, each for
// [scanSlots] registrations that the host may not see.
const maxBarren = 256

// maxCollected is how many registrations are collected when nothing else is
// said: a hostile server invents peers for nothing.
const maxCollected = 10_000

// DiscoverRequest says what to ask for.
type DiscoverRequest struct {
	// Namespace to look in; empty asks for all.
	Namespace string
	// Limit is how many registrations one answer should hold; zero leaves it
	// to the server.
	Limit uint64
	// Cookie of an earlier answer of the same server and namespace asks only
	// for what came after it; nil asks for everything.
	Cookie []byte
	// Format chooses the flavours of records asked for. Whatever comes is
	// read.
	Format Format
	// Max is how many registrations [DiscoverAll] collects; zero means
	// 10 000.
	Max int
}

// Entry is a verified registration of another peer.
type Entry struct {
	// Namespace is where the peer is registered; empty when all were asked
	// for and the server does not say.
	Namespace string `json:"namespace"`
	// Peer is the registered peer.
	Peer peer.ID `json:"peer"`
	// Addrs are its addresses, without its own id at their end.
	Addrs []ma.Multiaddr `json:"addrs"`
	// TTL is how much longer the registration lasts in seconds; nil when the
	// server does not say. Rust servers give what was granted, not what is
	// left.
	TTL *uint64 `json:"ttl_s"`
	// Seq orders the peer's records.
	Seq uint64 `json:"seq"`
	// Flavour is the kind of record the peer was found by.
	Flavour Flavour `json:"flavour"`
}

// Page is the answer to a DISCOVER.
type Page struct {
	// Entries are the registrations, the host's own left out.
	Entries []Entry `json:"entries"`
	// Skipped is how many registrations were left out because they were
	// broken or not signed by their peer.
	Skipped int `json:"skipped"`
	// Cookie asks the same server for what comes later. It may be nil.
	Cookie []byte `json:"cookie"`
	// empty is set when the server sent no registrations at all, and more when
	// it says that there may be some all the same.
	empty, more bool
	// own is set when the host's own registration was among them.
	own bool
}

// Discover asks a server for one page of registrations. A server that does
// not know the cookie any more refuses with [StatusInvalidCookie]: drop it and
// ask again. Errors are those of [Register].
func Discover(ctx context.Context, h host.Host, server peer.AddrInfo, req DiscoverRequest) (Page, error) {
	st, err := open(ctx, h, server)
	if err != nil {
		return Page{}, err
	}
	body := discoverMessage{cookie: req.Cookie, both: req.Format == FormatAuto}
	if req.Namespace != "" {
		body.ns = &req.Namespace
	}
	if req.Limit != 0 {
		body.limit = &req.Limit
	}
	reply, err := exchange(ctx, st, message{kind: new(typeDiscover), discover: &body})
	if err != nil {
		return Page{}, fmt.Errorf("discover: %w", err)
	}
	answer := reply.discoverResponse
	if answer == nil {
		return Page{}, fmt.Errorf("discover: %w: no response", ErrMalformedReply)
	}
	if err := statusOf(answer.status, answer.text); err != nil {
		return Page{}, fmt.Errorf("discover: %w", err)
	}
	return readPage(h.ID(), req.Namespace, answer), nil
}

func readPage(self peer.ID, ns string, answer *discoverResponse) Page {
	// A copy, which does not keep the whole answer.
	page := Page{Cookie: bytes.Clone(answer.cookie), empty: len(answer.registrations) == 0, more: answer.more}
	for i := range answer.registrations {
		entry, err := readEntry(ns, &answer.registrations[i], OpenRecord)
		switch {
		case err != nil:
			page.Skipped++
		case entry.Peer == self:
			page.own = true
		default:
			page.Entries = append(page.Entries, entry)
		}
	}
	return page
}

// readEntry reads a registration with the records that open takes. Of two
// records the second is read only if the first is broken: they say the same.
func readEntry(ns string, m *registerMessage, open func(envelope []byte) (*Record, error)) (Entry, error) {
	rec, err := open(m.record)
	if err != nil && m.other != nil {
		rec, err = open(m.other)
	}
	if err != nil {
		return Entry{}, err
	}
	entry := Entry{Namespace: ns, Peer: rec.Peer, TTL: m.ttl, Seq: rec.Seq, Flavour: rec.Flavour}
	if m.ns != nil && *m.ns != "" {
		entry.Namespace = *m.ns
	}
	if ns != "" && entry.Namespace != ns {
		return Entry{}, fmt.Errorf("%w: entry of namespace %q", ErrMalformedReply, entry.Namespace)
	}
	for _, addr := range rec.Addrs {
		if addr = stripPeer(addr, rec.Peer); addr != nil {
			entry.Addrs = append(entry.Addrs, addr)
		}
	}
	return entry, nil
}

// DiscoverAll follows pages from req.Cookie to the end and merges them: a peer
// that refreshed meanwhile is there once in a namespace, as it was last seen.
// A cookie the server does not know any more is dropped, and everything is
// asked for again.
func DiscoverAll(ctx context.Context, h host.Host, server peer.AddrInfo, req DiscoverRequest) (Page, error) {
	limit := req.Max
	limit = cmp.Or(limit, maxCollected)
	all := newMerge(req.Cookie)
	barren := 0
	for restarted := false; len(all.page.Entries) < limit && barren < maxBarren; {
		page, err := Discover(ctx, h, server, req)
		var refused *StatusError
		if errors.As(err, &refused) && refused.Status == StatusInvalidCookie && req.Cookie != nil && !restarted {
			restarted, req.Cookie = true, nil
			all = newMerge(nil)
			continue
		}
		if err != nil {
			return all.page, err
		}
		stuck := len(page.Cookie) == 0 || string(page.Cookie) == string(req.Cookie)
		all.add(page)
		if page.empty && !page.more || stuck {
			break
		}
		if barren++; !page.empty {
			barren = 0
		}
		req.Cookie = page.Cookie
	}
	return all.page, nil
}

// merge collects pages with one entry for each peer and namespace.
type merge struct {
	page Page
	at   map[entryKey]int
}

func newMerge(cookie []byte) *merge {
	return &merge{page: Page{Cookie: cookie}, at: make(map[entryKey]int)}
}

func (m *merge) add(page Page) {
	m.page.Skipped += page.Skipped
	m.page.own = m.page.own || page.own
	if len(page.Cookie) > 0 {
		m.page.Cookie = page.Cookie
	}
	for _, e := range page.Entries {
		key := entryKey{ns: e.Namespace, peer: e.Peer}
		if i, seen := m.at[key]; seen {
			m.page.Entries[i] = e
			continue
		}
		m.at[key] = len(m.page.Entries)
		m.page.Entries = append(m.page.Entries, e)
	}
}
