package commands

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"dibber/netkit/route"
)

func (l stepLine) line() string {
	parts := []string{fmt.Sprintf("%3d  hop %d  %s", l.N, l.Hop, l.Peer), distanceText(l.CommonBits)}
	if l.Request != nil {
		parts = append(parts, *l.Request)
	}
	if l.DialMS != nil {
		parts = append(parts, "dial "+millisText(l.DialMS))
	}
	if l.QueryMS != nil {
		parts = append(parts, "query "+millisText(l.QueryMS))
	}
	if l.RTTms != nil {
		parts = append(parts, "round trip "+millisText(l.RTTms))
	}
	answer := string(l.Outcome)
	if l.Outcome == route.Answered {
		answer = answerText(l.Step)
	}
	parts = append(parts, answer)
	if l.Error != nil && l.Outcome != route.Cancelled {
		parts = append(parts, oneLine(*l.Error))
	}
	return strings.Join(parts, "  ")
}

// answerText is what a peer said.
func answerText(s route.Step) string {
	var said []string
	if s.Record != nil && *s.Record {
		said = append(said, "has the record")
	}
	if s.Providers != nil && *s.Providers > 0 {
		said = append(said, fmt.Sprintf("providers: %d", *s.Providers))
	}
	if s.Closer != nil {
		said = append(said, fmt.Sprintf("named %d peers", *s.Closer))
	}
	if len(said) == 0 {
		return "answered"
	}
	return strings.Join(said, ", ")
}

// distanceText is about how far apart two keys are, which have 256 bits.
func distanceText(common int) string {
	if common >= 256 {
		return "distance 0"
	}
	return fmt.Sprintf("distance 2^%d", 255-common)
}

// sum shows how a lookup went in one line.
func (d *lookupDoc) sum(t *text) {
	if l := d.Lookup; l != nil {
		t.field("lookup", "%s: %d asked, %d answered, %d failed, %d hops; dials %.1f ms, queries %.1f ms",
			millisText(&l.MS), l.Asked, l.Answered, l.Failed, l.Hops, l.DialMS, l.QueryMS)
	}
}

func (d *findPeerDoc) quiet() string { return strings.Join(d.Addrs, "\n") }

func (d *findPeerDoc) renderText(t *text) {
	for i, a := range d.Addrs {
		t.field(labelOnce(i, "address"), "%s", a)
	}
	d.sum(t)
	if len(d.Addrs) > 0 {
		t.field("next", "dibber dial %s", d.Addrs[0])
	}
}

func (d *closestDoc) quiet() string { return addrsOf(d.Peers) }

func (d *closestDoc) renderText(t *text) {
	if len(d.Peers) > 0 {
		t.table([]string{"PEER", "DISTANCE", "ADDRESS"}, peerRows(d.Peers))
		t.gap()
	}
	d.sum(t)
}

// peerRows are peers with their distances.
func peerRows(list []route.PeerInfo) (rows [][]string) {
	for _, p := range list {
		rows = append(rows, []string{p.Peer.String(), strings.TrimPrefix(distanceText(p.CommonBits), "distance "), firstOf(p.Addrs)})
	}
	return rows
}

// firstOf is the first of some words, or what stands for none.
func firstOf(list []string) string {
	if len(list) == 0 {
		return "–"
	}
	return list[0]
}

// keptText counts what became of what was to be kept.
func keptText(k route.Kept) string {
	s := fmt.Sprintf("%d peers", k.Kept)
	if k.Refused > 0 {
		s += fmt.Sprintf(", refused by %d", k.Refused)
	}
	if k.Failed > 0 {
		s += fmt.Sprintf(", no answer from %d", k.Failed)
	}
	return s
}

func (d *provideDoc) quiet() string { return fmt.Sprint(d.Kept.Kept) }

func (d *provideDoc) renderText(t *text) {
	if d.Provider == nil {
		return
	}
	t.field("provider", "%s", *d.Provider)
	t.field("kept by", "%s", keptText(d.Kept))
	d.sum(t)
	if d.Kept.Kept > 0 {
		t.field("next", "dibber dht find-providers %s, with the same --bootstrap", d.CID)
	}
}

func (l providerLine) line() string { return fmt.Sprintf("provider %s  %s", l.Peer, firstOf(l.Addrs)) }

func (d *findProvidersDoc) quiet() string {
	var out []string
	for _, p := range d.Providers {
		out = append(out, p.Peer.String())
	}
	return strings.Join(out, "\n")
}

func (d *findProvidersDoc) renderText(t *text) {
	t.field("providers", "%d", d.Count)
	d.sum(t)
}

// fields shows a record.
func (d *recordDoc) fields(t *text) {
	if d.Author == nil {
		return
	}
	t.field("key", "%s", d.Key)
	switch {
	case d.Value != nil:
		t.field("value", "%s", plainText(*d.Value))
	case d.ValueB64 != nil:
		t.field("value", "%s in base64", base64.StdEncoding.EncodeToString(*d.ValueB64))
	}
	t.field("signed by", "%s", *d.Author)
	if d.Seq != nil {
		t.field("number", "%d", *d.Seq)
	}
	if d.Expires != nil {
		t.field("expires", "%s", d.Expires.UTC().Format(time.RFC3339))
	}
}

func (d *putDoc) quiet() string { return d.Key }

func (d *putDoc) renderText(t *text) {
	d.fields(t)
	if d.Lookup != nil {
		t.field("kept by", "%s", keptText(d.Kept))
	}
	d.sum(t)
	if d.Kept.Kept > 0 {
		t.field("next", "dibber dht get %s, with the same --bootstrap", d.Key)
	}
}

func (d *getDoc) quiet() string {
	switch {
	case d.Value != nil:
		return *d.Value
	case d.ValueB64 != nil:
		return base64.StdEncoding.EncodeToString(*d.ValueB64)
	}
	return ""
}

func (d *getDoc) renderText(t *text) {
	d.fields(t)
	d.sum(t)
}

func (l walkLine) line() string {
	return fmt.Sprintf("walk %d  %s: %d asked, %d answered, %d failed, %d hops; table of %d",
		l.N, millisText(&l.MS), l.Asked, l.Answered, l.Failed, l.Hops, l.Size)
}

func (d *walkDoc) renderText(t *text) {
	t.field("met", "%d peers", d.Met)
	(*tableDoc)(d).size(t)
}

// size shows how large table and network are.
func (d *tableDoc) size(t *text) {
	t.field("table", "%d peers", d.Size)
	if d.NetworkSize != nil {
		t.field("network", "about %d servers", *d.NetworkSize)
	} else {
		t.field("network", "too few lookups to say how large it is")
	}
}

func (d *tableDoc) quiet() string {
	var list []route.PeerInfo
	for _, e := range d.Table {
		list = append(list, e.PeerInfo)
	}
	return addrsOf(list)
}

func (d *tableDoc) renderText(t *text) {
	var rows [][]string
	for _, e := range d.Table {
		rows = append(rows, []string{
			e.Peer.String(), strings.TrimPrefix(distanceText(e.CommonBits), "distance "), millisText(e.RTTms), agoText(e.QueryMS), firstOf(e.Addrs),
		})
	}
	if len(rows) > 0 {
		t.table([]string{"PEER", "DISTANCE", "ROUND TRIP", "ANSWERED", "ADDRESS"}, rows)
		t.gap()
	}
	d.size(t)
}

// agoText is how long ago something was.
func agoText(ms *float64) string {
	if ms == nil {
		return "never"
	}
	return fmt.Sprintf("%.1f s ago", *ms/1000)
}
