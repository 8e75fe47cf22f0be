// Package clock sets a test's clocks as an operator or a time server does: the wall clock alone.
package clock

import (
	"testing"
	"time"
	"unsafe"
)

// Jumped is a reading of the clocks with the wall clock set forward by some seconds; the monotonic clock is as it was. Of a [time.Time]
// that has both the seconds stand above 30 bits of nanoseconds.
func Jumped(t testing.TB, at time.Time, by time.Duration) time.Time {
	t.Helper()
	out := at
	*(*uint64)(unsafe.Pointer(&out)) += uint64(int64(by/time.Second)) << 30
	if out.Sub(at) != 0 || out.Round(0).Sub(at.Round(0)) != by {
		t.Fatalf("%v is not %v later by the wall clock alone than %v", out, by, at)
	}
	return out
}
