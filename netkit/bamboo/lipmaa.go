package bamboo

import "math"

// Lipmaa returns the number of the entry that the skiplink of entry n leads to. Where that is the entry just before n there is no
// skiplink. Following these links, any entry is reached from any later one in steps that grow with the logarithm of their
// distance. Lipmaa of 1 and of 0 is 0, which is no entry.
func Lipmaa(n uint64) uint64 {
	// The sums 1, 1+3, 1+3+9, … are the entries that jump a whole level; m is the first of them that is not below n.
	m := uint64(1)
	for m < n && m <= (math.MaxUint64-1)/3 {
		m = 3*m + 1
	}
	if m == n {
		return (m - 1) / 3
	}
	if m > n {
		m = (m - 1) / 3
	}
	step := uint64(0)
	for x := n; x != 0; m = (m - 1) / 3 {
		step = m
		x %= m
	}
	return n - step
}
