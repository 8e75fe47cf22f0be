package commands

import (
	"errors"
	"io/fs"
	"syscall"

	"dibber/netkit/host"
	"dibber/netkit/mdns"
	"dibber/netkit/store"
	"dibber/netkit/vantage"
)

// hostFailure gives the errors of starting a host their class.
func hostFailure(err error) (failure, bool) {
	var le *host.ListenError
	var locked *store.LockedError
	switch {
	case errors.As(err, &locked):
		return failure{Code: "locked", Phase: "start", Hint: "end the other process, or choose another folder with --state-dir"}, true
	case errors.Is(store.Unwritable(err), store.ErrFull):
		return failure{Exit: exitRefused, Code: "disk_full", Hint: "free space on that disk; --state-dir names another state folder", Retryable: true}, true
	case errors.Is(store.Unwritable(err), store.ErrReadOnly):
		return failure{Exit: exitRefused, Code: "read_only", Hint: "mount that file system for writing; --state-dir names another state folder", Retryable: true}, true
	case errors.Is(err, host.ErrTransportOff):
		return failure{Exit: exitUsage, Hint: "see --transport, --psk-file and --tls-cert"}, true
	case errors.Is(err, host.ErrSOCKS), errors.Is(err, host.ErrHidden):
		return failure{Exit: exitUsage}, true
	case errors.As(err, &le):
		return failure{Code: "listen", Phase: "listen", Addr: le.Addr.String(), Hint: listenHint(le)}, true
	case errors.Is(err, host.ErrInterface):
		return failure{Exit: exitUsage, Hint: "ip addr lists the interfaces of this machine and their addresses; --interface takes --transport quic, webtransport and tcp"}, true
	case errors.Is(err, mdns.ErrNoInterface):
		return failure{Exit: exitUsage, Hint: "ip link lists the interfaces of this machine"}, true
	case errors.Is(err, host.ErrSharedPort):
		return failure{Exit: exitUsage, Hint: "--listen it at another port"}, true
	case errors.Is(err, vantage.ErrNoSite):
		return failure{Exit: exitUsage, Hint: "--vantage needs --transport quic"}, true
	case errors.Is(err, host.ErrNoTransport):
		return failure{Exit: exitUsage, Hint: "--transport tcp"}, true
	}
	return failure{}, false
}

// listenHint tells what to do about an address that cannot be listened on; empty where that is not known.
func listenHint(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program has the port; choose one with --listen"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "no interface has the address; --listen /ip4/0.0.0.0/… listens on all there are"
	case errors.Is(err, fs.ErrPermission):
		return "ports below 1024 are for root, or who has CAP_NET_BIND_SERVICE; choose another one with --listen"
	}
	return ""
}
