package commands

import (
	"fmt"
	"strings"
	"time"

	"dibber/netkit/dial"
	"dibber/netkit/ping"
)

func (d dialDoc) renderText(t *text) {
	if d.Results == nil {
		renderDial(t, *d.Result)
		return
	}
	for _, r := range d.Results {
		t.gap()
		renderDial(t, r)
	}
}

// renderDial shows one peer: the verdict, the waterfall, the stack, the peer.
func renderDial(t *text, r dial.Result) {
	switch {
	case r.Peer == nil:
		t.line("not connected: nobody told who is there")
	case r.Changes != nil && r.ConnectedMS != nil:
		t.line("%s  %s; first connected after %s, path changed since: %s", *r.Peer, nowText(r), millisText(r.ConnectedMS), timesText(len(*r.Changes)+r.ChangesOmitted))
	case r.Path == nil && r.ConnectedMS != nil:
		t.line("%s  not connected any more; first connected after %s", *r.Peer, millisText(r.ConnectedMS))
	case r.Path == nil:
		t.line("%s  not connected", *r.Peer)
	case r.ConnectedMS != nil:
		t.line("%s  connected in %s, %s", *r.Peer, millisText(r.ConnectedMS), pathText(r))
	}
	if len(r.Attempts) > 0 {
		t.gap()
		t.table([]string{"ADDRESS", "START", "DNS", "TRANSPORT", "SECURITY", "MUX", "TOTAL", "RESULT"}, attemptRows(r.Attempts))
	}
	renderFollowed(t, r)
	if r.Path == nil {
		return
	}
	t.gap()
	renderStack(t, r)
	if r.Identify != nil {
		renderIdentify(t, *r.Identify)
	}
	if r.Ping != nil {
		t.field("ping", "%s", pingText(*r.Ping))
	}
}

// nowText is the path at the end of a watch.
func nowText(r dial.Result) string {
	if r.Path == nil {
		return "not connected any more"
	}
	return pathText(r)
}

