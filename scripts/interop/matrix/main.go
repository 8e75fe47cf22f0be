// Command matrix runs other implementations of libp2p against dibber, each as processes of its own, and prints one table: peer by
// feature, pass, fail or skipped with the reason.
//
//	go run ./scripts/interop/matrix [-only PEER,…] [-json] [-work DIR]
//
// What it builds it keeps for the next run. Where it is root and has ip it works in network namespaces that hold only loopback;
// elsewhere on loopback, and what cannot be shown there is skipped. It exits 1 if something failed.
package main

import (
	"os"

	aquadoggo "dibber/scripts/interop/aquadoggo/nodes"
	"dibber/scripts/interop/bed"
	"dibber/scripts/interop/browser"
	"dibber/scripts/interop/js"
	"dibber/scripts/interop/kubo"
	"dibber/scripts/interop/negentropy"
	"dibber/scripts/interop/pchain"
	"dibber/scripts/interop/rust"
	"dibber/scripts/interop/stock"
	"dibber/scripts/interop/waku"
)

func main() {
	// The cheap ones first.
	os.Exit(bed.Main([]bed.Peer{stock.Peer(), negentropy.Go(), negentropy.JavaScript(), waku.Peer(), js.Peer(), browser.Peer(), kubo.Peer(), rust.Peer(), pchain.Peer(), aquadoggo.Peer()}))
}
