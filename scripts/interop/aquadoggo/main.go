// Command aquadoggo builds two real nodes of aquadoggo, lets them find each other and replicate through dibber serve --relay
// --rendezvous, and prints what happens. It is the rows of that peer in scripts/interop/matrix, whose flags it takes.
//
//	go run ./scripts/interop/aquadoggo
//
// aquadoggo is under the AGPL: its nodes are processes of their own, and nothing of it is linked into dibber or copied.
package main

import (
	"os"

	"dibber/scripts/interop/aquadoggo/nodes"
	"dibber/scripts/interop/bed"
)

func main() { os.Exit(bed.Main([]bed.Peer{nodes.Peer()})) }
