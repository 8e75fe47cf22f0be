package commands

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"dibber/netkit/discover"
)

// discoverDoc is the document of discover.
type discoverDoc struct {
	discover.Result
	o *discoverOptions
}

func (d discoverDoc) quiet() string {
	if d.o.Output == outputAddrs {
		return strings.Join(d.addrs(), "\n")
	}
	var lines []string
	for _, p := range d.Peers {
		lines = append(lines, p.ID.String())
	}
	return strings.Join(lines, "\n")
}

// addrs are the addresses of all peers, save those that were probed in vain.
func (d discoverDoc) addrs() []string {
	var out []string
	for _, p := range d.Peers {
		if p.State != discover.Unreachable {
			out = append(out, p.Addrs...)
		}
	}
	return out
}

func (d discoverDoc) renderText(t *text) {
	if d.o.Output == outputAddrs {
		if !d.o.Watch { // else they were printed as they came
			for _, a := range d.addrs() {
				t.line("%s", a)
			}
		}
		return
	}
	if len(d.Peers) == 0 {
		t.line("no peers found")
	} else {
		t.table(d.peerTable())
	}
	t.gap()
	var rows [][]string
	for _, s := range d.Sources {
		rows = append(rows, []string{sourceText(s), strconv.Itoa(s.Count), phaseText(s.MS), sourceOutcome(s)})
	}
	t.table([]string{"SOURCE", "PEERS", "MS", "RESULT"}, rows)
	if len(d.Registrations) == 0 {
		return
	}
	t.gap()
	for i, r := range d.Registrations {
		outcome := r.State
		if r.Error != nil {
			outcome += ": " + plainText(*r.Error)
		} else if r.TTL != nil {
			outcome += " for " + secondsText(r.TTL)
		}
		t.field(labelOnce(i, "registered as"), "%s at %s  %s", plainText(r.Namespace), r.Server, outcome)
	}
}

// peerTable has a row for each address, the first with what is known of its peer.
func (d discoverDoc) peerTable() (header []string, rows [][]string) {
	header = []string{"PEER", "SOURCES", "NAMESPACE", "TTL", "ADDRESS"}
	if d.o.Probe {
		header = []string{"PEER", "SOURCES", "NAMESPACE", "TTL", "STATE", "RTT", "AGENT", "ADDRESS"}
	}
	for _, p := range d.Peers {
		row := []string{p.ID.String(), strings.Join(p.Sources, ","), orDash(p.Namespace), secondsText(p.TTL)}
		if d.o.Probe {
			row = append(row, string(p.State), phaseText(p.RTT), orDash(p.Agent))
		}
		addrs := p.Addrs
		if len(addrs) == 0 {
			addrs = []string{"–"}
		}
		for _, a := range addrs {
			full := make([]string, len(header)-1)
			copy(full, row)
			rows = append(rows, append(full, strings.TrimSuffix(a, "/p2p/"+p.ID.String())))
			row = nil
		}
	}
	return header, rows
}

// orDash is a text of others in a column; a dash for none.
func orDash(s *string) string {
	if s == nil {
		return "–"
	}
	return plainText(*s)
}

// secondsText is a time to live in a column.
func secondsText(s *int64) string {
	if s == nil {
		return "–"
	}
	const most = int64(1 << 33) // 272 years of seconds; servers may say more
	return durationText(time.Duration(min(*s, most)) * time.Second)
}

// plainText keeps what others wrote from steering the terminal.
func plainText(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.QuoteToGraphic(s)
	}
	return s
}

// sourceText names a source.
func sourceText(s discover.SourceResult) string {
	if s.Server == nil {
		return s.Source
	}
	return s.Source + " " + *s.Server
}

// sourceOutcome is how a source did.
func sourceOutcome(s discover.SourceResult) string {
	if s.Error != nil {
		return plainText(oneLine(*s.Error))
	}
	outcome := "ok"
	if s.Via != nil {
		outcome += ", by " + *s.Via
	}
	if s.More {
		outcome += ", more than are kept, the rest left out"
	}
	if s.Skipped > 0 {
		outcome += fmt.Sprintf(", %d entries broken", s.Skipped)
	}
	return outcome
}

// peerLines is a peer that came, changed or went, for those who watch.
type peerLines struct {
	discover.Peer
	kind discover.EventKind
}

func (p peerLines) line() string {
	sign := map[discover.EventKind]string{discover.PeerAdded: "+", discover.PeerUpdated: "~", discover.PeerExpired: "-"}[p.kind]
	line := fmt.Sprintf("%s %s  %s", sign, p.ID, strings.Join(p.Sources, ","))
	if p.kind == discover.PeerExpired {
		return line
	}
	if p.State != discover.Unprobed {
		line += "  " + string(p.State)
	}
	for _, a := range p.Addrs {
		line += "\n  " + strings.TrimSuffix(a, "/p2p/"+p.ID.String())
	}
	return line
}

// addrLines are the addresses of a peer that came or changed.
type addrLines struct{ discover.Peer }

func (p addrLines) line() string { return strings.Join(p.Addrs, "\n") }

// quietRegistration is a registrationLine that shows in --ndjson only.
type quietRegistration registrationLine
