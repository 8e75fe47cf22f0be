//go:build linux

package netns

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	tunPath = "/dev/net/tun"
	// upName is the device of a namespace that leads out of it.
	upName = "up0"
	mtu    = 1500
)

// tun is the far side of a namespace's TUN device.
type tun struct {
	file   *os.File
	reader sync.WaitGroup
}

// openTUN makes the device in the namespace of the calling thread.
func openTUN() (*tun, error) {
	fd, err := unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", tunPath, err)
	}
	req, err := unix.NewIfreq(upName)
	if err != nil {
		return nil, fmt.Errorf("device name %s: %w", upName, err)
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		_ = unix.Close(fd) // the first error says more
		return nil, fmt.Errorf("make TUN device: %w", err)
	}
	// Only a descriptor that does not block, and only now that it has a device,
	// can be waited for by the runtime.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd) // the first error says more
		return nil, fmt.Errorf("TUN device: %w", err)
	}
	return &tun{file: os.NewFile(uintptr(fd), tunPath)}, nil
}

// write puts a packet into the namespace. A device that is down loses it.
func (d *tun) write(raw []byte) { _, _ = d.file.Write(raw) }

// read hands packets from the namespace to send until the device is closed.
func (d *tun) read(send func(raw []byte)) {
	d.reader.Go(func() {
		buffer := make([]byte, mtu)
		for {
			n, err := d.file.Read(buffer)
			if err != nil {
				return
			}
			send(append([]byte(nil), buffer[:n]...))
		}
	})
}

func (d *tun) close() {
	_ = d.file.Close() // wakes the reader; nothing is buffered
	d.reader.Wait()
}
