package main

import "testing"

func TestJudge(t *testing.T) {
	run := func(at func(i int) float64) *result {
		var list []sample
		for i := range 40 {
			s := make(sample)
			for _, f := range figures() {
				s[f.name] = at(i)
			}
			list = append(list, s)
		}
		r := new(result)
		r.judge(list)
		return r
	}
	for _, c := range []struct {
		name string
		at   func(i int) float64
		grew int
	}{
		{"steady", func(int) float64 { return 100 }, 0},
		{"warming up", func(i int) float64 { return 100 + float64(1000*min(i, 10)) }, 0},
		{"one bad moment", func(i int) float64 { return map[bool]float64{true: 9000, false: 100}[i == 35] }, 0},
		{"leaking", func(i int) float64 { return 100 + 10*float64(i) }, len(figures())},
	} {
		if r := run(c.at); len(r.Grew) != c.grew {
			t.Errorf("%s: %v", c.name, r.Grew)
		}
	}
	if r := new(result); len(r.Grew) != 0 {
		t.Error(r)
	} else if r.judge(nil); len(r.Grew) == 0 {
		t.Error("no figures are a good verdict")
	}
}
