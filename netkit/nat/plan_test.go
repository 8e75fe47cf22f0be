package nat_test

import (
	"strings"
	"testing"

	"dibber/netkit/nat"

	"github.com/google/go-cmp/cmp"
)

// TestPlans shows the method of every pair, rows making the offer: d dials or s sprays,
// in capitals when it is the row that does; t both together, p both predict, - none.
func TestPlans(t *testing.T) {
	want := []string{
		"D d D d d d d d", // public
		"D T D T T S S S", // firewalled
		"D d D d d d d d", // EIM/EIF
		"D T D T T T T T", // EIM/ADF
		"D T D T T S S S", // EIM/APDF
		"D s D T s S s s", // ADM/ADF
		"D s D T s S p -", // APDM/APDF sequential
		"D s D T s S - -", // APDM/APDF random
	}
	var got []string
	for _, own := range nat.Kinds() {
		var row []string
		for _, peer := range nat.Kinds() {
			p := nat.PlanFor(own, peer, true)
			row = append(row, letter(p))
			back := nat.PlanFor(peer, own, false)
			if back.Method != p.Method || back.Direct != p.Direct {
				t.Errorf("%s with %s: %+v, the other side %+v", own.Name, peer.Name, p, back)
			}
			if one := p.Method == nat.MethodDial || p.Method == nat.MethodSpray; one && back.Own == p.Own {
				t.Errorf("%s with %s: both or neither %s", own.Name, peer.Name, p.Method)
			}
			if (p.Method == nat.MethodNone) != (p.Direct == nat.No) {
				t.Errorf("%s with %s: %s, but by %s", own.Name, peer.Name, p.Direct, p.Method)
			}
			if direct, why := nat.Between(own, peer); direct != p.Direct || why != p.Why {
				t.Errorf("%s with %s: the forecast is %s (%s), the plan says %s (%s)", own.Name, peer.Name, direct, why, p.Direct, p.Why)
			}
		}
		got = append(got, strings.Join(row, " "))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func letter(p nat.Plan) string {
	l := map[nat.Method]string{
		nat.MethodDial: "d", nat.MethodTogether: "T", nat.MethodSpray: "s", nat.MethodPredict: "p", nat.MethodNone: "-",
	}[p.Method]
	if p.Own {
		l = strings.ToUpper(l)
	}
	return l
}

// TestPlanOfLittle: ports whose pattern is not known cannot be predicted, but where one
// side's are random that does not matter.
func TestPlanOfLittle(t *testing.T) {
	hard := func(p nat.Pattern) nat.Kind {
		return nat.Kind{NAT: true, Mapping: nat.APDM, Filtering: nat.APDF, Pattern: p}
	}
	for _, tt := range []struct {
		own, peer nat.Pattern
		want      nat.Direct
	}{
		{"", "", nat.Unknown},
		{"", nat.Sequential, nat.Unknown},
		{nat.Preserved, "", nat.Unknown},
		{"", nat.Random, nat.No},
		{nat.Random, "", nat.No},
		{nat.Preserved, nat.Sequential, nat.Yes},
	} {
		if got := nat.PlanFor(hard(tt.own), hard(tt.peer), true); got.Direct != tt.want || (got.Method == nat.MethodNone) != (tt.want != nat.Yes) {
			t.Errorf("%q with %q: %+v, want %s", tt.own, tt.peer, got, tt.want)
		}
	}
}
