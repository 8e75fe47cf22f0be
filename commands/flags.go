package commands

import (
	"time"

	"github.com/urfave/cli/v2"
)

// The headings of flags that many commands share. A flag under one of them is configured once for all commands: by DIBBER_<FLAG>
// and by a key at the top of the configuration file.
const (
	groupOutput  = "output"
	groupHost    = "host"
	groupSources = "source"
	groupStore   = "store"
	groupLookup  = "lookup"
)

// sharedOptions are the options that every command has.
type sharedOptions struct {
	JSON, NDJSON, Quiet bool
	Timeout             time.Duration
	Config              string
	LogLevel            string
	LogFormat           string
	Verbose             bool
}

// outputFlags declares the flags that every command has; the framework adds them.
func outputFlags(o *sharedOptions, timeout time.Duration) []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Category: groupOutput, Name: "json", Usage: "print one JSON document", Destination: &o.JSON},
		&cli.BoolFlag{
			Category: groupOutput, Name: "ndjson", Destination: &o.NDJSON,
			Usage: "print one JSON document a line as things happen, the summary last",
		},
		&cli.BoolFlag{
			Category: groupOutput, Name: "quiet", Aliases: []string{"q"}, Destination: &o.Quiet,
			Usage: "print only the most useful token",
		},
		&cli.DurationFlag{
			Category: groupOutput, Name: "timeout", Value: timeout, Destination: &o.Timeout,
			Usage: "give up after `DURATION`; 0 means never",
		},
		&cli.StringFlag{
			Category: groupOutput, Name: "config", Destination: &o.Config,
			Usage: "read the configuration from `FILE` (default: dibber/config.toml in $XDG_CONFIG_HOME)",
		},
		choiceFlag(groupOutput, "log-level", "log to stderr what is at least as grave as `LEVEL`", &o.LogLevel,
			logLevels()...),
		choiceFlag(groupOutput, "log-format", "log in `FORMAT`", &o.LogFormat, "text", "json"),
		&cli.BoolFlag{
			Category: groupOutput, Name: "verbose", Aliases: []string{"v"}, Destination: &o.Verbose,
			Usage: "say more on stderr, as --log-level info does",
		},
	}
}

// hostOptions are the options of every command that opens a libp2p host.
type hostOptions struct {
	Listen      []string // multiaddrs; empty means the command's default
	Transports  []string // words of transportWords; empty means quic and tcp
	Security    []string // noise, tls; in the order of preference
	Muxers      []string // yamux, mplex; likewise
	TLSCert     string   // PEM file of wss
	TLSKey      string   // PEM file of wss
	Identity    string   // key file, or "ephemeral"; empty means the command's default
	PSKFile     string   // empty means no private network
	AllowPeers  []string // peer ids; empty means everybody
	DenyPeers   []string // peer ids
	AllowCIDRs  []string // empty means everywhere
	DenyCIDRs   []string
	Peers       string // @FILE of names and addresses; empty means no table
	NoDiscovery bool
	Announce    []string // multiaddrs announced beside those found out
	Interface   string   // empty means all
	Join        string   // a join token, or @FILE with one; empty means none
	RelayOnly   bool     // reach others, and be reached, by relays only
	SOCKS       string   // HOST:PORT of a SOCKS5 server; empty means none
	StateDir    string   // empty means dibber in $XDG_STATE_HOME
	Admin       string   // control socket; empty means control.sock in StateDir
	IP4, IP6    bool     // restrict to one family
	OwnHost     bool     // do not run on the node of another process
}

// stateDirFlag declares where everything is that outlives a run.
func stateDirFlag(o *hostOptions) cli.Flag {
	return &cli.StringFlag{
		Category: groupHost, Name: "state-dir", Destination: &o.StateDir,
		Usage: "keep identity, registry and stores in `DIR` (default: dibber in $XDG_STATE_HOME)",
	}
}

