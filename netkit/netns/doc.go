// Package netns is the second test bed: network namespaces of the Linux kernel in
// which real programs run, UDP and TCP, over the simulated internet of package
// natlab. It is for tests only, and needs root; a test that cannot run says what
// is missing and is skipped, or fails where DIBBER_NETNS_REQUIRED is 1.
//
// The internet between the namespaces is a natlab in real time: each [Host] has
// one TUN device, up0, whose packets cross natlab's links and routers. So its NATs
// of every kind, firewalls, latency, loss and rate are the same code in both beds
// (see [natlab.RouterConfig], [natlab.LinkConfig]). Beside them stand routers that
// owe it nothing: a [Router] is a namespace in which the kernel forwards between
// up0 and a LAN of veth devices and nftables translates. Hosts behind either kind
// meet in one lab.
//
//	natlab ─┬─ link ─ up0 │ namespace "relay"                          17.0.1.1
//	        ├─ link ─ natlab's router "home" (NAT)                     17.0.2.1 │ 10.0.1.1
//	        │          └─ LAN ─ up0 │ namespace "alice"                10.0.1.2
//	        └─ link ─ up0 │ namespace "office": nftables │ lan0        17.0.3.1 │ 192.168.1.1
//	                          └─ veth ─ up0 │ namespace "bob"          192.168.1.2
//
// # Two programs behind a pair of NATs
//
//	lab := netns.New(t, natlab.Config{})
//	relay := lab.Host(lab.Internet(), "relay", natlab.MachineConfig{})
//	alice := lab.Behind("alice", natlab.RouterConfig{NAT: natlab.Grid()[4]})
//	bob := lab.Router(lab.Internet(), "office", netns.RouterConfig{}).Inside("bob")
//	server := relay.Start("dibber", "serve", "--relay", "--ndjson")
//	ready := server.Event("ready")
//
// The addresses are ones that go-libp2p takes for public outside and for private
// inside, as in natlab. What a child prints with --ndjson is read event by event;
// children are killed with the test, whatever becomes of it.
//
// # Nothing stays behind
//
// Namespaces have no name: the test holds them by open files, and its children by
// running in them. The kernel ends the children with the test's process, and
// removes a namespace with its devices, routes and rules once nothing holds it. A
// crash needs no cleaning.
package netns
