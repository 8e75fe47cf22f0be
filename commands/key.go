package commands

import (
	"context"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"dibber/netkit/addr"
	"dibber/netkit/identity"
	"dibber/netkit/pchain"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"
)

// keyOptions are the flags and arguments of the key commands.
type keyOptions struct {
	Type   string
	Bits   int
	Format string
	Out    string
	File   string
	Public string
}

// keyDoc describes a key by what anybody may know of it.
type keyDoc struct {
	Peer         string         `json:"peer"`
	KeyType      string         `json:"key_type"`
	Bits         *int           `json:"bits"` // size of an RSA key; null for other types, whose size is fixed
	IDs          addr.Encodings `json:"ids"`
	IDRevealsKey bool           `json:"id_reveals_key"`
	PublicKey    string         `json:"public_key_b64"` // libp2p's PublicKey message
	// Address is the peer's on the network of a ParallelChain; null for keys that are not Ed25519.
	Address *pchain.Address `json:"pchain_address"`
	File    *string         `json:"file"`   // where the private key was read or written; null for stdin
	Format  *string         `json:"format"` // the format it was written in; null if it was only read
}

func newKey(e *env) spec {
	var o keyOptions
	return spec{
		name: "key", usage: "make, show and convert the keys of peers",
		about: `A peer is known by its key: the peer id is made of the public one, and whoever has the private one is the peer.
Private keys are read in every format that dibber writes, and from a kubo configuration or OpenSSH.`,
		examples:    []string{"dibber key new -o peer.key", "dibber key show peer.key", "dibber key convert peer.key --format pem"},
		subcommands: []spec{newKeyNew(&o), newKeyShow(&o), newKeyConvert(e, &o), newKeyInvite(e)},
	}
}

func newKeyNew(o *keyOptions) spec {
	o.Type = string(identity.Ed25519)
	return spec{
		name: "new", usage: "make a private key",
		examples: []string{
			"dibber key new -o peer.key",
			"dibber key new --type rsa --bits 3072 --format pem -o rsa.pem",
			"dibber key new --format hex -o -",
		},
		flags: []cli.Flag{
			choiceFlag("", "type", "`TYPE` of the key", &o.Type, wordsOf(identity.Types())...),
			&cli.IntFlag{
				Name: "bits", Destination: &o.Bits,
				Usage: fmt.Sprintf("size of an RSA key, `N` bits; 0 means %d", identity.DefaultRSABits),
			},
			formatFlag(o), outFlag(o, ""),
		},
		options: o, doc: keyDoc{},
		validate: func(args []string) error {
			switch {
			case len(args) > 0:
				return usagef("key new takes no arguments, but got %q; the file is named by -o", args[0])
			case o.Out == "":
				return usagef("key new needs -o FILE, or -o - for stdout")
			case o.Bits != 0 && o.Type != string(identity.RSA):
				return usagef("--bits is for --type rsa; the size of a %s key is fixed", o.Type)
			case o.Bits != 0 && (o.Bits < identity.MinRSABits || o.Bits > identity.MaxRSABits):
				return usagef("--bits: %d is not between %d and %d", o.Bits, identity.MinRSABits, identity.MaxRSABits)
			}
			return o.checkFormat(identity.Type(o.Type))
		},
		run: func(_ context.Context, out *output) (any, error) {
			return writeKey(out, *o, func() (crypto.PrivKey, error) { return identity.Generate(identity.Type(o.Type), o.Bits) })
		},
	}
}

func newKeyShow(o *keyOptions) spec {
	return spec{
		name: "show", usage: "show what a private key tells the world", args: "FILE|-",
		about: "Nothing secret is printed.",
		examples: []string{
			"dibber key show peer.key",
			"dibber key show peer.key -q",
			"dibber key show - --json",
		},
		doc: keyDoc{}, validate: o.oneFile("key show"),
		run: func(_ context.Context, out *output) (any, error) {
			key, err := o.read(out)
			if err != nil {
				return nil, err
			}
			return describeKey(key, o.File)
		},
	}
}

