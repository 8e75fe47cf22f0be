package commands

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dibber/netkit/addr"
	"dibber/netkit/host"
	"dibber/netkit/identity"
	"dibber/netkit/punch"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// ephemeral is the value of --identity that makes a key for this run only.
const ephemeral = "ephemeral"

// hostDefaults are what a command does where its user said nothing.
type hostDefaults struct {
	port     int    // 0 is any free one
	identity string // file in the state folder; empty is a fresh key for each run
}

// validate finds every usage error in the options that needs no file.
func (o *hostOptions) validate() error {
	if o.IP4 && o.IP6 {
		return usagef("-4 and -6 exclude each other")
	}
	if _, err := parseListen(o.Listen); err != nil {
		return err
	}
	if _, err := parseAddrs("--announce", o.Announce); err != nil {
		return err
	}
	if (o.TLSCert == "") != (o.TLSKey == "") {
		return usagef("--tls-cert and --tls-key go together")
	}
	if err := o.validateHidden(); err != nil {
		return err
	}
	if o.NoDiscovery && o.Peers == "" {
		return usagef("--no-discovery needs --peers @FILE: without a table there is nobody to talk to")
	}
	return nil
}

// parseAddrs reads the values of a flag that takes addresses of this host.
func parseAddrs(flag string, values []string) ([]ma.Multiaddr, error) {
	var out []ma.Multiaddr
	for _, v := range values {
		a, err := addr.ParseAddr(v)
		if err != nil {
			return nil, usagef("%s: %w", flag, err)
		}
		switch {
		case a[len(a)-1].Code() == ma.P_P2P:
			return nil, usagef("%s %s: leave out the last /p2p/…: the peer id is that of the key", flag, a)
		case addr.Transport(a) == "":
			return nil, usagef("%s %s: it needs a transport, as in /ip4/0.0.0.0/tcp/4001 or /ip4/0.0.0.0/udp/4001/quic-v1", flag, a)
		}
		out = append(out, a)
	}
	return out, nil
}

// parseListen reads the values of --listen, which are addresses of this machine.
func parseListen(values []string) ([]ma.Multiaddr, error) {
	out, err := parseAddrs("--listen", values)
	for _, a := range out {
		if _, err := a.ValueForProtocol(ma.P_CIRCUIT); err == nil {
			return nil, usagef("--listen %s: a relay is listened on with --use-relay or --relay", a)
		}
		if code := a[0].Code(); code != ma.P_IP4 && code != ma.P_IP6 && code != ma.P_IP6ZONE {
			return nil, usagef("--listen %s: it needs an address of this machine, as in /ip4/0.0.0.0 or /ip6/::", a)
		}
	}
	return out, err
}

// mdnsInterfaces are the interfaces that mDNS uses, if it is on, where those of list were
// named by --mdns-interface; none means all.
func (o *hostOptions) mdnsInterfaces(on bool, list []string) ([]string, error) {
	if by := o.hidden(); on && by != "" {
		return nil, usagef("%s and --mdns exclude each other: multicast shows this machine to the local network", by)
	}
	if o.Interface == "" {
		return list, nil
	}
	for _, name := range list {
		if name != o.Interface {
			return nil, usagef("--interface %s excludes --mdns-interface %s", o.Interface, name)
		}
	}
	return []string{o.Interface}, nil
}

// openFile is how lists named on the command line are read.
func openFile(name string) (io.ReadCloser, error) { return os.Open(name) }

// table reads the peers of --peers; nil without one.
func (o *hostOptions) table() (*addr.Table, error) {
	if o.Peers == "" {
		return nil, nil
	}
	name := strings.TrimPrefix(o.Peers, "@")
	f, err := os.Open(name)
	if err != nil {
		return nil, usagef("--peers: %w", err)
	}
	defer f.Close()
	t, err := addr.ParseTable(f, name)
	if err != nil {
		return nil, usagef("--peers: %w", err)
	}
	return t, nil
}

