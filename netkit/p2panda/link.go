package p2panda

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// ErrStuck is why a connection is closed on which a session did not go on. The peer may hold it for unfinished for ever, and begin no
// other for its schemas; on a new connection it begins anew.
var ErrStuck = errors.New("session does not go on")

const (
	// maxSessions is how many sessions a peer may have begun on a connection: it begins three at most.
	maxSessions = 4
	// batchEntries and batchBytes are how many entries are stored together.
	batchEntries = 256
	batchBytes   = 1 << 20
	// pause is the least time between two requests. A peer's limits are made for nodes that ask every 5 s.
	pause = time.Second
	// maxFailures is how many sessions in a row may bring what has to be refused before the connection is closed.
	maxFailures = 5
)

// library is the part of a replica that a link needs.
type library interface {
	announce(now time.Time) Announce
	target(theirs []string) []string
	allows(set []string) bool
	heights(set []string) (heights []AuthorHeights, version uint64, err error)
	put(p peer.ID, set []string, entries []Entry) received
}

// output is something to write: a message, or the entries that the peer of a session lacks, then that this is all.
type output struct {
	message Message
	lacking *session
}

// session is an exchange of what both have of a set of schemas.
type session struct {
	id      uint64
	ours    bool // we asked for it
	set     []string
	pending bool // asked for and not answered
	// labels are other numbers by which the peer may call it.
	labels []uint64

	sentHave, done, remoteDone bool
	have                       []AuthorHeights // the peer's

	began, last time.Time
	version     uint64 // of the store when its heights were sent
	sent        int
	got         received
}

// Session is what became of a session.
type Session struct {
	// Ours says that this side asked for it.
	Ours bool `json:"ours"`
	// Schemas is what it was about.
	Schemas []string `json:"schemas"`
	// Sent were sent, Received were new here, Known were not, Refused broke a rule, Barred were kept out by Config.Admit.
	Sent     int `json:"sent"`
	Received int `json:"received"`
	Known    int `json:"known"`
	Refused  int `json:"refused"`
	Barred   int `json:"barred"`
	// Err is the first error, nil if there was none. It wraps [ErrRefused] where the peer is to blame, [ErrNotAdmitted] where
	// Config.Admit is, [ErrStuck] where the session did not end.
	Err error `json:"-"`
	// Took is how long it took.
	Took time.Duration `json:"-"`
}

// link is the protocol on one connection, without streams and clocks: what comes in and the time are arguments, what is to be written
// is taken from it. Both sides keep announcements and sessions for each connection.
type link struct {
	lib        library
	self, peer peer.ID
	interval   time.Duration // between sessions when nothing changes
	eager      bool          // ask again until nothing is to be exchanged
	timeout    time.Duration

	announced uint64 // time of the announcement that was sent last
	theirs    *Announce
	sessions  []*session
	sent      map[LogID]uint64 // up to where entries were sent since a session has been open
	batch     []Entry
	batchOf   *session
	batchSize int
	due       time.Time // of the next request
	soonest   time.Time // not before, whatever changes
	version   uint64    // of the store that the peer has been told all of
	failures  int
	ended     []Session
	out       []output
}

// tick does what is due: announces, asks for a session, gives up those that do not go on. version is that of the store; mayAsk is
// false on a connection beside a better one to the same peer. The error says why to close the connection.
func (l *link) tick(now time.Time, version uint64, mayAsk bool) error {
	if a := l.lib.announce(now); a.Timestamp > l.announced {
		l.announced = a.Timestamp
		l.send(a)
	}
	for _, s := range l.sessions {
		if now.Sub(s.last) >= l.timeout {
			l.end(now, s, fmt.Errorf("%w: nothing for %s", ErrStuck, l.timeout))
			return ErrStuck
		}
	}
	if l.failures >= maxFailures {
		return fmt.Errorf("%w: in %d sessions", ErrRefused, l.failures)
	}
	due := !now.Before(l.due) || version != l.version || l.eager
	if l.theirs == nil || len(l.sessions) > 0 || !mayAsk || !due || now.Before(l.soonest) {
		return nil
	}
	set := l.lib.target(l.theirs.Schemas)
	if len(set) == 0 {
		return nil
	}
	l.due, l.soonest = now.Add(l.interval), now.Add(pause)
	// With number 0 and only when idle: then both ask with the same number if they ask at once, which both sides know how to settle.
	// Where numbers differ aquadoggo answers with the wrong one.
	s := &session{ours: true, pending: true, set: set, began: now, last: now}
	l.sessions = append(l.sessions, s)
	l.send(SyncRequest{Session: 0, Mode: LogHeight, Schemas: set})
	return nil
}

