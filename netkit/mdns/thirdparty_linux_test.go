package mdns

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	libp2pmdns "github.com/libp2p/go-libp2p/p2p/discovery/mdns"
)

// namespaceEnv tells the test binary that it runs in a network namespace of its own.
const namespaceEnv = "DIBBER_TEST_MDNS_NAMESPACE"

// go-libp2p's mDNS uses every interface of the machine. So that nothing leaves it, the test runs itself
// again in a network namespace that has nothing but a loopback interface.
func TestGoLibp2pAndWeFindEachOther(t *testing.T) {
	if os.Getenv(namespaceEnv) != "" {
		inNamespace(t)
		return
	}
	ip, err := exec.LookPath("ip")
	if err != nil {
		t.Skip("needs the ip command of iproute2:", err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestGoLibp2pAndWeFindEachOther$", "-test.v")
	cmd.Env = append(os.Environ(), namespaceEnv+"="+ip)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	switch {
	case cmd.ProcessState == nil:
		t.Skip("needs root or user namespaces to make a network namespace:", err)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	}
}

func inNamespace(t *testing.T) {
	for _, args := range [][]string{
		{"link", "set", "lo", "up", "multicast", "on"},
		{"route", "add", "224.0.0.0/4", "dev", "lo"},
	} {
		if out, err := exec.Command(os.Getenv(namespaceEnv), args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v\n%s", args, err, out)
		}
	}
	theirs, ours := listening(t), listening(t)
	atTheirs := make(notifee, 10)
	service := libp2pmdns.NewMdnsService(theirs, "", atTheirs)
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	atOurs := make(chan Event, 10)
	// Neither service name nor interfaces are given: what users get.
	s, err := New(ours, Config{Announce: true, Browse: true, On: func(e Event) { atOurs <- e }})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, atOurs, Event{Kind: Found, Peer: peer.AddrInfo{ID: theirs.ID(), Addrs: theirs.Addrs()}})
	for info := range atTheirs {
		if info.ID == ours.ID() {
			if len(info.Addrs) != 1 || !info.Addrs[0].Equal(ours.Addrs()[0]) {
				t.Errorf("go-libp2p found %v, not %v", info, ours.Addrs())
			}
			break
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func listening(t *testing.T) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

type notifee chan peer.AddrInfo

func (n notifee) HandlePeerFound(info peer.AddrInfo) { n <- info }
