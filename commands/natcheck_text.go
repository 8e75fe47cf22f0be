package commands

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"dibber/netkit/nat"
	"dibber/netkit/natcheck"
)

// verdictText is a verdict in one plain sentence.
func verdictText(v nat.Verdict) string {
	switch v {
	case nat.Public:
		return "public: everybody can reach this host directly"
	case nat.Firewalled:
		return "firewalled: no NAT, but a firewall lets in only answers; peers get in when this host sends to them at the same moment"
	case nat.Easy:
		return "easy: behind a NAT that keeps one outside port for all; peers get in once this host has sent to them"
	case nat.PortRestricted:
		return "port-restricted: behind a NAT that keeps one outside port, but lets in only the exact ports this host has sent to"
	case nat.Hard:
		return "hard: behind a NAT with another outside port for each peer, so nobody can know which one to send to"
	case nat.UDPBlocked:
		return "udp-blocked: only TCP gets out of this network"
	case nat.Offline:
		return "offline: nothing gets out of this network"
	default:
		return "inconclusive: too few vantage points to say how this host is reached"
	}
}

// adviceText is a piece of advice as a sentence.
func adviceText(a nat.Advice) string {
	switch a {
	case nat.OpenPort:
		return "let the ports of --listen in at the firewall"
	case nat.MapPort:
		return "have the router forward the ports of --listen to this host"
	case nat.StaticPort:
		return "have the router keep the port of outgoing packets, where it can"
	case nat.UseRelay:
		return "keep a reservation on a relay: dibber serve --use-relay RELAY"
	case nat.UseTCP:
		return "use TCP: name relays, servers and peers by their TCP addresses, such as /ip4/ADDRESS/tcp/4001/p2p/PEERID"
	case nat.MoreServers:
		return "name another --server, at another address"
	case nat.VantageNeeded:
		return "name a --server that runs dibber serve --vantage: only such a one shows who gets in"
	case nat.SecondAddress:
		return "name a --server with a second address: it tells what one address cannot"
	case nat.CheckNetwork:
		return "look at the network itself: no server answers at all"
	case nat.IPv6Does:
		return "prefer IPv6, which does better here"
	case nat.LocalOnly:
		return "name a --server elsewhere: the one asked is in the same network, and shows what that does, not the internet"
	case nat.DoubleNAT:
		return "there is another NAT outside the router, perhaps the provider's: forwarding a port at the router does not help"
	case nat.ServerDisputed:
		return "a server contradicts the others; what it says is left out"
	case nat.AllowUDP:
		return "let UDP out at the firewall"
	case nat.TryTCP:
		return "name the --server by its TCP address as well, such as /ip4/ADDRESS/tcp/4001/p2p/PEERID: it may be that only TCP gets out"
	case nat.NoIPv4:
		return "name a --server by an IPv6 address, and leave out -4: this host has no IPv4 address"
	case nat.NoIPv6:
		return "name a --server by an IPv4 address, and leave out -6: this host has no IPv6 address"
	case nat.DialLocal:
		return "dial the other side's address in the local network"
	default:
		return string(a)
	}
}

// verdictText is the verdict in one plain sentence, with the cause where it is inconclusive
// for want of an address.
func (d natcheckDoc) verdictText() string {
	switch {
	case slices.Contains(d.Advice, nat.NoIPv4):
		return string(d.Verdict) + ": this host has no IPv4 address, and nothing else was to be used"
	case slices.Contains(d.Advice, nat.NoIPv6):
		return string(d.Verdict) + ": this host has no IPv6 address, and nothing else was to be used"
	}
	return verdictText(d.Verdict)
}

func (d natcheckDoc) renderText(t *text) {
	t.line("%s", d.verdictText())
	t.gap()
	for _, p := range d.paths() {
		if line := pathLineOf(p.path); line != "" {
			t.field(p.name, "%s", line)
		}
	}
	d.renderForecast(t)
	if m := d.PortMap; m != nil {
		t.field("port map", "%s", portMapText(*m))
	}
	if d.CGNAT != nil && *d.CGNAT {
		t.field("provider", "has a NAT of its own, outside the router (CGNAT)")
	}
	for i, a := range d.Advice {
		t.field(labelOnce(i, "advice"), "%s", adviceText(a))
	}
	for i, s := range d.Servers {
		if s.Error != nil {
			t.field(labelOnce(i, "failed"), "%s: %s", s.Peer, oneLine(*s.Error))
		}
	}
	for i, a := range d.Asserts {
		if !a.Holds {
			t.field(labelOnce(i, "false"), "%s", a.text())
		}
	}
	for i, c := range d.Diff {
		t.field(labelOnce(i, "differs"), "%s", c.text())
	}
	d.renderTables(t)
}

// renderForecast says with whom a direct connection is to be expected.
func (d natcheckDoc) renderForecast(t *text) {
	var answers []string
	peers := make(map[string][]string)
	for _, f := range d.Forecast {
		answer := string(f.Direct)
		if f.Direct == nat.Yes && *f.Transport == natcheck.TCP {
			answer = "yes, over TCP"
		}
		if peers[answer] == nil {
			answers = append(answers, answer)
		}
		peers[answer] = append(peers[answer], f.Peer)
	}
	rank := []string{"yes", "yes, over TCP", "no", "unknown"}
	slices.SortFunc(answers, func(a, b string) int { return slices.Index(rank, a) - slices.Index(rank, b) })
	for i, answer := range answers {
		whom := strings.Join(peers[answer], ", ")
		if len(answers) == 1 {
			whom = "with every kind of peer"
		}
		t.field(labelOnce(i, "direct"), "%s: %s", answer, whom)
	}
}