func (l *link) send(m Message) { l.out = append(l.out, output{message: m}) }

// take returns what is to be written.
func (l *link) take() []output {
	out := l.out
	l.out = nil
	return out
}

// receive takes a message. The error is one of our own store.
func (l *link) receive(now time.Time, m Message) error {
	if e, ok := m.(Entry); ok {
		return l.entry(now, e)
	}
	if err := l.flush(now); err != nil {
		return err
	}
	switch m := m.(type) {
	case Announce:
		l.heard(now, m)
	case SyncRequest:
		return l.request(now, m)
	case Have:
		return l.answer(now, m)
	case SyncDone:
		if s := l.find(m.Session); s != nil {
			s.last, s.remoteDone = now, true
			l.finish(now, s)
		}
	}
	return nil
}

// heard takes the newest announcement of a version that is known.
func (l *link) heard(now time.Time, m Announce) {
	if m.Version != Version || l.theirs != nil && m.Timestamp <= l.theirs.Timestamp {
		return
	}
	if l.theirs == nil || !slices.Equal(l.theirs.Schemas, m.Schemas) {
		l.due = now
	}
	l.theirs = &m
}

// request decides on a session that the peer asks for.
func (l *link) request(now time.Time, m SyncRequest) error {
	if m.Mode != LogHeight || !l.lib.allows(m.Schemas) {
		return nil // there is no message to say so
	}
	l.learn(now, m.Schemas)
	for _, s := range slices.Clone(l.sessions) {
		same := slices.Equal(s.set, m.Schemas)
		switch {
		case !s.is(m.Session) && !same:
		case s.pending && strings.Compare(string(l.self), string(l.peer)) > 0:
			// Both asked at once and the other yields. It may answer under the number of its own request.
			if s.id != m.Session {
				s.labels = append(s.labels, m.Session)
			}
			return nil
		case s.pending:
			l.drop(s)
			if !same {
				l.due, l.soonest = now, now // to ask once more, behind this one
			}
		default:
			// It begins anew what it holds for over: something went wrong at its side.
			l.end(now, s, fmt.Errorf("%w: the peer began it anew", ErrStuck))
		}
	}
	if len(l.sessions) >= maxSessions {
		l.end(now, l.sessions[0], fmt.Errorf("%w: the peer began too many", ErrStuck))
	}
	heights, version, err := l.lib.heights(m.Schemas)
	if err != nil {
		return err
	}
	s := &session{id: m.Session, set: m.Schemas, began: now, last: now, sentHave: true, version: version}
	l.sessions = append(l.sessions, s)
	l.send(Have{Session: s.id, Heights: heights})
	if len(heights) == 0 {
		s.done = true
		l.send(SyncDone{Session: s.id})
	}
	return nil
}

// learn adds to what the peer announced what it asks for: a node whose set changes twice in a second does not announce the second time.
func (l *link) learn(now time.Time, set []string) {
	if l.theirs == nil || len(intersect(set, l.theirs.Schemas)) == len(set) {
		return
	}
	known, err := SchemaSet(append(slices.Clone(l.theirs.Schemas), set...)...)
	if err != nil || len(known) > maxAnnounced {
		return
	}
	l.theirs = &Announce{Version: Version, Timestamp: l.theirs.Timestamp, Schemas: known}
	l.due = now
}

// answer takes the heights of the peer, to which the answer is what it lacks.
func (l *link) answer(now time.Time, m Have) error {
	s := l.find(m.Session)
	if s == nil || s.have != nil {
		return nil
	}
	s.last, s.pending = now, false
	s.have = m.Heights
	if s.have == nil {
		s.have = []AuthorHeights{}
	}
	if !s.sentHave {
		heights, version, err := l.lib.heights(s.set)
		if err != nil {
			return err
		}
		s.sentHave, s.version = true, version
		l.send(Have{Session: s.id, Heights: heights})
	}
	if !s.done {
		l.out = append(l.out, output{lacking: s})
	}
	return nil
}

