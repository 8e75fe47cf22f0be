package commands

import (
	"strings"
	"time"

	"dibber/netkit/nat"
	"dibber/netkit/punch"
)

// whyText is the reason of a forecast for two sides as a part of a sentence.
func whyText(w nat.Why) string {
	switch w {
	case nat.WhyPeerOpen:
		return "the second lets everybody in"
	case nat.WhyOpen:
		return "the first lets everybody in"
	case nat.WhyTogether:
		return "each gets in once the other has sent to it, so both do at the same moment"
	case nat.WhySpray:
		return "one side tries many ports of the other until one fits"
	case nat.WhyPredict:
		return "the ports that both NATs give out next can be told in advance"
	case nat.WhyTooMany:
		return "neither side can know, or try out in time, at which port the other will be"
	case nat.WhyUDPBlocked:
		return "no UDP gets out on one side"
	case nat.WhyTCPBlocked:
		return "no TCP gets out on one side"
	case nat.WhyTooLittle:
		return "mapping or filtering was not found out, or nothing was looked at on both sides"
	case nat.WhyNoPattern:
		return "how one NAT chooses its ports was not found out"
	case nat.WhyConnected:
		return "they are"
	case nat.WhySameNAT:
		return "both are behind the same outside address, which does not let them in again"
	default:
		return string(w)
	}
}

// blockText is what stands in the way on one side.
func blockText(b nat.Block) string {
	switch b {
	case nat.BlockUDP:
		return "no UDP gets out"
	case nat.BlockTCP:
		return "no TCP gets out"
	case nat.BlockPorts:
		return "the NAT shows each peer another outside port"
	case nat.BlockRandom:
		return "it chooses outside ports at random"
	case nat.BlockFilter:
		return "only the exact ports that were written to get in"
	case nat.BlockSameNAT:
		return "the other side is behind the same outside address"
	case nat.BlockUnknown:
		return "mapping or filtering was not found out"
	case nat.BlockPattern:
		return "how outside ports are chosen was not found out"
	case nat.BlockNoPath:
		return "no family and transport was looked at on both sides"
	default:
		return string(b)
	}
}

// punchCauseText is why a punch failed.
func punchCauseText(c punch.Cause) string {
	switch c {
	case punch.CauseNATs:
		return "these two NATs, as was to be expected"
	case punch.CauseSameNAT:
		return "both were behind one outside address, whose router sends nothing back in: dial the other side's address in the local network"
	case punch.CauseChanged:
		return "the NATs were others than at the natchecks: look again on both sides"
	case punch.CauseLimited:
		return "one side does more than DCUtR with the other only so often, once a minute unless told otherwise, so that only DCUtR was tried: wait, or give its dibber holepunch listen --every 1s"
	case punch.CauseNoExchange:
		return "the two did not tell each other their NATs, so that only DCUtR was tried: both need a relay that runs dibber serve --vantage"
	case punch.CauseUnexplained:
		return "not known: it was to be expected that it succeeds"
	case punch.CauseUnforeseen:
		return "not known: too little is known of both sides"
	default:
		return strings.ReplaceAll(string(c), "-", " ")
	}
}

func (d explainDoc) quiet() string { return string(d.Direct) }

func (d explainDoc) renderText(t *text) {
	t.line("direct: %s: %s", d.Direct, whyText(d.Why))
	if d.Family != nil {
		t.field("decided by", "%s %s", *d.Family, *d.Transport)
	}
	if d.Path != nil {
		t.field("asked", "over a connection that is %s", *d.Path)
	}
	if p := d.Punch; p != nil {
		t.field("punch", "%s", plainText(p.Outcome))
		if p.Cause != nil {
			t.field("cause", "%s", plainText(punchCauseText(punch.Cause(*p.Cause))))
		}
	}
	for _, s := range d.Sides {
		t.gap()
		s.renderText(t)
	}
}

func (s explainSide) renderText(t *text) {
	kind := "unknown"
	if s.NAT != nil {
		kind = *s.NAT
	}
	t.line("%s", plainText(s.Name))
	age := "at an unknown time"
	if s.AgeMS != nil {
		age = durationText(time.Duration(*s.AgeMS*float64(time.Millisecond)).Round(time.Second)) + " ago"
	}
	t.field("  natcheck", "%s  %s", s.Verdict, age)
	t.field("  nat", "%s", kind)
	for i, b := range s.Blocks {
		t.field(labelOnce(i, "  in the way"), "%s", blockText(b))
	}
	for i, c := range s.Change {
		t.field(labelOnce(i, "  change"), "%s", adviceText(c))
	}
}
