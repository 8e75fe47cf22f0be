package commands

// flagRow says of one flag which option field it writes and which test shows what it does.
type flagRow struct {
	of    string // the command, or the group of shared flags
	flag  string
	field string
	test  string // a script under testdata/script, a test of this package, or FOLDER.TestName
}

// flagRows is the table of all flags. TestEveryFlag holds it against the program.
func flagRows() []flagRow { return append(sharedFlagRows(), commandFlagRows()...) }

// sharedFlagRows are the flags that several commands have.
func sharedFlagRows() []flagRow {
	return []flagRow{
		{groupOutput, "json", "JSON", "TestFormats"},
		{groupOutput, "ndjson", "NDJSON", "TestFormats"},
		{groupOutput, "quiet", "Quiet", "TestFormats"},
		{groupOutput, "timeout", "Timeout", "TestEndOfRun"},
		{groupOutput, "config", "Config", "TestConfigFlag"},
		{groupOutput, "log-level", "LogLevel", "TestLogLevel"},
		{groupOutput, "verbose", "Verbose", "TestLogLevel"},

		{groupHost, "listen", "Host.Listen", "host_flags.txtar"},
		{groupHost, "transport", "Host.Transports", "host_flags.txtar"},
		{groupHost, "tls-cert", "Host.TLSCert", "host_flags.txtar"},
		{groupHost, "tls-key", "Host.TLSKey", "host_flags.txtar"},
		{groupHost, "identity", "Host.Identity", "host_flags.txtar"},
		{groupHost, "psk-file", "Host.PSKFile", "host_flags.txtar"},
		{groupHost, "allow-peer", "Host.AllowPeers", "host_flags.txtar"},
		{groupHost, "deny-peer", "Host.DenyPeers", "serve.txtar"},
		{groupHost, "allow-cidr", "Host.AllowCIDRs", "host_flags.txtar"},
		{groupHost, "deny-cidr", "Host.DenyCIDRs", "host_flags.txtar"},
		{groupHost, "peers", "Host.Peers", "host_flags.txtar"},
		{groupHost, "no-discovery", "Host.NoDiscovery", "host_flags.txtar"},
		{groupHost, "announce", "Host.Announce", "host_flags.txtar"},
		{groupHost, "state-dir", "Host.StateDir", "id.txtar"},
		{groupHost, "ip4", "Host.IP4", "host_flags.txtar"},
		{groupHost, "ip6", "Host.IP6", "host_flags.txtar"},

		{groupSources, "rendezvous", "Sources.Rendezvous", "discover.txtar"},
		{groupSources, "namespace", "Sources.Namespace", "discover.txtar"},
		{groupSources, "mdns", "Sources.MDNS", "mdns.txtar"},
		{groupSources, "mdns-interface", "Sources.Interfaces", "mdns.txtar"},
	}
}

