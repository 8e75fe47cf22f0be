package commands

import (
	"fmt"
	"strings"
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
	for _, line := range []string{
		"--registry a:1", "--registry http://a", "--registry etcd://", "--registry etcd://a,,b", "--registry-ca ca",
		"--registry etcds://a --registry-cert c", "--registry etcds://a --registry-key k", "--registry etcd://a --registry-ca ca",
		"--registry etcd://a --registry-user u", "--registry etcd://a --registry-password-file p",
		"--registry etcds://a --registry-ca /nowhere", "--registry etcds://a --registry-cert /nowhere --registry-key /nowhere",
		"--registry etcd://a --registry-user u --registry-password-file /nowhere",
	} {
		args := append(strings.Fields("serve --rendezvous --identity ephemeral --listen /ip4/127.0.0.1/udp/0/quic-v1 --state-dir"), t.TempDir())
		session{}.run(t.Context(), append(args, strings.Fields(line)...)...).wrongUsage(t, "--registry")
	}
}
