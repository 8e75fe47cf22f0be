package replicate

import (
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Session is a session of a [Service] that is under way.
type Session struct {
	Peer  peer.ID   `json:"peer"`
	Began bool      `json:"began"` // by this side
	Path  string    `json:"path"`  // direct, relayed or punched
	Since time.Time `json:"since"`
	Progress
}

// sessions are those under way.
type sessions struct {
	mu  sync.Mutex // guards following, and what all hold
	all map[*underWay]struct{}
}

// underWay is one of them.
type underWay struct {
	of *sessions
	Session
}

// begin lists a session until its done is called.
func (l *sessions) begin(p peer.ID, began bool, path string) *underWay {
	u := &underWay{l, Session{Peer: p, Began: began, Path: path, Since: time.Now()}}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = make(map[*underWay]struct{})
	}
	l.all[u] = struct{}{}
	return u
}

// came notes how far the session is.
func (u *underWay) came(p Progress) {
	u.of.mu.Lock()
	defer u.of.mu.Unlock()
	u.Progress = p
}

// moved notes that another path is taken.
func (u *underWay) moved(p Path) {
	u.of.mu.Lock()
	defer u.of.mu.Unlock()
	u.Path = p.Path
}

func (u *underWay) done() {
	u.of.mu.Lock()
	defer u.of.mu.Unlock()
	delete(u.of.all, u)
}

// Sessions are the sessions under way, the oldest first.
func (s *Service) Sessions() []Session {
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	out := make([]Session, 0, len(s.sessions.all))
	for u := range s.sessions.all {
		out = append(out, u.Session)
	}
	slices.SortFunc(out, func(a, b Session) int { return a.Since.Compare(b.Since) })
	return out
}
