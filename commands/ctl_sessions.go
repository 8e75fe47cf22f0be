package commands

import (
	"strconv"
	"time"

	"dibber/netkit/control"
	"dibber/netkit/replicate"
)

// sessionsDoc lists the sessions of replication that are under way.
type sessionsDoc struct {
	Count    *int                 `json:"count"`    // null: not known, as the list
	Sessions *[]replicate.Session `json:"sessions"` // the oldest first

	shownAlready
}

func newCtlSessions(*env) spec {
	o := new(ctlOptions)
	return ctlList(o, spec{
		name: "sessions", usage: "list the sessions of replication under way: with whom, and how far they are", doc: sessionsDoc{},
		about: `Most sessions find nothing to do and are over within one round trip; those that are listed have something to carry. What a
session has found to be missing grows while it compares.`,
		examples: []string{"dibber ctl sessions", "dibber ctl sessions --watch", "dibber ctl sessions --json"},
	}, func() lister { return new(sessionsDoc) }, func() string { return "/sessions" })
}

func (op *operator) sessions(control.Call) (any, error) {
	list, err := op.s.Sessions()
	return sessionsDoc{Count: new(len(list)), Sessions: &list}, err
}

func (d *sessionsDoc) renderText(t *text) {
	if d.yes || d.Sessions == nil {
		return
	}
	var rows [][]string
	for _, s := range *d.Sessions {
		by := "the peer"
		if s.Began {
			by = "this node"
		}
		rows = append(rows, []string{
			s.Peer.String(), by, s.Path, durationText(time.Since(s.Since).Round(time.Second)),
			countText(s.Pulled, s.Need), countText(s.Pushed, s.Have),
		})
	}
	t.table([]string{"PEER", "BEGUN BY", "PATH", "AGE", "PULLED", "PUSHED"}, rows)
}

// countText is what was carried one way, of what was found to be missing so far.
func countText(c replicate.Count, of uint64) string {
	return strconv.Itoa(c.Entries) + " of " + strconv.FormatUint(of, 10) + ", " + sizeText(c.Bytes)
}

func (d *sessionsDoc) line() string { return listLines(d) }

func (d sessionsDoc) quiet() string {
	return tokens(d.Sessions, func(s replicate.Session) string { return s.Peer.String() })
}