// held is what the peer of a session has, or will have when it has read what was sent in another that is open, too.
func (l *link) held(s *session) map[LogID]uint64 {
	heights := byLog(s.have)
	for log, seq := range l.sent {
		heights[log] = max(heights[log], seq)
	}
	return heights
}

// wrote notes that an entry was written for a session.
func (l *link) wrote(now time.Time, s *session, p Place) {
	s.last = now
	s.sent++
	if l.sent == nil {
		l.sent = make(map[LogID]uint64)
	}
	l.sent[p.LogID] = p.Seq
}

// wroteAll notes that nothing is left to be written for a session, and that this was said.
func (l *link) wroteAll(now time.Time, s *session) {
	s.last, s.done = now, true
	l.finish(now, s)
}

// entry keeps an entry until there are enough to be stored.
func (l *link) entry(now time.Time, m Entry) error {
	s := l.find(m.Session)
	if s == nil || s.pending {
		return nil
	}
	if l.batchOf != nil && l.batchOf != s {
		if err := l.flush(now); err != nil {
			return err
		}
	}
	s.last = now
	l.batchOf = s
	l.batch = append(l.batch, m)
	l.batchSize += len(m.Entry) + len(m.Operation)
	if len(l.batch) < batchEntries && l.batchSize < batchBytes {
		return nil
	}
	return l.flush(now)
}

// flush stores what has come. It is called when there is nothing more to read, too.
func (l *link) flush(now time.Time) error {
	s, batch := l.batchOf, l.batch
	if s == nil {
		return nil
	}
	l.batchOf, l.batch, l.batchSize = nil, nil, 0
	got := l.lib.put(l.peer, s.set, batch)
	s.got.add(got)
	s.last = now
	if got.err != nil && !errors.Is(got.err, ErrRefused) && !errors.Is(got.err, ErrNotAdmitted) {
		return got.err
	}
	return nil
}

// finish ends a session in which both have said all.
func (l *link) finish(now time.Time, s *session) {
	if s.done && s.remoteDone && l.open(s) {
		l.end(now, s, nil)
	}
}

// end forgets a session and keeps what became of it.
func (l *link) end(now time.Time, s *session, err error) {
	l.drop(s)
	if err == nil {
		err = s.got.err
	}
	if s.got.refused > 0 {
		l.failures++
	} else if err == nil {
		l.failures = 0
	}
	l.ended = append(l.ended, Session{
		Ours: s.ours, Schemas: s.set, Sent: s.sent, Received: s.got.added, Known: s.got.known, Refused: s.got.refused, Barred: s.got.barred, Err: err, Took: now.Sub(s.began),
	})
	// A node counts an entry among its heights only once it has put the document together.
	if l.eager && err == nil && s.got.added > 0 && s.sent == 0 {
		l.soonest = now
	} else if s.sent > 0 {
		l.soonest = now.Add(pause)
	}
	if err == nil && l.theirs != nil && slices.Equal(s.set, l.lib.target(l.theirs.Schemas)) {
		// Whoever asked for it, it was about everything.
		l.due, l.version = now.Add(l.interval), s.version+uint64(s.got.added)
	}
}

func (l *link) drop(s *session) {
	l.sessions = slices.DeleteFunc(l.sessions, func(o *session) bool { return o == s })
	if len(l.sessions) == 0 {
		l.sent = nil // what the peer lacks from now on it has not kept
	}
	if l.batchOf == s {
		l.batchOf, l.batch, l.batchSize = nil, nil, 0
	}
}

// open says whether a session is still to be written for.
func (l *link) open(s *session) bool { return slices.Contains(l.sessions, s) }

func (l *link) find(id uint64) *session {
	i := slices.IndexFunc(l.sessions, func(s *session) bool { return s.is(id) })
	if i < 0 {
		return nil
	}
	return l.sessions[i]
}

func (s *session) is(id uint64) bool { return s.id == id || slices.Contains(s.labels, id) }
