package commands

import (
	"fmt"
	"slices"
	"strings"

	"dibber/netkit/nat"
	"dibber/netkit/punch"
)

func (d holepunchDoc) quiet() string {
	if d.Addr != nil {
		return *d.Addr
	}
	return d.Outcome
}

func (d holepunchDoc) renderText(t *text) { renderPunch(t, d.Report) }

func (d holepunchManyDoc) quiet() string { return "" }

func (d holepunchManyDoc) renderText(t *text) {
	t.gap()
	var rows [][]string
	for _, s := range d.Tally {
		kind := "all"
		if s.Transport != "" {
			kind = s.Transport + " over " + s.Family
		}
		rows = append(rows, []string{
			kind, fmt.Sprint(s.Tried), fmt.Sprint(s.Direct),
			fmt.Sprintf("%.0f %% (%.0f to %.0f)", 100*float64(s.Direct)/float64(max(s.Tried, 1)), 100*s.Low, 100*s.High),
		})
	}
	t.table([]string{"PATHS", "TRIED", "DIRECT", "SHARE (95 % CONFIDENCE)"}, rows)
}

// renderPunch shows one punch: its outcome in a sentence, then what both ends did.
func renderPunch(t *text, r punch.Report) {
	t.line("%s", punchSentence(r))
	renderSteps(t, r)
	if r.RTTRelayedMS == nil && r.Verified == nil && r.Plan == nil {
		return
	}
	t.gap()
	if p := r.Plan; p != nil {
		t.field("plan", "%s (%s): %s here, %s there", p.Method, strings.ReplaceAll(string(p.Why), "-", " "), natText(r.LocalNAT), natText(r.RemoteNAT))
	}
	if r.RTTRelayedMS != nil {
		t.field("relay", "%s a round trip through it", millisText(r.RTTRelayedMS))
	}
	if v := r.Verified; v != nil {
		proof := fmt.Sprintf("%.2f ms a round trip, %d bytes carried", v.RTTms, v.Bytes)
		switch {
		case !r.Relayed:
			proof += ", without a relayed connection"
		case v.RelayClosed:
			proof += ", the last of them with the relayed connection closed"
		}
		t.field("direct", "%s", proof)
	}
	if r.HeldMS != nil {
		t.field("held", "%s", millisText(r.HeldMS))
	}
}

// natText is a kind of NAT, as far as it is known.
func natText(kind *string) string {
	if kind == nil {
		return "a NAT that is not known in full"
	}
	return *kind
}

// punchSentence is the outcome in plain words.
func punchSentence(r punch.Report) string {
	switch r.Outcome {
	case punch.AlreadyDirect:
		return fmt.Sprintf("%s  was connected directly already, via %s", r.Peer, *r.Addr)
	case punch.Direct:
		after := "the offer"
		if r.Relayed {
			after = "the relayed connection"
		}
		return fmt.Sprintf("%s  direct via %s, %s after %s", r.Peer, *r.Addr, millisText(r.DirectMS), after)
	}
	return fmt.Sprintf("%s  not direct: %s", r.Peer, punchReason(r.View))
}

// punchReason is why a punch failed, in a few words. An end that only did less than it can says nothing of the NATs.
func punchReason(v punch.View) string {
	if v.Cause(nat.Outlook{Direct: nat.Unknown}) == punch.CauseLimited {
		return "only DCUtR was tried, as one side does more with the same peer only now and then"
	}
	return strings.ReplaceAll(*v.Reason, "-", " ")
}

// renderSteps lists the steps of both ends.
func renderSteps(t *text, r punch.Report) {
	if len(r.Timeline) == 0 {
		return
	}
	var rows [][]string
	for _, s := range r.Timeline {
		who := "here"
		if s.Side != r.Role {
			who = "there"
		}
		detail := strings.Join(s.Addrs, " ")
		if s.Error != nil {
			detail = oneLine(*s.Error)
		}
		what := strings.NewReplacer(".", " ", "-", " ").Replace(s.Event)
		rows = append(rows, []string{fmt.Sprintf("%+.1f", s.AtMS), who, plainText(what), plainText(detail)})
	}
	t.gap()
	t.table([]string{"MS", "WHERE", "STEP", "DETAIL"}, rows)
	if dropped := droppedText(r); dropped != "" {
		t.gap()
		t.field("not dialled", "%s", dropped)
	}
}

// droppedText names the addresses that the peer offered and that were not dialled.
func droppedText(r punch.Report) string {
	var parts []string
	for _, d := range r.Dropped {
		part := fmt.Sprintf("%s (%s)", d.Addr, strings.ReplaceAll(d.Reason, "-", " "))
		if !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ", ")
}