// access reads the allow and deny lists, and their files afresh.
func (o *hostOptions) access() (host.Access, error) {
	var a host.Access
	for flag, list := range map[string]struct {
		values []string
		dest   *[]peer.ID
	}{"--allow-peer": {o.AllowPeers, &a.AllowPeers}, "--deny-peer": {o.DenyPeers, &a.DenyPeers}} {
		ids, err := addr.ParseIDs(list.values, openFile)
		if err != nil {
			return a, usagef("%s: %w", flag, err)
		}
		*list.dest = ids
	}
	for flag, list := range map[string]struct {
		values []string
		dest   *addr.Ranges
	}{"--allow-cidr": {o.AllowCIDRs, (*addr.Ranges)(&a.AllowCIDRs)}, "--deny-cidr": {o.DenyCIDRs, (*addr.Ranges)(&a.DenyCIDRs)}} {
		ranges, err := addr.ParseRanges(list.values, openFile)
		if err != nil {
			return a, usagef("%s: %w", flag, err)
		}
		*list.dest = ranges
	}
	return a, nil
}

// config turns the options into a host's configuration, reading the files they
// name. It tells on out what a person should know about it.
func (o *hostOptions) config(out *output, def hostDefaults) (host.Config, error) {
	cfg := host.Config{Agent: Agent(), Port: def.port, KnownOnly: o.NoDiscovery, Interface: o.Interface}
	var err error
	if cfg.Listen, err = parseListen(o.Listen); err != nil {
		return cfg, err
	}
	if cfg.Announce, err = parseAddrs("--announce", o.Announce); err != nil {
		return cfg, err
	}
	for _, s := range o.Security {
		cfg.Security = append(cfg.Security, host.Security(s))
	}
	for _, m := range o.Muxers {
		cfg.Muxers = append(cfg.Muxers, host.Muxer(m))
	}
	for _, t := range o.Transports {
		cfg.Transports = append(cfg.Transports, host.Transport(t))
	}
	switch {
	case o.IP4:
		cfg.Family = host.IPv4Only
	case o.IP6:
		cfg.Family = host.IPv6Only
	}
	if cfg.Access, err = o.access(); err != nil {
		return cfg, err
	}
	table, err := o.table()
	if err != nil {
		return cfg, err
	}
	cfg.Known = knownPeers(table)
	if err := o.readSecrets(out, &cfg, def); err != nil {
		return cfg, err
	}
	if err := o.joinNetwork(out, &cfg); err != nil {
		return cfg, err
	}
	return cfg, o.hide(out, &cfg)
}

// knownPeers are the peers of a table.
func knownPeers(t *addr.Table) (list []peer.AddrInfo) {
	for _, p := range t.Peers() {
		list = append(list, p.AddrInfo())
	}
	return list
}

// readSecrets fills in the identity, the private network's key and the
// certificate.
func (o *hostOptions) readSecrets(out *output, cfg *host.Config, def hostDefaults) error {
	file := o.Identity
	if file == "" && def.identity != "" {
		dir, err := o.openState(out.e, true)
		if err != nil {
			return err
		}
		file = filepath.Join(dir, def.identity)
	}
	if file != "" && file != ephemeral {
		key, created, err := identity.LoadOrCreate(file)
		if err != nil {
			return fmt.Errorf("identity: %w", err)
		}
		cfg.Identity = key
		if created {
			out.notice("identity created in %s", file)
		}
	}
	if o.PSKFile != "" {
		psk, err := identity.LoadPSK(o.PSKFile)
		if err != nil {
			return fmt.Errorf("private network key: %w", err)
		}
		cfg.PSK = psk
		if slices.ContainsFunc(cfg.Transports, func(t host.Transport) bool { return t == host.QUIC || t == host.WebTransport || t == host.WebRTC }) {
			out.notice("private network: quic, webtransport and webrtc are off")
		}
	}
	if o.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(o.TLSCert, o.TLSKey)
		if err != nil {
			return usagef("--tls-cert, --tls-key: %w", err)
		}
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	return nil
}

