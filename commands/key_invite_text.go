package commands

import (
	"fmt"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/invite"
	"dibber/netkit/serve"

	ma "github.com/multiformats/go-multiaddr"
)

// invited are the addresses of a node that a token has: those that can be reached from farther away in front, loopback where there
// is nothing else.
func invited(list []serve.Address) (out []ma.Multiaddr) {
	for _, scopes := range [][]addr.Scope{{addr.ScopePublic, addr.ScopeDNS, addr.ScopeUnknown}, {addr.ScopePrivate}, {addr.ScopeLoopback}} {
		if len(out) > 0 && scopes[0] == addr.ScopeLoopback {
			break
		}
		for _, l := range list {
			a, err := ma.NewMultiaddr(l.Addr)
			if err != nil || len(out) == invite.MaxAddrs {
				continue
			}
			for _, s := range scopes {
				if addr.ScopeOf(a) == s {
					out = append(out, a)
				}
			}
		}
	}
	return out
}

func (d inviteDoc) quiet() string {
	switch {
	case d.Token != nil:
		return *d.Token
	case d.Invitation != nil:
		return d.Invitation.ID.String()
	}
	return tokens(d.Invitations, func(e invite.Entry) string { return e.ID.String() })
}

func (d inviteDoc) renderText(t *text) {
	if d.Invitations != nil {
		var rows [][]string
		for _, e := range *d.Invitations {
			state := "live"
			if err := e.Live(time.Now()); err != nil {
				state = "expired"
				if e.Revoked != nil {
					state = "revoked"
				}
			}
			rows = append(rows, []string{e.ID.String(), e.Issued.Local().Format(time.DateTime), e.Expires.Local().Format(time.DateTime), state, fmt.Sprint(len(e.Guests))})
		}
		t.table([]string{"INVITATION", "ISSUED", "EXPIRES", "STATE", "GUESTS"}, rows)
		return
	}
	if d.Invitation == nil {
		return
	}
	e := d.Invitation
	t.field("invitation", "%s", e.ID)
	if d.Token == nil {
		t.field("revoked", "%s, with %d guests", e.Revoked.Local().Format(time.DateTime), len(e.Guests))
		return
	}
	t.field("expires", "%s", e.Expires.Local().Format(time.DateTime))
	for i, a := range d.Addrs {
		t.field(labelOnce(i, "node"), "%s", a)
	}
	for i, r := range d.Relays {
		t.field(labelOnce(i, "relay"), "%s", r)
	}
	if e.Namespace != nil {
		t.field("namespace", "%s", plainText(*e.Namespace))
	}
	if e.PSK {
		t.field("has", "the key of the private network")
	}
	t.field("token", "%s", *d.Token)
	t.field("use", "dibber serve --join TOKEN, or --join of any other command")
}
