package punch_test

import (
	"testing"

	"dibber/netkit/nat"
	"dibber/netkit/punch"
)

func TestCauses(t *testing.T) {
	const easy, hard = "EIM/ADF", "APDM/APDF random"
	between := func(d nat.Direct, a, b string) nat.Outlook {
		return nat.Outlook{Direct: d, Sides: []nat.Side{{NAT: &a}, {NAT: &b}}}
	}
	failed := func(reason, local, remote string, planned bool) punch.View {
		v := punch.View{Outcome: punch.Failed, Reason: &reason}
		if planned {
			v.LocalNAT, v.RemoteNAT, v.Plan = &local, &remote, &punch.Plan{}
		}
		return v
	}
	for _, tt := range []struct {
		name string
		v    punch.View
		x    nat.Outlook
		want punch.Cause
	}{
		{"it did not", punch.View{Outcome: punch.Direct}, between(nat.Yes, easy, hard), ""},
		{"nobody there", failed(punch.ReasonNoReservation, "", "", false), between(nat.Yes, easy, hard), punch.ReasonNoReservation},
		{"as foreseen", failed(punch.ReasonAttemptsEnded, hard, hard, true), between(nat.No, hard, hard), punch.CauseNATs},
		{"another network", failed(punch.ReasonAttemptsEnded, hard, hard, true), between(nat.Yes, easy, hard), punch.CauseChanged},
		{"by DCUtR alone", failed(punch.ReasonAttemptsEnded, "", "", false), between(nat.Yes, easy, hard), punch.CauseNoExchange},
		{"too soon", limited(failed(punch.ReasonAttemptsEnded, "", "", false)), between(nat.Yes, easy, hard), punch.CauseLimited},
		{"seen from the other end", failed(punch.ReasonAttemptsEnded, hard, easy, true), between(nat.Yes, easy, hard), punch.CauseUnexplained},
		{"behind one NAT", sameNAT(failed(punch.ReasonAttemptsEnded, hard, hard, true)), between(nat.No, hard, hard), punch.CauseSameNAT},
		{"little known", failed(punch.ReasonAttemptsEnded, hard, easy, true), between(nat.Unknown, easy, hard), punch.CauseUnforeseen},
	} {
		if got := tt.v.Cause(tt.x); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// limited is a view of two ends of which one did no more than DCUtR.
func limited(v punch.View) punch.View {
	v.Timeline = []punch.Step{{Side: punch.Initiator, Event: "offer.limited"}}
	return v
}

// sameNAT is a view of two ends at one address.
func sameNAT(v punch.View) punch.View {
	v.Attempts = []punch.Attempt{{Local: []string{"/ip4/17.0.0.1/udp/4001/quic-v1"}, Remote: []string{"/ip4/17.0.0.2/tcp/4001", "/ip4/17.0.0.1/udp/5000/quic-v1"}}}
	return v
}
