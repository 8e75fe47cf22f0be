package host

import "golang.org/x/sys/unix"

// bindToDevice binds a socket to an interface (socket(7), SO_BINDTODEVICE), which
// takes no privilege since Linux 5.7.
func bindToDevice(fd uintptr, name string) error {
	return unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, name)
}
