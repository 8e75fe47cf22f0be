package peering

import (
	"testing"
	"time"
)

func TestWhichConnectionStays(t *testing.T) {
	old, young := time.Unix(1, 0), time.Unix(2, 0)
	for _, c := range []struct {
		name       string
		keep, drop link
	}{
		{"direct before relayed", link{true, "b", old}, link{false, "a", young}},
		{"the smaller id opened it", link{true, "a", old}, link{true, "b", young}},
		{"the youngest of one opener", link{true, "a", young}, link{true, "a", old}},
		{"relayed ones alike", link{false, "a", old}, link{false, "b", young}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.keep.compare(c.drop) >= 0 || c.drop.compare(c.keep) <= 0 {
				t.Errorf("%+v does not come before %+v", c.keep, c.drop)
			}
		})
	}
}
