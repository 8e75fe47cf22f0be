// Package natlab is a simulated internet for tests: real go-libp2p hosts speak
// QUIC to each other through routers, NATs and firewalls, in the virtual time of
// testing/synctest. It needs no root, opens no socket of the machine, and a
// minute of simulated time costs milliseconds.
//
// NATs are described in the terms of RFC 4787 (mapping, filtering, port
// assignment, hairpinning), the IPv6 firewall in those of RFC 6092. The rules
// themselves do no I/O and are told the time (see [Table]).
//
// A lab is a tree of networks. The internet is its root; a [Router] joins a LAN
// to the network it stands in, which may itself be a LAN (double NAT). Machines
// hang on networks by a [Link] with latency, loss and rate; so do routers.
//
//	internet ─┬─ link ─ machine "relay"          17.0.1.1
//	          └─ link ─ router "home" (NAT)      17.0.2.1 │ 10.0.1.1
//	                      └─ LAN ─┬─ link ─ machine "alice"   10.0.1.2
//	                              └─ link ─ machine "bob"     10.0.1.3
//
// A packet spends a link's latency on every link it crosses, and a router looks
// at it when it arrives there, not when it was sent: whether two opening packets
// cross in flight is decided as it is on a real network.
//
//	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
//		home := lab.Internet().Router("home", natlab.RouterConfig{NAT: natlab.NAT{Filtering: natlab.AddressAndPortDependent}})
//		alice := home.LAN().Machine("alice", natlab.MachineConfig{})
//		…
//	})
//
// What happened to every packet is kept in a ring and printed when a test fails.
//
// The sockets of machines are UDP only. A machine that is attached to a network
// stack instead ([Machine.Attach]) sends and receives the IP packets of that stack,
// UDP and TCP, in a lab that [New] made, where time is real: package netns does so
// with network namespaces. Of ICMP only the answer to a rejected packet is carried,
// which an unconnected UDP socket does not notice, here as on Linux.
package natlab
