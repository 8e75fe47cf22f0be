package commands

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"dibber/netkit/relay"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
)

// maxRegistrations is how many registrations are listed at most.
const maxRegistrations = 10_000

// peersDoc lists who is connected.
type peersDoc struct {
	Count *int          `json:"count"` // null: not known, as the list
	Peers *[]serve.Peer `json:"peers"`

	shownAlready
}

// reservationsDoc lists the reservations on the node's relay.
type reservationsDoc struct {
	Count        *int          `json:"count"`
	Reservations *[]relay.Slot `json:"reservations"` // the oldest first

	shownAlready
}

// circuitsDoc lists the circuits that the node's relay carries.
type circuitsDoc struct {
	Count    *int             `json:"count"`
	Circuits *[]relay.Circuit `json:"circuits"` // the oldest first

	shownAlready
}

// registrationsDoc lists the registrations that the node keeps for others.
type registrationsDoc struct {
	Count         *int               `json:"count"`
	Total         *int               `json:"total"`         // in all namespaces, listed or not
	Registrations *[]registrationRow `json:"registrations"` // those that stand longest without a refresh first

	shownAlready
}

// registrationRow is a registration.
type registrationRow struct {
	Namespace string   `json:"namespace"`
	Peer      peer.ID  `json:"peer"`
	Flavour   string   `json:"flavour"` // of its record: standard or legacy
	TTLs      *uint64  `json:"ttl_s"`   // left
	Addrs     []string `json:"addrs"`
}

func newCtlPeers(*env) spec {
	o := new(ctlOptions)
	return ctlList(o, spec{
		name: "peers", usage: "list who is connected, and how", doc: peersDoc{},
		examples: []string{"dibber ctl peers", "dibber ctl peers --watch", "dibber ctl peers --json"},
	}, func() lister { return new(peersDoc) }, func() string { return "/peers" })
}

func newCtlReservations(*env) spec {
	o := new(ctlOptions)
	return ctlList(o, spec{
		name: "reservations", usage: "list who can be reached through the node's relay", doc: reservationsDoc{},
		examples: []string{"dibber ctl reservations", "dibber ctl reservations --watch -i 5s", "dibber ctl reservations --json"},
	}, func() lister { return new(reservationsDoc) }, func() string { return "/reservations" })
}

func newCtlCircuits(*env) spec {
	o := new(ctlOptions)
	return ctlList(o, spec{
		name: "circuits", usage: "list the circuits that the node relays: who with whom, what they carried and may carry yet", doc: circuitsDoc{},
		examples: []string{"dibber ctl circuits", "dibber ctl circuits --watch", "dibber ctl circuits --watch --ndjson"},
	}, func() lister { return new(circuitsDoc) }, func() string { return "/circuits" })
}

func newCtlRegistrations(*env) spec {
	o := new(ctlOptions)
	return ctlList(o, spec{
		name: "registrations", usage: "list who is registered at the node's rendezvous point", doc: registrationsDoc{},
		examples: []string{"dibber ctl registrations", "dibber ctl registrations --namespace chat", "dibber ctl registrations --limit 10 --watch"},
		flags: []cli.Flag{
			&cli.StringFlag{Name: "namespace", Usage: "list those in `NS` only", Destination: &o.Namespace},
			&cli.IntFlag{Name: "limit", Usage: fmt.Sprintf("list at most `N`; 0 means %d", maxRegistrations), Destination: &o.Limit},
		},
	}, func() lister { return new(registrationsDoc) }, func() string {
		q := url.Values{}
		if o.Namespace != "" {
			q.Set("namespace", o.Namespace)
		}
		if o.Limit > 0 {
			q.Set("limit", strconv.Itoa(o.Limit))
		}
		return "/registrations?" + q.Encode()
	})
}

// ageText is a time span in whole seconds.
func ageText(ms float64) string {
	return durationText(time.Duration(ms * float64(time.Millisecond)).Round(time.Second))
}

// restText is what is left of a limit.
func restText[T float64 | int64](left *T, text func(T) string) string {
	if left == nil {
		return "any"
	}
	return text(*left)
}

func bytesText(n int64) string { return sizeText(uint64(max(n, 0))) }