func (d natcheckDoc) renderTables(t *text) {
	if len(d.Addresses) > 0 {
		var rows [][]string
		for _, a := range d.Addresses {
			kind := a.Kind
			if a.Observed {
				kind += ", observed"
			}
			rows = append(rows, []string{a.Addr, kind, a.Reachability, shownText(a)})
		}
		t.gap()
		t.table([]string{"ADDRESS", "KIND", "REACHABLE", "SHOWN BY"}, rows)
	}
	if len(d.Relays) > 0 {
		var rows [][]string
		for _, r := range d.Relays {
			rows = append(rows, []string{r.Addr, phaseText(r.RTTms), yesNo(r.Reservation), relayText(r.Limits)})
		}
		t.gap()
		t.table([]string{"RELAY", "RTT MS", "RESERVATION", "LIMITS"}, rows)
	}
	if len(d.Evidence) == 0 {
		return
	}
	d.renderEvidence(t)
}

func (d natcheckDoc) renderEvidence(t *text) {
	var rows [][]string
	for _, e := range d.Evidence {
		local := e.Local.String()
		if e.Sample {
			local += " (sample)"
		}
		rows = append(rows, []string{e.Transport, local, e.Observed.String(), e.Remote.String(), e.By, phaseText(e.RTTms)})
	}
	t.gap()
	t.table([]string{"EVIDENCE", "FROM", "SEEN AS", "BY", "TOLD BY", "RTT MS"}, rows)
	if len(d.Trials) == 0 {
		return
	}
	rows = nil
	for _, e := range d.Trials {
		from, came := "a stranger's address", yesNo(&e.Came)
		if e.Known {
			from = "another port of an address written to"
		}
		if !e.Sure {
			came = "unknown"
		}
		rows = append(rows, []string{e.Family + " " + e.Transport, from, came, e.Server})
	}
	t.gap()
	t.table([]string{"TRIAL", "FROM", "GOT IN", "BY"}, rows)
}

// shownText is what servers showed of an address.
func shownText(a natcheck.Address) string {
	servers := func(n int) string {
		if n == 1 {
			return "1 server"
		}
		return fmt.Sprintf("%d servers", n)
	}
	var parts []string
	if n := len(a.ConfirmedBy); n > 0 {
		parts = append(parts, servers(n)+" got in")
	}
	if n := len(a.KeptOut); n > 0 {
		parts = append(parts, servers(n)+" did not get in")
	}
	switch {
	case len(parts) > 0:
		return strings.Join(parts, ", ")
	case a.Asked != nil:
		return servers(*a.Asked) + " asked, none could say"
	default:
		return "nobody asked"
	}
}

// pathLineOf is one path in one line; empty if nothing is known.
func pathLineOf(p nat.Path) string {
	if p.Works == nil {
		return ""
	}
	if !*p.Works {
		return "blocked"
	}
	parts := []string{"works"}
	add := func(name string, known bool, value func() string) {
		v := "unknown"
		if known {
			v = value()
		}
		parts = append(parts, name+" "+v)
	}
	add("nat", p.NAT != nil, func() string { return yesNo(p.NAT) })
	add("mapping", p.Mapping != nil, func() string { return string(*p.Mapping) })
	add("filtering", p.Filtering != nil, func() string { return string(*p.Filtering) })
	add("ports", p.PortPattern != nil, func() string { return string(*p.PortPattern) })
	add("hairpin", p.Hairpin != nil, func() string { return yesNo(p.Hairpin) })
	if len(p.Observed) > 0 {
		parts = append(parts, "seen at "+p.Observed[0].String())
	}
	if p.Lifetime != nil {
		parts = append(parts, "unused mappings live "+lifetimeText(*p.Lifetime))
	}
	if p.Static != nil {
		add("static", true, func() string { return yesNo(p.Static) })
	}
	return strings.Join(parts, "  ")
}

// lifetimeText is how long mappings live.
func lifetimeText(l nat.Lifetime) string {
	seconds := func(s *float64) string { return durationText(time.Duration(*s * float64(time.Second))) }
	switch {
	case l.AtLeastS == nil:
		return "less than " + seconds(l.LessThanS)
	case l.LessThanS == nil:
		return "at least " + seconds(l.AtLeastS)
	default:
		return seconds(l.AtLeastS) + " to " + seconds(l.LessThanS)
	}
}

func yesNo(b *bool) string {
	switch {
	case b == nil:
		return "unknown"
	case *b:
		return "yes"
	default:
		return "no"
	}
}

// portMapText is what came of asking the router for a port.
func portMapText(m natcheck.PortMap) string {
	if m.Protocol == nil {
		return "none: the router at " + m.Gateway + " gives none"
	}
	return fmt.Sprintf("%s  %s by %s  verified %s  double nat %s", m.External, *m.Protocol, m.Gateway, yesNo(m.Verified), yesNo(m.DoubleNAT))
}

// relayText is what a relay grants.
func relayText(l *natcheck.RelayLimits) string {
	if l == nil {
		return "–"
	}
	var parts []string
	if l.DurationS != nil {
		parts = append(parts, durationText(time.Duration(*l.DurationS*float64(time.Second))))
	}
	if l.Bytes != nil {
		parts = append(parts, sizeText(*l.Bytes))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