func newKeyConvert(e *env, o *keyOptions) spec {
	return spec{
		name: "convert", usage: "write a private key in another format, or a public one in every form", args: "[FILE|-]",
		about: `With --public nothing is written: a peer id, an address of ParallelChain or a public Ed25519 key in hex is shown in every
form. The address is the 32 bytes of the public key in base64url, and the name of the peer's mailbox.`,
		examples: []string{
			"dibber key convert peer.key --format pem",
			"dibber key convert peer.key --format hex -o aquadoggo.key",
			"dibber key convert --public 6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw",
		},
		flags: []cli.Flag{formatFlag(o), outFlag(o, "-"), &cli.StringFlag{
			Name: "public", Usage: "show `KEY`, a peer id, an address of ParallelChain or 64 hex digits, in every form", Destination: &o.Public,
		}},
		options: o, doc: keyDoc{}, validate: func(args []string) error {
			if o.Public == "" {
				return o.oneFile("key convert")(args)
			}
			if len(args) > 0 || e.named("format", "output") {
				return usagef("--public takes no file, --format or --output: nothing secret is written")
			}
			_, err := o.publicKey()
			return err
		},
		run: func(_ context.Context, out *output) (any, error) {
			if o.Public != "" {
				public, err := o.publicKey()
				if err != nil {
					return nil, err
				}
				return describePublic(public, "-")
			}
			return writeKey(out, *o, func() (crypto.PrivKey, error) { return o.read(out) })
		},
	}
}

// formatFlag declares --format of the commands that write a private key.
func formatFlag(o *keyOptions) cli.Flag {
	o.Format = string(identity.FormatProtobuf)
	return choiceFlag("", "format", "`FORMAT` of the file: protobuf as libp2p stores it, hex as aquadoggo, base64 as kubo, pem",
		&o.Format, wordsOf(identity.Formats())...)
}

// outFlag declares -o of the commands that write a secret.
func outFlag(o *keyOptions, def string) cli.Flag {
	return &cli.StringFlag{
		Name: "output", Aliases: []string{"o"}, Value: def, Destination: &o.Out,
		Usage: "write a new `FILE` that only its owner can read, or - for stdout; a file is never overwritten",
	}
}

// wordsOf returns the values of a string type as flag words.
func wordsOf[T ~string](values []T) []string {
	var list []string
	for _, v := range values {
		list = append(list, string(v))
	}
	return list
}

// checkFormat returns a usage error if the format cannot hold a key of this type.
func (o *keyOptions) checkFormat(t identity.Type) error {
	if o.Format == string(identity.FormatHex) && t != identity.Ed25519 {
		return usagef("--format hex holds ed25519 keys only, not %s", t)
	}
	return nil
}

// oneFile returns a validate that takes the file to read.
func (o *keyOptions) oneFile(command string) func([]string) error {
	return func(args []string) error {
		if len(args) != 1 {
			return usagef("%s needs one FILE, or - for stdin", command)
		}
		o.File = args[0]
		return nil
	}
}

// read reads the private key that the arguments name.
func (o *keyOptions) read(out *output) (crypto.PrivKey, error) {
	if o.File != "-" {
		return identity.Load(o.File)
	}
	data, err := io.ReadAll(io.LimitReader(out.stdin(), identity.MaxKeyLen+1))
	if err != nil {
		return nil, fmt.Errorf("read stdin: %w", err)
	}
	key, _, err := identity.Parse(data)
	return key, err
}

// writeKey writes the key that get returns to -o. Whether stdout is free is asked first: a key made for nothing helps nobody.
func writeKey(out *output, o keyOptions, get func() (crypto.PrivKey, error)) (any, error) {
	write, err := secretWriter(out, o.Out)
	if err != nil {
		return nil, err
	}
	key, err := get()
	if err != nil {
		return nil, err
	}
	if err := o.checkFormat(identity.TypeOf(key)); err != nil {
		return nil, err
	}
	data, err := identity.Encode(key, identity.Format(o.Format))
	if err != nil {
		return nil, err
	}
	if err := write(data); err != nil {
		return nil, err
	}
	doc, err := describeKey(key, o.Out)
	doc.Format = &o.Format
	return doc, err
}

