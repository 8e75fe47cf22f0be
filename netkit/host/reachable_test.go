package host

import (
	"slices"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
)

func addrs(list ...string) (out []ma.Multiaddr) {
	for _, s := range list {
		out = append(out, ma.StringCast(s))
	}
	return out
}

func TestAddrsFor(t *testing.T) {
	const (
		loopback = "/ip4/127.0.0.1/udp/4001/quic-v1"
		lan      = "/ip4/192.168.1.7/udp/4001/quic-v1"
		public   = "/ip4/5.9.0.7/udp/4001/quic-v1"
		mapped   = "/ip4/5.9.0.8/udp/31000/quic-v1"
		circuit  = "/ip4/5.9.0.1/udp/4001/quic-v1/p2p/12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm/p2p-circuit"
	)
	for name, c := range map[string]struct {
		known known
		want  []string
	}{
		"nothing known":             {known{listening: addrs(loopback, lan)}, nil},
		"server on this machine":    {known{listening: addrs(loopback, lan), serverAt: addrs("/ip4/127.0.0.1/tcp/1")}, []string{loopback}},
		"server on the LAN":         {known{listening: addrs(loopback, lan), serverAt: addrs("/ip4/192.168.1.1/tcp/1")}, []string{lan}},
		"server on the internet":    {known{listening: addrs(loopback, lan), serverAt: addrs("/ip4/5.9.0.1/tcp/1")}, nil},
		"public listener":           {known{listening: addrs(loopback, public)}, []string{public}},
		"announced":                 {known{announced: addrs("/dns4/a.example/tcp/1"), listening: addrs(lan)}, []string{"/dns4/a.example/tcp/1"}},
		"reserved":                  {known{circuits: addrs(circuit), listening: addrs(lan)}, []string{circuit}},
		"seen at the listener port": {known{listening: addrs(lan), observed: []seen{{addrs(mapped)[0], addrs(lan)[0]}}}, []string{mapped}},
		"seen at another port":      {known{listening: addrs(lan), observed: []seen{{addrs(mapped)[0], addrs("/ip4/192.168.1.7/tcp/5000")[0]}}}, nil},
		"seen inside the LAN":       {known{listening: addrs(lan), observed: []seen{{addrs(lan)[0], addrs(lan)[0]}}}, nil},
		"seen twice":                {known{listening: addrs(public), observed: []seen{{addrs(public)[0], addrs(public)[0]}}}, []string{public}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, a := range c.known.choose() {
				got = append(got, a.String())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
