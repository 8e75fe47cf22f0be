//go:build linux

package commands

import (
	"net/netip"
	"os"
	"slices"
	"testing"

	"dibber/netkit/natlab"
	"dibber/netkit/netns"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestNetnsScripts runs the scripts under testdata/netns: programs in network
// namespaces, behind NATs. Each has a lab of its own, which it builds with one
// command beside those of TestScripts:
//
//	netlab host NAME                            a host on the internet
//	netlab vantage NAME                         one with two addresses
//	netlab nat NAME KIND                        a router of natlab's, of a kind of its grid ('EIM/APDF')
//	netlab kernel NAME keep|random drop|reject|poison   a router whose NAT is the kernel's
//	netlab behind ROUTER NAME                   a host behind a router
//	netlab part ROUTER ROUTER                   nothing passes between two routers any more
//	netlab join                                 everything passes again
//
// $NAME is then the namespace of the host, for nsenter --net=$NAME PROGRAM….
func TestNetnsScripts(t *testing.T) {
	netns.Need(t, netns.Supported())
	cmds := scriptCommands()
	cmds["netlab"] = cmdNetlab
	testscript.Run(t, testscript.Params{
		Dir:                 "../testdata/netns",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Cmds:                cmds,
		Setup: func(e *testscript.Env) error {
			lab := netns.New(e.T().(testing.TB), natlab.Config{})
			e.Values[(*scriptLab)(nil)] = &scriptLab{lab: lab, behind: map[string]func(name string) *netns.Host{}, at: map[string]netip.Addr{}}
			return scriptEnv(e)
		},
	})
}

// scriptLab is a script's lab. Its nil pointer is the key among the script's values.
type scriptLab struct {
	lab    *netns.Lab
	behind map[string]func(name string) *netns.Host // by router
	at     map[string]netip.Addr                    // the outside address, by router
	join   []func()
}

func cmdNetlab(ts *testscript.TestScript, neg bool, args []string) {
	const usage = "usage: netlab host NAME | vantage NAME | nat NAME KIND | kernel NAME keep|random drop|reject|poison | behind ROUTER NAME | part ROUTER ROUTER | join"
	s := ts.Value((*scriptLab)(nil)).(*scriptLab)
	if neg || len(args) == 0 {
		ts.Fatalf(usage)
	}
	if args[0] == "join" && len(args) == 1 {
		for _, join := range s.join {
			join()
		}
		return
	}
	if len(args) < 2 {
		ts.Fatalf(usage)
	}
	switch rest := args[2:]; {
	case args[0] == "host" && len(rest) == 0:
		ts.Setenv(args[1], s.lab.Host(s.lab.Internet(), args[1], natlab.MachineConfig{}).Path())
	case args[0] == "vantage" && len(rest) == 0:
		ts.Setenv(args[1], s.lab.Host(s.lab.Internet(), args[1], natlab.MachineConfig{Addresses: 2}).Path())
	case args[0] == "nat" && len(rest) == 1:
		i := slices.IndexFunc(natlab.Grid(), func(n natlab.NAT) bool { return n.String() == rest[0] })
		if i < 0 {
			ts.Fatalf("no kind %s in %s", rest[0], natlab.Grid())
		}
		r := s.lab.Internet().Router(args[1], natlab.RouterConfig{NAT: natlab.Grid()[i]})
		s.at[args[1]] = r.External()
		s.behind[args[1]] = func(name string) *netns.Host { return s.lab.Host(r.LAN(), name, natlab.MachineConfig{}) }
	case args[0] == "kernel" && len(rest) == 2:
		r := s.kernel(ts, args[1], rest[0], rest[1])
		s.at[args[1]], s.behind[args[1]] = r.External(), r.Inside
	case args[0] == "behind" && len(rest) == 1 && s.behind[args[1]] != nil:
		ts.Setenv(rest[0], s.behind[args[1]](rest[0]).Path())
	case args[0] == "part" && len(rest) == 1 && s.at[args[1]].IsValid() && s.at[rest[0]].IsValid():
		s.join = append(s.join, s.lab.Part(s.at[args[1]], s.at[rest[0]]))
	default:
		ts.Fatalf(usage)
	}
}

func (s *scriptLab) kernel(ts *testscript.TestScript, name, ports, policy string) *netns.Router {
	policies := []natlab.Unsolicited{natlab.Drop, natlab.Reject, natlab.Poison}
	i := slices.IndexFunc(policies, func(u natlab.Unsolicited) bool { return u.String() == policy })
	if i < 0 || ports != "keep" && ports != "random" {
		ts.Fatalf("no kernel router with %s and %s", ports, policy)
	}
	return s.lab.Router(s.lab.Internet(), name, netns.RouterConfig{RandomPorts: ports == "random", Unsolicited: policies[i]})
}
