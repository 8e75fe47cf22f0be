package replicate

import (
	"encoding/hex"
	"math"
	"slices"
)

// Reconcile is what it took to find out what to send, and everything else that was not payload.
type Reconcile struct {
	Algo          string `json:"algo"` // cursor, vector, rbsr, or none when the hello was enough
	Rounds        int    `json:"rounds"`
	BytesSent     uint64 `json:"bytes_sent"` // all of the stream but payload
	BytesReceived uint64 `json:"bytes_received"`
	Have          uint64 `json:"have"` // entries that the other side lacked
	Need          uint64 `json:"need"` // entries that this side lacked
	// Overhead is how many times the fewest bytes were needed that could say it: the signatures of the entries moved, which logs have
	// grown, and by how much. Null when nothing moved.
	Overhead *float64 `json:"overhead"`
}

// Result is what a session has come to.
type Result struct {
	Converged  bool      `json:"converged"`   // the roots are equal
	RootLocal  *string   `json:"root_local"`  // null: the session did not come that far
	RootRemote *string   `json:"root_remote"` //
	Pulled     Count     `json:"pulled"`
	Pushed     Count     `json:"pushed"` // what the other side said is on its disk
	Reconcile  Reconcile `json:"reconcile"`
	Forks      []Fork    `json:"forks"`     // that were found
	VerifyMS   float64   `json:"verify_ms"` // proving what was pulled
	// Refused are logs of which this side refused entries, RefusedThere those of which the other did.
	Refused      int    `json:"refused"`
	RefusedThere uint64 `json:"refused_there"`

	// Reason is why the first log was refused here.
	Reason string `json:"-"`
	// Complete says that everything the other side had is here.
	Complete bool `json:"-"`
	// Limited says that something was not sent because the path would not carry it.
	Limited bool `json:"-"`
	// Ended says that the session came to its end.
	Ended bool `json:"-"`
}

// add joins the result of a session to those of the ones before it.
func (r *Result) add(o Result) {
	r.Converged, r.Complete, r.Ended, r.Limited = o.Converged, o.Complete, o.Ended, o.Limited
	if o.RootLocal != nil {
		r.RootLocal, r.RootRemote = o.RootLocal, o.RootRemote
	}
	r.Pulled.add(o.Pulled.Entries, o.Pulled.Bytes)
	r.Pushed.add(o.Pushed.Entries, o.Pushed.Bytes)
	c, n := &r.Reconcile, &o.Reconcile
	if c.Algo == "" || c.Algo == "none" {
		c.Algo = n.Algo
	}
	c.Rounds += n.Rounds
	c.BytesSent += n.BytesSent
	c.BytesReceived += n.BytesReceived
	c.Have, c.Need = max(c.Have, n.Have), max(c.Need, n.Need)
	if n.Overhead != nil {
		c.Overhead = n.Overhead
	}
	for _, f := range o.Forks {
		if !slices.Contains(r.Forks, f) {
			r.Forks = append(r.Forks, f)
		}
	}
	r.VerifyMS += o.VerifyMS
	r.Refused, r.RefusedThere, r.Reason = o.Refused, o.RefusedThere, o.Reason
}

// signature is how many bytes of an entry nobody can do without but its payload.
const signature = 64

func (s *session) result() Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &s.progress
	r := Result{
		Pulled: p.Pulled, Pushed: p.Pushed, Forks: s.forkList(), Refused: s.ended.refused, Reason: s.ended.reason, Limited: s.ended.limited,
		VerifyMS: float64(s.ended.verify.Microseconds()) / 1000,
		Reconcile: Reconcile{
			Algo: "none", Rounds: s.rounds, Have: p.Have, Need: p.Need,
			BytesSent:     beyond(s.bytes.sent.Load(), s.out.payload),
			BytesReceived: beyond(s.bytes.received.Load(), p.Pulled.Bytes),
		},
	}
	local, remote := s.own.root, s.theirs.root
	switch {
	case s.theirs.window == 0: // no hello came
		return r
	case s.atOnce():
		r.Ended, r.Complete = s.err == nil, s.equal()
	default:
		r.Reconcile.Algo = s.algo.String()
		if r.Ended = s.err == nil && s.peerFin != nil && s.ownFin != nil; r.Ended {
			local, remote = s.ownFin.root, s.peerFin.root
			r.Complete, r.RefusedThere = s.ownFin.complete, s.peerFin.refused
		}
	}
	r.Converged = r.Ended && local == remote
	r.RootLocal, r.RootRemote = new(hex.EncodeToString(local[:])), new(hex.EncodeToString(remote[:]))
	if n := p.Pulled.Entries + p.Pushed.Entries; n > 0 {
		logs := float64(max(s.own.logs, s.theirs.logs, 1))
		moved := float64(max(s.ended.logs, 1))
		bits := s.ended.minimum + moved*(math.Log2(max(1, logs/moved))+1.44)
		least := float64(n)*signature + bits/8
		r.Reconcile.Overhead = new(float64(r.Reconcile.BytesSent+r.Reconcile.BytesReceived) / least)
	}
	return r
}

// beyond is what is left of the bytes of a stream without those of payload.
func beyond(all int64, payload uint64) uint64 {
	return uint64(max(0, all-int64(min(payload, math.MaxInt64))))
}
