//go:build !linux

package bed

import (
	"context"
	"os/exec"
)

func noNamespace() string { return "not Linux: no network namespace" }

func inNamespace(*exec.Cmd) {}

func furnish(context.Context) error { return nil }
