package bed

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// noNamespace says why a network namespace cannot be made here; empty: it can.
func noNamespace() string {
	if os.Geteuid() != 0 {
		return "not root: no network namespace"
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return "no ip: no network namespace"
	}
	return ""
}

// inNamespace makes cmd start in a network namespace of its own, which goes with its last process.
func inNamespace(cmd *exec.Cmd) { cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET }

// furnish gives the namespace of this process its loopback and the addresses of all hosts.
func furnish(ctx context.Context) error {
	commands := [][]string{{"link", "set", "lo", "up"}}
	for host := 1; host <= hosts; host++ {
		commands = append(commands, []string{"addr", "add", publicIP(host) + "/32", "dev", "lo"})
	}
	for _, args := range commands {
		if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %v: %w: %s", args, err, out)
		}
	}
	return nil
}
