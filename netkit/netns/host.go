//go:build linux

package netns

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"dibber/netkit/natlab"

	"golang.org/x/sys/unix"
)

// Host is a network namespace with its programs: a computer of the lab.
type Host struct {
	t     testing.TB
	name  string
	ns    *os.File // keeps the namespace
	addrs []netip.Addr
}

// Host makes a namespace that stands as a machine in one of natlab's networks.
func (l *Lab) Host(in *natlab.Network, name string, c natlab.MachineConfig) *Host {
	l.t.Helper()
	h := newHost(l.t, name)
	machine := in.Machine(name, c)
	h.addrs = machine.Addrs()
	var device *tun
	h.must("TUN device", h.Do(func() (err error) {
		device, err = openTUN()
		return err
	}))
	l.t.Cleanup(device.close)
	setup := []string{"link set lo up", "link set up0 addrgenmode none", fmt.Sprintf("link set up0 mtu %d up", mtu)}
	for _, a := range h.addrs {
		everywhere := "0.0.0.0/0"
		if a.Is6() {
			everywhere = "::/0"
		}
		setup = append(setup, address(a, a.BitLen(), upName), fmt.Sprintf("route replace %s dev up0", everywhere))
	}
	h.ip(setup...)
	device.read(machine.Attach(device.write))
	return h
}

// newHost makes a namespace with nothing in it.
func newHost(t testing.TB, name string) *Host {
	t.Helper()
	h := &Host{t: t, name: name}
	h.must("network namespace", onThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		h.ns, err = os.Open("/proc/thread-self/ns/net")
		return err
	}))
	t.Cleanup(func() { _ = h.ns.Close() })
	return h
}

// Name is the host's name in the lab.
func (h *Host) Name() string { return h.name }

// Addr is the host's first address.
func (h *Host) Addr() netip.Addr { return h.addrs[0] }

// Addrs are the host's addresses, IPv4 first.
func (h *Host) Addrs() []netip.Addr { return h.addrs }

// Path names the namespace for other programs while the test runs: nsenter
// --net=PATH, or ip link … netns PATH.
func (h *Host) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.ns.Fd()) }

// Do runs f on a thread inside the namespace. Sockets that f opens, and programs
// that it starts, stay there; goroutines that it starts do not.
func (h *Host) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the namespace of %s: %w", h.name, err)
		}
		return f()
	})
}

// Run runs a program inside the namespace until it ends, and returns what it
// printed on stdout. The test fails if the program does.
func (h *Host) Run(command string, args ...string) string {
	h.t.Helper()
	return h.pipe("", command, args...)
}

// pipe is Run with something on stdin.
func (h *Host) pipe(stdin, command string, args ...string) string {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), command, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	if err := h.Do(cmd.Run); err != nil {
		h.t.Fatalf("netns: %s on %s: %v\n%s%s", cmd, h.name, err, stdin, errs.String())
	}
	return out.String()
}

// ip runs commands of iproute2 inside the namespace.
func (h *Host) ip(commands ...string) {
	h.t.Helper()
	h.pipe(strings.Join(commands, "\n"), "ip", "-batch", "-")
}

// set writes a kernel setting of the namespace, as sysctl does.
func (h *Host) set(name, value string) {
	h.t.Helper()
	path := "/proc/sys/net/" + strings.ReplaceAll(name, ".", "/")
	h.must("setting "+name, h.Do(func() error { return os.WriteFile(path, []byte(value), 0) }))
}

func (h *Host) must(what string, err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("netns: %s of %s: %v", what, h.name, err)
	}
}

// address is the command that gives a device an address, usable at once.
func address(a netip.Addr, bits int, device string) string {
	add := fmt.Sprintf("addr add %s/%d dev %s", a, bits, device)
	if a.Is6() {
		add += " nodad"
	}
	return add
}
