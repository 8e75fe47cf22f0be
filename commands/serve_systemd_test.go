package commands

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// manageService has what is told to a service manager come out of the channel.
func manageService(t *testing.T) <-chan string {
	t.Helper()
	at := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", at)
	messages := make(chan string, 1<<16) // who tells must not wait, as it need not for systemd
	var reads sync.WaitGroup
	t.Cleanup(func() { _ = manager.Close(); reads.Wait() })
	reads.Go(func() {
		for message := make([]byte, 4096); ; {
			n, err := manager.Read(message)
			if err != nil {
				return
			}
			messages <- string(message[:n])
		}
	})
	return messages
}

// TestServiceManager: whoever started serve is told when it is ready, reloads and ends, and again and again that it lives.
func TestServiceManager(t *testing.T) {
	dir, messages := t.TempDir(), manageService(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	told := func() string {
		t.Helper()
		select {
		case message := <-messages:
			return message
		case <-time.After(20 * time.Second):
			t.Fatal("nothing was told")
			return ""
		}
	}
	// besides is the first message that does not say that serve lives, and how many before it do.
	besides := func() (message string, lives int) {
		t.Helper()
		for message = told(); message == "WATCHDOG=1"; message = told() {
			lives++
		}
		return message, lives
	}
	server := start(t, "serve", "--relay", "--state-dir", filepath.Join(dir, "state"), "--listen", "/ip4/127.0.0.1/udp/0/quic-v1")
	server.ready()
	if message, lives := besides(); message != "READY=1" || lives > 0 {
		t.Errorf("at first %q, after %d of the watchdog", message, lives)
	}
	for range 3 {
		if message := told(); message != "WATCHDOG=1" {
			t.Errorf("%q, not of the watchdog", message)
		}
	}
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if message, _ := besides(); !strings.HasPrefix(message, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("%q, not that it reloads", message)
	}
	if message, _ := besides(); message != "READY=1" {
		t.Errorf("%q, not that it has reloaded", message)
	}
	documentsFit(t, server.stop())
	if message, _ := besides(); message != "STOPPING=1" {
		t.Errorf("%q, not that it ends", message)
	}
}
