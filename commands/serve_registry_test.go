package commands

import (
	"fmt"
	"testing"
)

// TestSharedRegistry holds what --registry and the flags about it accept; netkit/etcd tests what they do.
func TestSharedRegistry(t *testing.T) {
	for at, want := range map[string]string{
		"etcd://a:1,b/x/y/": "[a:1 b:2379] /x/y false",
		"etcds://[::1]:7":   "[[::1]:7]  true",
	} {
		o := registryOptions{At: at}
		cfg, secure, err := o.parse()
		if got := fmt.Sprint(cfg.Endpoints, " ", cfg.Prefix, " ", secure); err != nil || got != want {
			t.Errorf("%s: %s, %v, not %s", at, got, err, want)
		}
	}
	for _, o := range []registryOptions{
		{At: "a:1"},
		{At: "http://a"},
		{At: "etcd://"},
		{At: "etcd://a,,b"},
		{At: "etcds://a", Cert: "c"},
		{At: "etcd://a", CA: "ca"},
		{At: "etcd://a", User: "u"},
		{At: "etcd://a", PasswordFile: "p"},
		{At: "etcds://a", Key: "k"},
	} {
		if o.validate() == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	for _, o := range []registryOptions{
		{At: "etcds://a", CA: "/nowhere"}, {At: "etcds://a", Cert: "/nowhere", Key: "/nowhere"}, {At: "etcd://a", User: "u", PasswordFile: "/nowhere"},
	} {
		if _, err := o.open(); err == nil {
			t.Errorf("%+v is opened", o)
		}
	}
}
