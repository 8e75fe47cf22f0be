package commands

import (
	"context"

	"dibber/netkit/identity"

	"github.com/urfave/cli/v2"
)

// pskDoc says where a pre-shared key was written.
type pskDoc struct {
	File *string `json:"file"` // null for stdout
}

func newPSK(*env) spec {
	var o keyOptions
	examples := []string{"dibber psk new -o swarm.key", "dibber psk new -o - > swarm.key", "dibber psk new -o swarm.key -q"}
	return spec{
		name: "psk", usage: "make the pre-shared key of a private network",
		about:    "Peers with the same pre-shared key form a network that nobody else can join or read, over TCP transports.",
		examples: examples,
		subcommands: []spec{{
			name: "new", usage: "make a pre-shared key in the format that kubo, rust-libp2p and js-libp2p read",
			examples: examples,
			flags:    []cli.Flag{outFlag(&o, "")},
			options:  &o, doc: pskDoc{},
			validate: func(args []string) error {
				switch {
				case len(args) > 0:
					return usagef("psk new takes no arguments, but got %q; the file is named by -o", args[0])
				case o.Out == "":
					return usagef("psk new needs -o FILE, or -o - for stdout")
				}
				return nil
			},
			run: func(_ context.Context, out *output) (any, error) { return runPSKNew(out, o) },
		}},
	}
}

func runPSKNew(out *output, o keyOptions) (any, error) {
	write, err := secretWriter(out, o.Out)
	if err != nil {
		return nil, err
	}
	data, err := identity.EncodePSK(identity.NewPSK())
	if err != nil {
		return nil, err
	}
	if err := write(data); err != nil {
		return nil, err
	}
	if o.Out == "-" {
		return pskDoc{}, nil
	}
	return pskDoc{File: &o.Out}, nil
}

func (d pskDoc) quiet() string {
	if d.File == nil {
		return ""
	}
	return *d.File
}

func (d pskDoc) renderText(t *text) {
	if d.File != nil {
		t.field("written", "%s", *d.File)
	}
}
