//go:build linux

package netns

import (
	"testing"

	"dibber/netkit/natlab"
)

// Lab is a natlab in real time, with machines that are network namespaces. Its
// methods fail the test when the kernel refuses something, and may be called from
// the test's goroutine only.
type Lab struct {
	*natlab.Lab
	t    testing.TB
	lans byte // LANs of kernel routers made so far
}

// New returns an empty lab, or skips the test where Supported names what is
// missing. Everything in it is ended and removed after the test.
func New(t testing.TB, c natlab.Config) *Lab {
	t.Helper()
	Need(t, Supported())
	return &Lab{Lab: natlab.New(t, c), t: t}
}

// Behind puts a host behind a router of natlab's of its own on the internet.
func (l *Lab) Behind(name string, c natlab.RouterConfig) *Host {
	l.t.Helper()
	return l.Host(l.Internet().Router(name+"'s router", c).LAN(), name, natlab.MachineConfig{})
}