func (d *peersDoc) renderText(t *text) {
	if d.yes || d.Peers == nil {
		return
	}
	var rows [][]string
	for _, p := range *d.Peers {
		for i, c := range p.Conns {
			path := c.Path
			if c.Limited {
				path += ", limited"
			}
			rows = append(rows, []string{
				labelOnce(i, p.Peer.String()), c.Direction, path, c.Transport, ageText(c.AgeMS), strconv.Itoa(c.Streams),
				plainText(c.Addr), plainText(labelOnce(i, wordOr(p.Agent))),
			})
		}
	}
	t.table([]string{"PEER", "DIR", "PATH", "TRANSPORT", "AGE", "STREAMS", "ADDRESS", "AGENT"}, rows)
}

func (d *peersDoc) line() string { return listLines(d) }

func (d peersDoc) quiet() string {
	return tokens(d.Peers, func(p serve.Peer) string { return p.Peer.String() })
}

func (d *reservationsDoc) renderText(t *text) {
	if d.yes || d.Reservations == nil {
		return
	}
	var rows [][]string
	for _, r := range *d.Reservations {
		rows = append(rows, []string{
			r.Peer.String(), r.Expires.Format(time.TimeOnly), r.Opened.Format(time.DateTime), strconv.Itoa(r.Circuits), r.Transport, plainText(r.Addr),
		})
	}
	t.table([]string{"PEER", "UNTIL", "SINCE", "CIRCUITS", "TRANSPORT", "ADDRESS"}, rows)
}

func (d *reservationsDoc) line() string { return listLines(d) }

func (d reservationsDoc) quiet() string {
	return tokens(d.Reservations, func(r relay.Slot) string { return r.Peer.String() })
}

func (d *circuitsDoc) renderText(t *text) {
	if d.yes || d.Circuits == nil {
		return
	}
	var rows [][]string
	for _, c := range *d.Circuits {
		rows = append(rows, append([]string{strconv.FormatUint(c.ID, 10), c.Source.String(), c.Destination.String()}, circuitCells(c)...))
	}
	t.table([]string{"CIRCUIT", "FROM", "TO", "SENT", "RECEIVED", "AGE", "TIME LEFT", "MAY SEND", "MAY RECEIVE", "TRANSPORTS"}, rows)
}

// circuitCells are what a circuit carried and may carry yet.
func circuitCells(c relay.Circuit) []string {
	return []string{
		bytesText(c.Sent), bytesText(c.Received), ageText(c.AgeMS), restText(c.LeftMS, ageText),
		restText(c.SentLeft, bytesText), restText(c.ReceivedLeft, bytesText), c.SourceTransport + " → " + c.DestinationTransport,
	}
}

func (d *circuitsDoc) line() string { return listLines(d) }

func (d circuitsDoc) quiet() string {
	return tokens(d.Circuits, func(c relay.Circuit) string { return strconv.FormatUint(c.ID, 10) })
}

func (d *registrationsDoc) renderText(t *text) {
	if d.yes || d.Registrations == nil {
		return
	}
	var rows [][]string
	for _, r := range *d.Registrations {
		left := "–"
		if r.TTLs != nil {
			left = durationText(time.Duration(*r.TTLs) * time.Second)
		}
		row := []string{plainText(r.Namespace), r.Peer.String(), r.Flavour, left}
		for i, a := range append(r.Addrs, "")[:max(len(r.Addrs), 1)] {
			if i > 0 {
				row = []string{"", "", "", ""}
			}
			rows = append(rows, append(row, plainText(a)))
		}
	}
	t.table([]string{"NAMESPACE", "PEER", "RECORD", "TTL", "ADDRESS"}, rows)
	if *d.Count < *d.Total {
		t.line("%d of %d", *d.Count, *d.Total)
	}
}

func (d *registrationsDoc) line() string { return listLines(d) }

func (d registrationsDoc) quiet() string {
	return tokens(d.Registrations, func(r registrationRow) string { return r.Peer.String() })
}

// tokens is one a line of a list, which may not be known.
func tokens[T any](list *[]T, token func(T) string) string {
	if list == nil {
		return ""
	}
	words := make([]string, len(*list))
	for i, v := range *list {
		words[i] = token(v)
	}
	return strings.Join(words, "\n")
}
