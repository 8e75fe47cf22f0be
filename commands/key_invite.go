package commands

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/control"
	"dibber/netkit/identity"
	"dibber/netkit/invite"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/urfave/cli/v2"
)

// inviteOptions are the flags of key invite.
type inviteOptions struct {
	Host       hostOptions // of which only the key, the network key and where the node is
	For        time.Duration
	Addrs      []string
	Relays     []string
	Namespace  string
	IncludePSK bool
	Revoke     string
	List       bool
}

// inviteDoc is the document of key invite.
type inviteDoc struct {
	Token       *string         `json:"token"`      // null: none was made
	Peer        *peer.ID        `json:"peer"`       // who invites; null: nobody does
	Addrs       []string        `json:"addrs"`      // where, each ends with /p2p/PEER
	Relays      []string        `json:"relays"`     // in the token
	Invitation  *invite.Entry   `json:"invitation"` // that was made or revoked; null with --list
	Invitations *[]invite.Entry `json:"invitations"`
}

func newKeyInvite(*env) spec {
	var o inviteOptions
	return spec{
		name: "invite", usage: "make a token that lets others in, list those made, or revoke one",
		about: `Who has the token is let in by this node until the token ends: its peer id is added to the allow list when it is shown, by
--join of any command. The token has the peer id and addresses of the node, those of a serve that is running unless --addr
says otherwise; relays and a namespace that --join then uses; and the key of the private network only with --include-psk.
It is signed by the node's key, which is --identity or that of the state folder.

Everybody who reads the token can use it, up to 256 peers: hand it over as you would a password. What was made, who came by it and what was revoked is in the
folder invites of the state folder, without the tokens themselves. With --revoke, and when a token ends, those who came by it are
shut out at once. Where no list keeps strangers out there is nothing to be let into, and a token only tells where the node is.`,
		examples: []string{
			"dibber key invite --for 24h --namespace chat",
			"dibber key invite --addr /ip4/192.0.2.7/udp/4001/quic-v1 --psk-file net.psk --include-psk -q",
			"dibber key invite --revoke 3f2a9c0d4e5b6a798897a6b5c4d3e2f1",
		},
		flags: append([]cli.Flag{
			&cli.DurationFlag{Name: "for", Value: 24 * time.Hour, Usage: "let others in for `DURATION` from now", Destination: &o.For},
			listFlag("", "addr", "the node is at `ADDR` (repeatable); else where the running one is", &o.Addrs),
			listFlag("", "relay", "who joins reserves on `RELAY` (repeatable); else on this node where it is one", &o.Relays),
			&cli.StringFlag{Name: "namespace", Usage: "who joins registers in `NS` of this node, and looks there", Destination: &o.Namespace},
			&cli.BoolFlag{Name: "include-psk", Usage: "put the key of --psk-file into the token", Destination: &o.IncludePSK},
			&cli.StringFlag{Name: "revoke", Usage: "take back the token of this `ID`", Destination: &o.Revoke},
			&cli.BoolFlag{Name: "list", Usage: "list the invitations", Destination: &o.List},
			adminFlag(&o.Host),
		}, slices.DeleteFunc(hostFlags(&o.Host), func(f cli.Flag) bool {
			return !slices.Contains([]string{"identity", "psk-file", "state-dir"}, f.Names()[0])
		})...),
		options: &o, doc: inviteDoc{},
		validate: o.validate,
		run:      func(ctx context.Context, out *output) (any, error) { return runKeyInvite(ctx, out, o) },
	}
}

func (o *inviteOptions) validate(args []string) error {
	switch {
	case len(args) > 0:
		return usagef("key invite takes no arguments, but got %q", args[0])
	case o.Revoke != "" && o.List:
		return usagef("--revoke and --list exclude each other")
	case o.For < time.Second:
		return usagef("--for: %s is less than a second", o.For)
	case o.IncludePSK && o.Host.PSKFile == "":
		return usagef("--include-psk needs --psk-file, the key of the private network")
	case len(o.Namespace) > invite.MaxNamespace:
		return usagef("--namespace: %d bytes are more than %d", len(o.Namespace), invite.MaxNamespace)
	}
	if o.Revoke != "" {
		if _, err := invite.ParseID(o.Revoke); err != nil {
			return usagef("--revoke: %w", err)
		}
	}
	if _, err := o.relays(); err != nil {
		return err
	}
	_, err := parseAddrs("--addr", o.Addrs)
	return err
}

