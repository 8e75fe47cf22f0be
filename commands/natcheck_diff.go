package commands

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"dibber/netkit/natcheck"
)

// difference is a value that an earlier document had otherwise.
type difference struct {
	Path   string `json:"path"`
	Before string `json:"before"` // as JSON writes it, strings without quotes
	After  string `json:"after"`
}

// text is the difference in a line. Of a file it is not known who wrote it.
func (d difference) text() string {
	return fmt.Sprintf("%s: %s, was %s", plainText(d.Path), plainText(d.After), plainText(d.Before))
}

// readBefore reads the document of --diff, and refuses one with words that no natcheck
// writes.
func readBefore(file, schema string) ([]byte, error) {
	raw, _, err := readDocument("--diff", file, schema)
	if err != nil {
		return nil, err
	}
	if _, err := natcheck.ParseStanding(raw); err != nil {
		return nil, usagef("--diff: %s: %w", file, err)
	}
	return raw, nil
}

// differences compares what does not change by itself: the verdict, what is known of
// each path, and what is known of addresses that both documents have. Outside ports
// change with every run, addresses do not.
func differences(before []byte, doc natcheckDoc) ([]difference, error) {
	old, err := decode(before)
	if err != nil {
		return nil, err
	}
	now, err := decoded(doc)
	if err != nil {
		return nil, err
	}
	var out []difference
	compare := func(path string, a, b any) {
		if a != nil && b != nil && written(a) != written(b) {
			out = append(out, difference{path, written(a), written(b)})
		}
	}
	compare("verdict", at(old, []string{"verdict"}), at(now, []string{"verdict"}))
	for _, family := range []string{"ip4", "ip6"} {
		for _, transport := range []string{"udp", "tcp"} {
			path := []string{"families", family, transport}
			for _, field := range []string{"works", "nat", "mapping", "filtering", "port_preserved", "port_pattern", "hairpin"} {
				field := append(slices.Clone(path), field)
				compare(strings.Join(field, "."), at(old, field), at(now, field))
			}
			observed := append(slices.Clone(path), "observed")
			compare(strings.Join(observed, "."), outside(at(old, observed)), outside(at(now, observed)))
		}
	}
	was := reachabilities(old)
	for a, b := range reachabilities(now) {
		if was[a] != "unknown" && b != "unknown" && was[a] != nil {
			compare("addresses "+a, was[a], b)
		}
	}
	slices.SortStableFunc(out, func(a, b difference) int { return strings.Compare(a.Path, b.Path) })
	if len(out) == 0 {
		return nil, nil
	}
	many := "1 value differs"
	if len(out) > 1 {
		many = fmt.Sprintf("%d values differ, the first", len(out))
	}
	return out, &failure{Exit: exitFalse, Code: "differs", Phase: "diff", Err: fmt.Errorf("%s: %s", many, out[0].text())}
}

// outside are the IP addresses of endpoints; nil for none.
func outside(list any) any {
	var ips []string
	endpoints, _ := list.([]any)
	for _, v := range endpoints {
		if e, err := netip.ParseAddrPort(written(v)); err == nil && !slices.Contains(ips, e.Addr().String()) {
			ips = append(ips, e.Addr().String())
		}
	}
	if len(ips) == 0 {
		return nil
	}
	slices.Sort(ips)
	return strings.Join(ips, " ")
}

// reachabilities are those of a document's addresses.
func reachabilities(doc any) map[string]any {
	out := make(map[string]any)
	list, _ := at(doc, []string{"addresses"}).([]any)
	for _, a := range list {
		out[written(at(a, []string{"addr"}))] = at(a, []string{"reachability"})
	}
	return out
}
