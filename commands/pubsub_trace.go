package commands

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"dibber/netkit/gossip"
)

// copyLine is a copy of a message, with --trace.
type copyLine struct {
	From    string  `json:"from"`
	Topic   string  `json:"topic"`
	Seq     *uint64 `json:"seq"`
	Via     string  `json:"via"`
	First   bool    `json:"first"`
	DelayMS float64 `json:"delay_ms"` // after the first copy
	How     string  `json:"how"`      // eager: pushed; lazy: fetched after it was announced
}

// tracedPeer is what a neighbour did for this node, with --trace.
type tracedPeer struct {
	Peer       string  `json:"peer"`
	First      int     `json:"first"`        // messages that it delivered first
	Duplicates int     `json:"duplicates"`   // copies that came later
	Lazy       int     `json:"lazy"`         // of both, those that were fetched
	MeanMS     float64 `json:"mean_late_ms"` // of its duplicates, after the first copy

	late time.Duration
}

// traceDoc sums up the copies.
type traceDoc struct {
	Messages   int          `json:"messages"`
	Duplicates int          `json:"duplicates"`
	Lazy       int          `json:"lazy"`
	Peers      []tracedPeer `json:"peers"` // who delivered most first; 1024 at most
}

// happened tells of copies and of the mesh.
func (s *subscriber) happened(e gossip.Event) {
	if e.Kind != gossip.Copied {
		tellMesh(s.out, e, false)
		return
	}
	if !slices.Contains(s.o.Topics, e.Topic) {
		return
	}
	c := copyLine{From: e.Copy.From.String(), Topic: e.Topic, Seq: e.Copy.Seq, Via: e.Copy.Via.String(), First: e.Copy.First, DelayMS: millis(e.Copy.Delay), How: e.Copy.How}
	s.mu.Lock()
	s.count(c, e.Copy.Delay)
	s.mu.Unlock()
	s.out.emit("copy", c, s.raw == nil)
}

// count adds a copy. The caller holds the lock.
func (s *subscriber) count(c copyLine, late time.Duration) {
	p := s.trace[c.Via]
	if p == nil {
		p = &tracedPeer{Peer: c.Via}
		if len(s.trace) < maxTraced {
			s.trace[c.Via] = p
		}
	}
	if c.First {
		s.all.Messages++
		p.First++
	} else {
		s.all.Duplicates++
		p.Duplicates++
		p.late += late
	}
	if c.How == gossip.Lazy {
		s.all.Lazy++
		p.Lazy++
	}
}

// traced sums up the copies; nil without --trace. The caller holds the lock.
func (s *subscriber) traced() *traceDoc {
	if !s.o.Trace {
		return nil
	}
	d := new(s.all)
	for _, p := range s.trace {
		if p.Duplicates > 0 {
			p.MeanMS = millis(p.late / time.Duration(p.Duplicates))
		}
		d.Peers = append(d.Peers, *p)
	}
	slices.SortFunc(d.Peers, func(a, b tracedPeer) int {
		if a.First != b.First {
			return b.First - a.First
		}
		return slices.Compare([]byte(a.Peer), []byte(b.Peer))
	})
	return d
}

func (c copyLine) line() string {
	seq := "-"
	if c.Seq != nil {
		seq = strconv.FormatUint(*c.Seq, 10)
	}
	if c.First {
		return fmt.Sprintf("  %s  first by %s, %s", seq, c.Via, c.How)
	}
	return fmt.Sprintf("  %s  again by %s, %s, %.1f ms later", seq, c.Via, c.How, c.DelayMS)
}

func (d subDoc) renderText(t *text) {
	if d.Trace == nil {
		return
	}
	t.line("%d messages, %d duplicates, %d lazy", d.Trace.Messages, d.Trace.Duplicates, d.Trace.Lazy)
	var rows [][]string
	for _, p := range d.Trace.Peers {
		rows = append(rows, []string{p.Peer, strconv.Itoa(p.First), strconv.Itoa(p.Duplicates), strconv.Itoa(p.Lazy), fmt.Sprintf("%.1f", p.MeanMS)})
	}
	if len(rows) > 0 {
		t.table([]string{"neighbour", "first", "duplicates", "lazy", "mean ms late"}, rows)
	}
}
