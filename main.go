// Command dibber makes peers find and reach each other over libp2p.
package main

import (
	"context"
	"os"

	"dibber/commands"
)

func main() {
	os.Exit(commands.Main(commands.Interruptible(context.Background()), os.Args[1:], commands.Stdio{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
	}))
}
