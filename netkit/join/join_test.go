package join_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/invite"
	"dibber/netkit/join"
	"dibber/netkit/wire"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

func newKey(t *testing.T) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newHost(t *testing.T, cfg host.Config) *host.Node {
	t.Helper()
	cfg.Listen = []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0")}
	n, err := host.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// club is a node that lets one friend in, and makes tokens.
type club struct {
	*host.Node
	key    crypto.PrivKey
	book   invite.Book
	events chan join.Event
}

func newClub(t *testing.T) *club {
	t.Helper()
	c := &club{key: newKey(t), book: invite.Book{Dir: t.TempDir()}, events: make(chan join.Event, 100)}
	friend, err := peer.IDFromPrivateKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	c.Node = newHost(t, host.Config{Identity: c.key, Access: host.Access{AllowPeers: []peer.ID{friend}}})
	s, err := join.New(c.Node, join.Config{Book: c.book, On: func(e join.Event) { c.events <- e }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return c
}

// token makes one that lasts, and enters it into the book.
func (c *club) token(t *testing.T, lasts time.Duration) (invite.Token, string) {
	t.Helper()
	id, err := invite.NewID()
	if err != nil {
		t.Fatal(err)
	}
	token := invite.Token{ID: id, Expires: time.Now().Add(lasts).Truncate(time.Second), Addrs: c.ListenAddrs()}
	text, err := token.Sign(c.key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.book.Add(token, time.Now()); err != nil {
		t.Fatal(err)
	}
	return token, text
}

// admits reports whether n can speak with the club.
func (c *club) admits(t *testing.T, n *host.Node) bool {
	t.Helper()
	defer n.Forget(c.ID())
	conn, err := n.Dial(t.Context(), c.ID(), c.ListenAddrs())
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ok, err := n.Supports(ctx, conn, "/ipfs/ping/1.0.0")
	return ok && err == nil
}

// TestJoin: a token lets a stranger in, whom nothing else is spoken with before, until it is revoked, which ends the connection.
func TestJoin(t *testing.T) {
	c, n := newClub(t), newHost(t, host.Config{})
	if c.admits(t, n) {
		t.Error("a stranger is let in")
	}
	token, text := c.token(t, time.Hour)
	if c.admits(t, n) {
		t.Error("a stranger is let in without showing the token")
	}
	r, err := join.Do(t.Context(), n, text)
	if err != nil || r.Peer != c.ID() || !r.Until.Equal(token.Expires) {
		t.Fatalf("%+v, %v", r, err)
	}
	if e := <-c.events; e.Peer != n.ID() || e.Err != nil || *e.ID != token.ID {
		t.Errorf("told: %+v", e)
	}
	if !c.admits(t, n) {
		t.Fatal("the guest is not let in")
	}
	conn, err := n.Dial(t.Context(), c.ID(), c.ListenAddrs())
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan network.Conn, 10)
	n.Network().Notify(&network.NotifyBundle{DisconnectedF: func(_ network.Network, c network.Conn) { gone <- c }})
	if _, err := c.book.Revoke(token.ID, time.Now()); err != nil {
		t.Fatal(err)
	}
	for <-gone != conn { // the earlier ones
	}
	if c.admits(t, n) {
		t.Error("who came by a revoked token is let in")
	}
	if _, err := join.Do(t.Context(), n, text); !errors.Is(err, invite.ErrRevoked) {
		t.Errorf("a revoked token: %v", err)
	}
}

// TestRefused: each token that is not taken has its reason.
func TestRefused(t *testing.T) {
	c, n := newClub(t), newHost(t, host.Config{})
	_, good := c.token(t, time.Hour) // so that strangers may come
	revoked, revokedText := c.token(t, time.Hour)
	if _, err := c.book.Revoke(revoked.ID, time.Now()); err != nil {
		t.Fatal(err)
	}
	_, over := c.token(t, -time.Hour)
	unknown, err := invite.Token{Expires: time.Now().Add(time.Hour), Addrs: c.ListenAddrs()}.Sign(c.key)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := invite.Token{Expires: time.Now().Add(time.Hour), Addrs: c.ListenAddrs()}.Sign(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	nowhere, err := invite.Token{Expires: time.Now().Add(time.Hour), Addrs: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/1")}}.Sign(c.key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := invite.Bytes(good)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, text string
		want       error
	}{
		{"revoked", revokedText, invite.ErrRevoked},
		{"expired", over, invite.ErrExpired},
		{"unknown", unknown, invite.ErrUnknown},
		{"foreign", foreign, join.ErrForeign},
		{"nowhere", nowhere, join.ErrUnreachable},
		{"tampered", good[:len(good)-8] + "AAAAAAAA", invite.ErrSignature},
		{"malformed", "x", invite.ErrFormat},
	} {
		if r, err := join.Do(t.Context(), n, test.text); !errors.Is(err, test.want) {
			t.Errorf("%s: %+v, %v", test.name, r, err)
		}
	}
	if c.admits(t, n) {
		t.Error("a stranger is let in")
	}
	// A node is not fooled by who looks at nothing before showing it.
	other := newClub(t)
	other.token(t, time.Hour)
	for name, body := range map[string][]byte{"foreign": raw, "tampered": append(bytes.Clone(raw[:len(raw)-1]), raw[len(raw)-1]^1), "malformed": {1}, "empty": {}} {
		if got := show(t, n, other, body); len(got) != 1 || got[0] == 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
	if other.admits(t, n) {
		t.Error("a stranger is let in")
	}
}

// show sends bytes as a token, and returns the answer.
func show(t *testing.T, n *host.Node, c *club, body []byte) []byte {
	t.Helper()
	conn, err := n.DialAddr(t.Context(), c.ID(), c.ListenAddrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	st, err := n.OpenOn(t.Context(), conn, join.Protocol)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := wire.Exchange(t.Context(), st, body, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}