func timesText(n int) string {
	switch n {
	case 0:
		return "never"
	case 1:
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// renderFollowed shows what became of the path while it was followed.
func renderFollowed(t *text, r dial.Result) {
	if r.Changes == nil || r.Paths == nil {
		return
	}
	if len(*r.Changes) > 0 {
		var rows [][]string
		for _, c := range *r.Changes {
			rows = append(rows, []string{
				fmt.Sprintf("+%.1f", c.AtMS/1000), c.From, c.To, downText(c.DownMS), causeText(c.Cause, c.Detail), c.Addr,
			})
		}
		t.gap()
		t.table([]string{"SECONDS", "FROM", "TO", "DOWN", "CAUSE", "ADDRESS"}, rows)
	}
	if r.ChangesOmitted > 0 {
		t.line("%d earlier changes are not shown", r.ChangesOmitted)
	}
	var rows [][]string
	for _, p := range *r.Paths {
		loss := "–"
		if p.Loss != nil {
			loss = fmt.Sprintf("%.1f%%", *p.Loss*100)
		}
		rows = append(rows, []string{
			p.Path, fmt.Sprintf("%.1f s", p.UpMS/1000), fmt.Sprintf("%d/%d", p.Received, p.Sent), loss,
			phaseText(p.P50), phaseText(p.P95), phaseText(p.Max),
		})
	}
	t.gap()
	t.table([]string{"PATH", "IN USE", "PINGS", "LOSS", "P50", "P95", "MAX"}, rows)
}

// changeText says why a path changed and how long none worked.
func changeText(from string, cause, detail *string, down *float64) string {
	s := "after " + from + ": " + causeText(cause, detail)
	if down != nil && *down > 0 {
		s += ", down " + downText(down)
	}
	return s
}

func causeText(cause, detail *string) string {
	switch {
	case cause == nil:
		return "cause unknown"
	case detail != nil:
		return plainText(oneLine(*detail)) // which says more than the word
	}
	return strings.ReplaceAll(*cause, "-", " ")
}

func downText(ms *float64) string {
	if ms == nil {
		return "–"
	}
	return fmt.Sprintf("%.1f s", *ms/1000)
}

// pathText is the path in one phrase.
func pathText(r dial.Result) string {
	s := *r.Path
	if r.Limits != nil {
		s += ", limited"
	}
	return s + " via " + *r.Addr
}

func attemptRows(attempts []dial.Attempt) [][]string {
	var rows [][]string
	for _, a := range attempts {
		result := strings.ReplaceAll(a.Outcome, "_", " ")
		if a.Reason != nil {
			result += ": " + strings.ReplaceAll(string(*a.Reason), "-", " ")
		}
		start := "–"
		if a.StartMS != nil {
			start = fmt.Sprintf("+%.1f", *a.StartMS)
		}
		name := a.Addr
		if a.ResolvedFrom != nil {
			name += "  from " + *a.ResolvedFrom
		}
		rows = append(rows, []string{
			name, start, phaseText(a.DNSms), phaseText(a.TransportMS), phaseText(a.SecurityMS),
			phaseText(a.MuxMS), phaseText(a.TotalMS), result,
		})
	}
	return rows
}

func renderStack(t *text, r dial.Result) {
	stack := *r.Transport
	if r.Security != nil {
		stack += "  security " + *r.Security
	}
	if r.Muxer != nil {
		stack += "  muxer " + *r.Muxer
		if *r.EarlyMuxer {
			stack += " (early)"
		}
	}
	t.field("stack", "%s", stack)
	if l := r.Limits; l != nil {
		t.field("limits", "%s", limitsText(*l))
	}
	if u := r.Upgrade; u != nil {
		if u.OK {
			t.field("upgrade", "direct after %s", millisText(u.MS))
		} else {
			t.field("upgrade", "none: %s", strings.ReplaceAll(*u.Reason, "-", " "))
		}
	}
}

// limitsText says what the relay grants and what is left of it.
func limitsText(l dial.Limits) string {
	var parts []string
	if l.DurationS > 0 {
		s := durationText(time.Duration(l.DurationS * float64(time.Second)))
		if l.DurationLeftS != nil {
			s += fmt.Sprintf(" (%.0f s left)", *l.DurationLeftS)
		}
		parts = append(parts, s)
	}
	if l.Bytes > 0 {
		s := sizeText(l.Bytes)
		if l.BytesLeft != nil {
			s += " (" + sizeText(*l.BytesLeft) + " left)"
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, ", ")
}

func renderIdentify(t *text, id dial.Identify) {
	t.field("agent", "%s", id.Agent)
	t.field("protocol", "%s  %d protocols", id.ProtocolVersion, len(id.Protocols))
	if id.KeyType != nil {
		record := "no signed record"
		if id.SignedRecord {
			record = "signed record"
		}
		t.field("key", "%s  %s", *id.KeyType, record)
	}
	if id.ObservedAddr != nil {
		t.field("sees us at", "%s", *id.ObservedAddr)
	}
}

func pingText(p ping.Result) string {
	s := fmt.Sprintf("%d/%d", p.Received, p.Sent)
	if p.Received > 0 {
		s += fmt.Sprintf("  min/avg/max/p95 %.2f/%.2f/%.2f/%.2f ms", *p.Min, *p.Avg, *p.Max, *p.P95)
	}
	return s
}

// phaseText is a time in a column; a dash for one that was not measured.
func phaseText(v *float64) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprintf("%.1f", *v)
}

// millisText is a time in a sentence.
func millisText(v *float64) string {
	if v == nil {
		return "unknown"
	}
	return fmt.Sprintf("%.1f ms", *v)
}

// durationText leaves out the zero parts that time.Duration prints.
func durationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// sizeText is a number of bytes in binary units.
func sizeText(n uint64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
