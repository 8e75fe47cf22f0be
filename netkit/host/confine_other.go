//go:build !linux

package host

import "errors"

// bindToDevice always fails: what other systems have does not keep what arrives at
// another interface away.
func bindToDevice(uintptr, string) error { return errors.ErrUnsupported }