// adminFlag declares where a running node is controlled.
func adminFlag(o *hostOptions) cli.Flag {
	return &cli.StringFlag{
		Category: groupHost, Name: "admin", Destination: &o.Admin,
		Usage: "control the node at this `SOCKET` (default: control.sock in the state folder)",
	}
}

// hostFlags declares the flags of every command that opens a host.
func hostFlags(o *hostOptions) []cli.Flag {
	o.Transports, o.Security, o.Muxers = []string{"quic", "tcp"}, []string{"noise", "tls"}, []string{"yamux"}
	text := func(name, usage string, dest *string) cli.Flag {
		return &cli.StringFlag{Category: groupHost, Name: name, Usage: usage, Destination: dest}
	}
	list := func(name, usage string, dest *[]string) cli.Flag {
		return listFlag(groupHost, name, usage, dest)
	}
	return []cli.Flag{
		list("listen", "listen on `ADDR`, a multiaddr (repeatable)", &o.Listen),
		listFlag(groupHost, "transport", "use these `TRANSPORTS`: quic, tcp, ws, wss, webtransport, webrtc", &o.Transports,
			"quic", "tcp", "ws", "wss", "webtransport", "webrtc"),
		listFlag(groupHost, "security", "secure tcp and ws by these `PROTOCOLS`, the first that both know: noise, tls", &o.Security, "noise", "tls"),
		listFlag(groupHost, "muxer", "multiplex tcp and ws by these `PROTOCOLS`, the first that both know: yamux, mplex", &o.Muxers, "yamux", "mplex"),
		text("tls-cert", "certificate `FILE` for wss", &o.TLSCert),
		text("tls-key", "private key `FILE` for wss", &o.TLSKey),
		text("identity", "key `FILE`, made if missing, or ephemeral", &o.Identity),
		text("psk-file", "join the private network of this pre-shared key `FILE`; TCP transports only", &o.PSKFile),
		list("allow-peer", "let only this `PEER` in, and tell it this host's natcheck if it asks (repeatable)", &o.AllowPeers),
		list("deny-peer", "never talk to this `PEER` (repeatable)", &o.DenyPeers),
		list("allow-cidr", "let only addresses of this `RANGE` in (repeatable)", &o.AllowCIDRs),
		list("deny-cidr", "never talk to addresses of this `RANGE` (repeatable)", &o.DenyCIDRs),
		text("peers", "table of names and addresses, `@FILE`; @name is then a target", &o.Peers),
		&cli.BoolFlag{
			Category: groupHost, Name: "no-discovery", Destination: &o.NoDiscovery,
			Usage: "use only addresses given or in the table: learn nothing, announce nothing, let nobody else in",
		},
		text("interface", "listen, dial, announce, and use mDNS and port mapping, on this `INTERFACE` only, as of a VPN (Linux); "+
			"names are still asked of the system's resolver", &o.Interface),
		text("join", "show this join `TOKEN`, or that of @FILE, to the node that made it (dibber key invite), which lets this one in; relays, rendezvous point, "+
			"namespace and network key are taken from it where no flag names others", &o.Join),
		&cli.BoolFlag{
			Category: groupHost, Name: "relay-only", Destination: &o.RelayOnly,
			Usage: "reach others, and be reached, through relays only, those that the command names: tell nobody else an IP address of this machine, listen nowhere unless --listen says so, refuse hole punching",
		},
		text("socks5", "dial through this SOCKS5 `SERVER`, HOST:PORT or USER:PASSWORD@HOST:PORT, as of Tor, /onion3 addresses too: by TCP, listening on "+
			"loopback only, announcing --announce and circuits only; /dns is refused", &o.SOCKS),
		list("announce", "announce `ADDR` beside the addresses found out (repeatable)", &o.Announce),
		stateDirFlag(o),
		&cli.BoolFlag{Category: groupHost, Name: "ip4", Aliases: []string{"4"}, Usage: "use IPv4 only", Destination: &o.IP4},
		&cli.BoolFlag{Category: groupHost, Name: "ip6", Aliases: []string{"6"}, Usage: "use IPv6 only", Destination: &o.IP6},
	}
}