// secretWriter returns how a secret is written to a file, or to stdout for "-".
func secretWriter(out *output, path string) (func([]byte) error, error) {
	if path != "-" {
		return func(data []byte) error {
			err := identity.Write(path, data)
			if errors.Is(err, fs.ErrExist) {
				return usagef("%s is already there; a secret is never overwritten", path)
			}
			return err
		}, nil
	}
	w, err := out.stdout()
	return func(data []byte) error {
		_, err := w.Write(data)
		return err
	}, err
}

// publicKey reads --public.
func (o *keyOptions) publicKey() (crypto.PubKey, error) {
	if a, err := pchain.ParseAddress(o.Public); err == nil {
		return crypto.UnmarshalEd25519PublicKey(a[:])
	}
	if raw, err := hex.DecodeString(o.Public); err == nil && len(raw) == len(pchain.Address{}) {
		return crypto.UnmarshalEd25519PublicKey(raw)
	}
	id, err := addr.ParseID(o.Public)
	if err != nil {
		return nil, usagef("--public: %q is no peer id, no address of ParallelChain and no 64 hex digits", shorten(o.Public))
	}
	key, ok := addr.PublicKey(id)
	if !ok {
		return nil, usagef("--public: %s is the hash of a key, which it does not contain", id)
	}
	return key, nil
}

// describeKey returns what the public half of a key tells.
func describeKey(key crypto.PrivKey, file string) (keyDoc, error) {
	return describePublic(key.GetPublic(), file)
}

func describePublic(public crypto.PubKey, file string) (keyDoc, error) {
	id, err := peer.IDFromPublicKey(public)
	if err != nil {
		return keyDoc{}, fmt.Errorf("make the peer id: %w", err)
	}
	ids, err := addr.EncodingsOf(id)
	if err != nil {
		return keyDoc{}, err
	}
	encoded, err := crypto.MarshalPublicKey(public)
	if err != nil {
		return keyDoc{}, fmt.Errorf("encode the public key: %w", err)
	}
	_, reveals := addr.PublicKey(id)
	doc := keyDoc{
		Peer: id.String(), KeyType: string(identity.TypeOf(public)), Bits: rsaBits(public), IDs: ids, IDRevealsKey: reveals,
		PublicKey: base64.StdEncoding.EncodeToString(encoded),
	}
	if a, err := pchain.AddressOf(id); err == nil {
		doc.Address = &a
	}
	if file != "-" {
		doc.File = &file
	}
	return doc, nil
}

// rsaBits returns the size of an RSA key, nil for keys of other types.
func rsaBits(public crypto.PubKey) *int {
	std, err := crypto.PubKeyToStdKey(public)
	if err != nil {
		return nil
	}
	r, ok := std.(*rsa.PublicKey)
	if !ok {
		return nil
	}
	bits := r.N.BitLen()
	return &bits
}

func (d keyDoc) quiet() string { return d.Peer }

func (d keyDoc) renderText(t *text) {
	t.field("peer", "%s", d.Peer)
	kind := d.KeyType
	if d.Bits != nil {
		kind += fmt.Sprintf(", %d bits", *d.Bits)
	}
	t.field("key type", "%s", kind)
	t.field("cid base32", "%s", d.IDs.CIDBase32)
	t.field("cid base36", "%s", d.IDs.CIDBase36)
	t.field("multihash", "%s", d.IDs.MultihashHex)
	t.field("multiaddr", "%s", d.IDs.Multiaddr)
	t.field("public key", "%s", d.PublicKey)
	if d.Address != nil {
		t.field("pchain address", "%s", *d.Address)
	}
	if d.IDRevealsKey {
		t.field("id reveals key", "yes, the peer id contains the public key")
	} else {
		t.field("id reveals key", "no, the peer id is a hash of the public key")
	}
	if d.File != nil && d.Format != nil {
		t.field("written", "%s", strings.Join([]string{*d.File, *d.Format}, ", "))
	}
}
