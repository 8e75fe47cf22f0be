//go:build race

package logstore

import "flag"

// stride is the distance of bytes that are damaged: the race detector makes opening slow.
const stride = 41

// It makes everything else slow as well: properties are tried less often.
func init() {
	if err := flag.Set("rapid.checks", "15"); err != nil {
		panic(err)
	}
}