// open starts the host, and has it let in where it was invited; or it takes the one that is lent.
func (o *hostOptions) open(ctx context.Context, out *output, def hostDefaults) (*host.Node, error) {
	if out.e.lent != nil {
		return out.e.lent.n, nil
	}
	cfg, err := o.config(out, def)
	if err != nil {
		return nil, err
	}
	n, err := host.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := o.present(ctx, out, n); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// punching lets relayed connections become direct until stop is called. A host that
// keeps to its table of peers, or is hidden, exchanges addresses with nobody.
func (o *hostOptions) punching(n *host.Node) (stop func()) {
	if !o.exchanges() {
		return func() {}
	}
	s := punch.New(n, punch.Config{})
	return func() { _ = s.Close() } // returns nil always
}

// closing closes something at the end of a function whose error is *err.
func closing(err *error, stop func() error) { *err = errors.Join(*err, stop()) }

// stateDir is the folder of everything that outlives a run.
func (o *hostOptions) stateDir(e *env) string {
	if o.StateDir != "" {
		return o.StateDir
	}
	if base, ok := e.lookup("XDG_STATE_HOME"); ok {
		return filepath.Join(base, "dibber")
	}
	home, ok := e.lookup("HOME")
	if !ok {
		home = "."
	}
	return filepath.Join(home, ".local", "state", "dibber")
}

// targets reads the arguments that name peers.
func (o *hostOptions) targets(out *output, args []string, opts addr.Options) ([]addr.Target, error) {
	if _, err := o.invitation(); err != nil {
		return nil, err
	}
	table, err := o.table()
	if err != nil {
		return nil, err
	}
	list, err := addr.ParseTargets(args, out.stdin(), openFile, table, opts)
	if errors.Is(err, addr.ErrNoPeerID) {
		return nil, &failure{Exit: exitUsage, Err: err, Hint: "end the address with /p2p/PEERID, or give --allow-unknown-peer where the command has it"}
	}
	if err != nil {
		return nil, usagef("%w", err)
	}
	if len(list) == 0 {
		return nil, usagef("no target: the list is empty")
	}
	return list, o.nameless(list)
}

// infos reads the peers that a flag names; each needs an address.
func (o *hostOptions) infos(out *output, own peer.ID, flag string, values []string) ([]peer.AddrInfo, error) {
	if len(values) == 0 {
		return nil, nil
	}
	targets, err := o.targets(out, values, addr.Options{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	var infos []peer.AddrInfo
	for _, t := range targets {
		if len(t.Addrs) == 0 {
			return nil, usagef("%s: %s has no address", flag, t.ID)
		}
		if t.ID == own {
			return nil, usagef("%s: that is this node itself", flag)
		}
		infos = append(infos, t.AddrInfo())
	}
	return infos, nil
}

// oneTarget is the target of a command that takes a single peer, under as many
// addresses as one likes.
func (o *hostOptions) oneTarget(out *output, what string, args []string, opts addr.Options) ([]addr.Target, error) {
	list, err := o.targets(out, args, opts)
	if err == nil && len(list) > 1 {
		return nil, usagef("%s takes one peer, but got %d", what, len(list))
	}
	return list, err
}

// needTargets is the validate of commands whose arguments name peers. What needs
// no file is checked before any I/O.
func (o *hostOptions) needTargets(command string, args []string, opts addr.Options) error {
	if len(args) == 0 {
		return usagef("%s needs a target: an address that ends with /p2p/PEERID, @name, @file or -", command)
	}
	for _, a := range args {
		if a == "-" || strings.HasPrefix(a, "@") {
			continue
		}
		if _, err := addr.ParseTarget(a, opts); err != nil {
			if errors.Is(err, addr.ErrNoPeerID) {
				return &failure{Exit: exitUsage, Err: err, Hint: "end it with /p2p/PEERID"}
			}
			return usagef("%w", err)
		}
	}
	return o.validate()
}

// identityFile is the key of the long-lived host, in the state folder.
const identityFile = "identity.key"