// commandFlagRows are the flags of one command each.
func commandFlagRows() []flagRow {
	return []flagRow{
		{"serve", "public-node", "Full.Public", "serve_full.txtar"},
		{"serve", "private-node", "Full.Private", "serve_full.txtar"},
		{"serve", "no-relay-when-public", "Full.NoRelay", "serve_full.txtar"},
		{"serve", "no-reserve-when-private", "Full.NoReserve", "serve_full.txtar"},
		{"serve", "relay", "Relay", "serve.txtar"},
		{"serve", "relay-reservations", "RelayLimits.Reservations", "serve_flags.txtar"},
		{"serve", "relay-reservations-per-ip", "RelayLimits.ReservationsPerIP", "serve_flags.txtar"},
		{"serve", "relay-circuits", "RelayLimits.CircuitsPerPeer", "dial_exit.txtar"},
		{"serve", "relay-duration", "RelayLimits.Duration", "serve_flags.txtar"},
		{"serve", "relay-bytes", "RelayLimits.Bytes", "serve_flags.txtar"},
		{"serve", "relay-reservations-per-prefix", "RelayLimits.ReservationsPerPrefix", "serve_limits.txtar"},
		{"serve", "relay-reservations-per-asn", "RelayLimits.ReservationsPerASN", "serve_limits.txtar"},
		{"serve", "relay-circuits-total", "RelayLimits.Circuits", "serve_limits.txtar"},
		{"serve", "relay-rate", "RelayLimits.Rate", "serve_limits.txtar"},
		{"serve", "rendezvous-per-namespace", "RendezvousLimits.PerNamespace", "discover.txtar"},
		{"serve", "rendezvous-refuse", "RefuseAddrs", "serve_limits.txtar"},
		{"serve", "rendezvous-per-prefix", "RendezvousLimits.PerPrefix", "serve_limits.txtar"},
		{"serve", "relay-unlimited", "RelayUnlimited", "serve_flags.txtar"},
		{"serve", "rendezvous", "Rendezvous", "discover.txtar"},
		{"serve", "rendezvous-min-ttl", "RendezvousLimits.MinTTL", "serve.txtar"},
		{"serve", "rendezvous-max-ttl", "RendezvousLimits.MaxTTL", "serve_flags.txtar"},
		{"serve", "rendezvous-registrations", "RendezvousLimits.Total", "serve_limits.txtar"},
		{"serve", "rendezvous-per-peer", "RendezvousLimits.PerPeer", "serve_flags.txtar"},
		{"serve", "autonat", "AutoNAT", "serve_flags.txtar"},
		{"serve", "no-autonat", "NoAutoNAT", "serve_flags.txtar"},
		{"serve", "autonat-per-minute", "DialBack.PerMinute", "serve_flags.txtar"},
		{"serve", "autonat-per-peer", "DialBack.PerPeerPerMinute", "serve_flags.txtar"},
		{"serve", "vantage", "Vantage", "natcheck.txtar"},
		{"serve", "vantage-per-prefix", "VantageLimits.PerPrefix", "natcheck.txtar"},
		{"serve", "vantage-per-peer", "VantageLimits.PerPeer", "natcheck.txtar"},
		{"serve", "mdns", "MDNS", "mdns.txtar"},
		{"serve", "mdns-interface", "MDNSInterfaces", "mdns.txtar"},
		{"serve", "use-relay", "UseRelays", "serve_flags.txtar"},
		{"serve", "register", "Register", "serve_flags.txtar"},
		{"serve", "namespace", "Namespaces", "serve_flags.txtar"},
		{"serve", "ttl", "TTL", "serve_flags.txtar"},
		{"serve", "record-format", "RecordFormat", "serve_flags.txtar"},
		{"serve", "peer", "Peers", "serve_flags.txtar"},
		{"serve", "max-discovered", "Peering.Max", "serve_peering.txtar"},
		{"serve", "require-protocol", "Peering.Require", "serve_peering.txtar"},
		{"serve", "no-connect", "Peering.Off", "serve_peering.txtar"},
		{"serve", "conns", "Limits.Conns", "serve_flags.txtar"},
		{"serve", "conns-per-ip", "Limits.ConnsPerIP", "netkit/host.TestManyConnectionsFromOneAddressThenNoMore"},
		{"serve", "memory", "Limits.Memory", "serve_flags.txtar"},
		{"serve", "ready-file", "ReadyFile", "serve.txtar"},
		{"serve", "drain", "Drain", "serve_flags.txtar"},

		{"dial", "ping", "Ping", "dial_exit.txtar"},
		{"dial", "interval", "Interval", "dial_exit.txtar"},
		{"dial", "each", "Each", "dial_exit.txtar"},
		{"dial", "no-relay", "NoRelay", "dial_exit.txtar"},
		{"dial", "relay-only", "RelayOnly", "dial_exit.txtar"},
		{"dial", "until-direct", "UntilDirect", "dial_exit.txtar"},
		{"dial", "require", "Require", "dial_exit.txtar"},
		{"dial", "hold", "Hold", "dial_exit.txtar"},
		{"dial", "watch", "Watch", "dial_exit.txtar"},
		{"dial", "allow-unknown-peer", "AllowUnknown", "dial_exit.txtar"},

		{"discover", "dnsaddr", "DNSAddrs", "discover.txtar"},
		{"discover", "register", "Register", "discover.txtar"},
		{"discover", "ttl", "TTL", "discover.txtar"},
		{"discover", "record-format", "RecordFormat", "discover.txtar"},
		{"discover", "probe", "Probe", "discover.txtar"},
		{"discover", "watch", "Watch", "discover_watch.txtar"},
		{"discover", "for", "For", "discover.txtar"},
		{"discover", "interval", "Interval", "discover_watch.txtar"},
		{"discover", "min", "Min", "discover.txtar"},
		{"discover", "limit", "Limit", "discover.txtar"},
		{"discover", "output", "Output", "discover.txtar"},

		{"holepunch", "count", "Count", "holepunch.txtar"},
		{"holepunch", "interval", "Interval", "holepunch.txtar"},
		{"holepunch", "hold", "Hold", "holepunch.txtar"},
		{"holepunch listen", "relay", "Relays", "holepunch.txtar"},
		{"holepunch listen", "ready-file", "ReadyFile", "holepunch.txtar"},
		{"pipe", "listen-tcp", "ListenTCP", "pipe.txtar"},
		{"pipe", "tcp", "TCP", "pipe.txtar"},
		{"pipe", "patience", "Patience", "pipe.txtar"},
		{"pipe", "ready-file", "ReadyFile", "pipe.txtar"},
		{"pipe listen", "relay", "Relays", "pipe.txtar"},
		{"pipe listen", "tcp", "TCP", "pipe.txtar"},
		{"pipe listen", "patience", "Patience", "pipe.txtar"},
		{"pipe listen", "ready-file", "ReadyFile", "pipe.txtar"},
		{"ping", "count", "Count", "ping.txtar"},
		{"ping", "interval", "Interval", "ping.txtar"},
		{"natcheck", "server", "Servers", "natcheck.txtar"},
		{"natcheck", "assert", "Assert", "natcheck.txtar"},
		{"natcheck", "diff", "Diff", "natcheck.txtar"},
		{"natcheck", "every", "Every", "natcheck.txtar"},
		{"natcheck", "redact", "Redact", "natcheck.txtar"},
		{"natcheck", "no-portmap", "NoPortMap", "TestNoPortMap"},
		{"id", "allow-unknown-peer", "AllowUnknown", "id.txtar"},

		{"key new", "type", "Type", "key.txtar"},
		{"key new", "bits", "Bits", "key.txtar"},
		{"key new", "format", "Format", "key.txtar"},
		{"key new", "output", "Out", "key.txtar"},
		{"key convert", "format", "Format", "key.txtar"},
		{"key convert", "output", "Out", "key.txtar"},
		{"psk new", "output", "Out", "key.txtar"},
		{"config show", "origin", "Origin", "TestConfigShow"},
	}
}
