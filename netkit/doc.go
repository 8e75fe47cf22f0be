// Package netkit is the root of dibber's libraries. It holds no code, only this map and the test that keeps it true.
//
// # The map
//
//	L0    addr identity wire store retry nat        pure or nearly: what is written, keyed, framed, kept, tried again, concluded
//	      negentropy control                        and compared; and how a running node is asked
//	      bamboo logstore                           entries of signed logs, and a store of them
//	      pchain bans backup invite                 what peers of ParallelChain say; whom an operator keeps out and lets in, and what he puts by
//	host                                            Config → *host.Node, the one place that builds libp2p hosts
//	L1    rendezvous relay dialback reach           one protocol each
//	      mdns ping pipe perf vantage portmap p2panda
//	      blocks route gossip letter join
//	      etcd                                      a rendezvous registry that servers share
//	L2    natcheck punch discover dial replicate    what a person asks for, composed of the above
//	      peering chain serve cockpit
//	      natlab netns clock                        a simulated internet, namespaces of the kernel on it, wall clocks that jump: for tests only
//
// # The rule
//
// main → commands → L2 → L1 → host → L0. A package imports only what stands to its right: L1 packages do not import each other,
// and an L2 package imports only the L2 packages before it in the map. What two protocols have to do with each other is composed
// in L2, or handed over by commands in a Config.
//
// The libraries know no flags, no tables and no terminal: only commands imports urfave/cli and tablewriter, and no library
// imports flag or log. L0 imports nothing of libp2p's implementation (go-libp2p/p2p/…), only core/… . Only host and natlab import
// go-libp2p itself, which builds hosts. natlab, netns and clock are in no binary, and no code but theirs imports the testing package.
//
// # Two shapes
//
// A service is New(h, Config) (*Service, error) and Close; a one-shot is Do(ctx, h, Config) (Result, error). The zero Config
// works; a Config may carry On func(Event) for progress. Results are structs with JSON tags and no prose.
package netkit