// relays reads --relay.
func (o *inviteOptions) relays() ([]ma.Multiaddr, error) {
	var out []ma.Multiaddr
	for _, text := range o.Relays {
		t, err := addr.ParseTarget(text, addr.Options{})
		if err != nil {
			return nil, usagef("--relay: %w", err)
		}
		if len(t.Addrs) == 0 {
			return nil, usagef("--relay: %s has no address", text)
		}
		out = append(out, t.P2PAddrs()...)
	}
	return out, nil
}

func runKeyInvite(ctx context.Context, out *output, o inviteOptions) (any, error) {
	book := invitations(o.Host.stateDir(out.e))
	now := time.Now()
	switch {
	case o.List:
		list, err := book.List()
		return inviteDoc{Invitations: &list}, err
	case o.Revoke != "":
		id, err := invite.ParseID(o.Revoke)
		if err != nil {
			return nil, err
		}
		e, err := book.Revoke(id, now)
		if errors.Is(err, invite.ErrUnknown) {
			return nil, &failure{Exit: exitNotFound, Hint: "dibber key invite --list lists them", Err: err}
		}
		return inviteDoc{Invitation: &e}, err
	}
	file := o.Host.Identity
	if file == "" {
		file = filepath.Join(o.Host.stateDir(out.e), identityFile)
	}
	key, created, err := identity.LoadOrCreate(file)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if created {
		out.notice("identity created in %s", file)
	}
	t := invite.Token{Expires: now.Add(o.For).Truncate(time.Second), Namespace: o.Namespace}
	if t.Peer, err = peer.IDFromPrivateKey(key); err != nil {
		return nil, fmt.Errorf("make the peer id: %w", err)
	}
	if err := o.place(ctx, out, &t); err != nil {
		return nil, err
	}
	if o.IncludePSK {
		if t.PSK, err = identity.LoadPSK(o.Host.PSKFile); err != nil {
			return nil, fmt.Errorf("private network key: %w", err)
		}
	}
	if t.ID, err = invite.NewID(); err != nil {
		return nil, err
	}
	text, err := t.Sign(key)
	if err != nil {
		return nil, err
	}
	e, err := book.Add(t, now)
	if err != nil {
		return nil, err
	}
	doc := inviteDoc{Token: &text, Peer: &t.Peer, Invitation: &e}
	for _, a := range t.Addrs {
		doc.Addrs = append(doc.Addrs, addr.WithPeer(a, t.Peer).String())
	}
	for _, r := range t.Relays {
		doc.Relays = append(doc.Relays, r.String())
	}
	return doc, nil
}

// place fills in where the node is, and its relays: as the flags say, or else as the running node does.
func (o *inviteOptions) place(ctx context.Context, out *output, t *invite.Token) (err error) {
	if t.Addrs, err = parseAddrs("--addr", o.Addrs); err != nil {
		return err
	}
	if t.Relays, err = o.relays(); err != nil {
		return err
	}
	var at statusDoc
	ctl := ctlOptions{Host: o.Host}
	err = ctl.ask(ctx, out, http.MethodGet, "/status", nil, &at)
	switch {
	case errors.Is(err, control.ErrNotRunning) && len(t.Addrs) > 0:
		return nil
	case errors.Is(err, control.ErrNotRunning):
		return &failure{Exit: exitUsage, Err: errors.New("key invite does not know where the node is: none is running"), Hint: "name its --addr, or start dibber serve with the same --state-dir"}
	case err != nil:
		return err
	case at.Peer == nil || at.Addresses == nil || at.Roles == nil:
		return fmt.Errorf("the running node does not say where it is")
	case *at.Peer != t.Peer:
		return usagef("the running node is %s, and the key is that of %s: give its --identity", at.Peer, t.Peer)
	}
	if len(t.Addrs) == 0 {
		t.Addrs = invited(*at.Addresses)
	}
	if len(t.Relays) == 0 && slices.Contains(*at.Roles, "relay") {
		for _, a := range t.Addrs {
			t.Relays = append(t.Relays, addr.WithPeer(a, t.Peer))
		}
	}
	return nil
}
