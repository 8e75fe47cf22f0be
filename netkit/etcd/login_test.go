package etcd_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	client "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/metadata"

	"dibber/netkit/etcd"
	"dibber/netkit/rendezvous"
)

// newGuarded starts an etcd whose user "dibber" may use the prefix, and "reader" read there.
func newGuarded(t *testing.T, args ...string) *member {
	t.Helper()
	m := startMember(t, etcd.Config{}, args...)
	c := m.client(t)
	const prefix = "/test/"
	for _, err := range []error{
		failure(c.UserAdd(t.Context(), "root", "secret")),
		failure(c.UserGrantRole(t.Context(), "root", "root")),
		failure(c.RoleAdd(t.Context(), "registry")),
		failure(c.RoleGrantPermission(t.Context(), "registry", prefix, client.GetPrefixRangeEnd(prefix), client.PermissionType(client.PermReadWrite))),
		failure(c.UserAdd(t.Context(), "dibber", "secret")),
		failure(c.UserGrantRole(t.Context(), "dibber", "registry")),
		failure(c.RoleAdd(t.Context(), "look")),
		failure(c.RoleGrantPermission(t.Context(), "look", prefix, client.GetPrefixRangeEnd(prefix), client.PermissionType(client.PermRead))),
		failure(c.UserAdd(t.Context(), "reader", "secret")),
		failure(c.UserGrantRole(t.Context(), "reader", "look")),
		failure(c.AuthEnable(t.Context())),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func failure[T any](_ T, err error) error { return err }

// client is etcd's own, that has not logged in.
func (m *member) client(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Endpoints: []string{"http://" + m.at}, DialTimeout: 30 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func login(password string) etcd.Config { return etcd.Config{User: "dibber", Password: password} }

func TestLogin(t *testing.T) {
	t.Parallel()
	m := newGuarded(t)
	a := point(t, rendezvous.ServerConfig{Space: m.space(t, login("secret"))})
	b := point(t, rendezvous.ServerConfig{Space: m.space(t, login("secret"))})
	if err := register(t.Context(), newHost(t), a, "ns"); err != nil {
		t.Fatal(err)
	}
	discover(t, newHost(t), b, nil, 1)
	elsewhere := login("secret")
	elsewhere.Prefix = "/elsewhere"
	refused(t, "another password", m.space(t, login("wrong")), etcd.ErrLogin)
	refused(t, "no login", m.space(t, etcd.Config{}), etcd.ErrLogin)
	refused(t, "another prefix", m.space(t, elsewhere), etcd.ErrNoRight)
	refused(t, "no right to write", m.space(t, etcd.Config{User: "reader", Password: "secret"}), etcd.ErrNoRight)
}

// TestLoginEnds ends logins while a server and a watch use one: by the time after which etcd
// forgets those that are not used, and by a restart, after which it knows none.
func TestLoginEnds(t *testing.T) {
	t.Parallel()
	m := newGuarded(t, "--auth-token-ttl", "1")
	s := m.space(t, login("secret"))
	_, after, err := s.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	came, ended := make(chan string, 16), make(chan error, 1)
	go func() {
		ended <- s.Follow(ctx, after, func(_ uint64, changes []rendezvous.SpaceChange) { came <- changes[0].Key })
	}()
	write := func(key string) {
		t.Helper()
		if _, _, err := s.Commit(t.Context(), rendezvous.SpaceWrite{Puts: []rendezvous.SpacePut{{Key: key, Expires: time.Now().Add(time.Hour)}}}); err != nil {
			t.Fatalf("write %s: %v", key, err)
		}
		if got := <-came; got != key {
			t.Fatalf("%s was written, and %s came", key, got)
		}
	}
	write("before")
	m.loggedOut(t)
	write("later")
	m.kill()
	m.start(t)
	m.await(t, login("secret"))
	write("after")
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// loggedOut returns when a login of the moment, which nobody has used since, is not known any more.
func (m *member) loggedOut(t *testing.T) {
	t.Helper()
	c := m.client(t)
	in, err := c.Authenticate(t.Context(), "dibber", "secret")
	if err != nil {
		t.Fatal(err)
	}
	for wait := 1500 * time.Millisecond; ; wait *= 2 { // each try is a use
		time.Sleep(wait)
		ctx, cancel := context.WithTimeout(t.Context(), wait) // it asks again all that time
		_, err := c.Get(metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, in.Token), "/test/")
		cancel()
		if err != nil {
			return
		}
	}
}
