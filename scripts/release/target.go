package main

import (
	"fmt"
	"slices"
	"strings"
)

// target is a system that dibber is released for.
type target struct{ os, arch string }

func (t target) String() string { return t.os + "/" + t.arch }

// targets are all of them.
func targets() []target {
	return []target{
		{"linux", "amd64"},
		{"linux", "arm64"},
		{"linux", "arm"},
		{"linux", "riscv64"},
		{"darwin", "amd64"},
		{"darwin", "arm64"},
		{"windows", "amd64"},
		{"windows", "arm64"},
	}
}

// choose picks targets by a list of OS/ARCH; all of them when it is empty.
func choose(only string) ([]target, error) {
	if only == "" {
		return targets(), nil
	}
	var list []target
	for word := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(targets(), func(t target) bool { return t.String() == word })
		if i < 0 {
			return nil, fmt.Errorf("-only: %q is none of %v", word, targets())
		}
		list = append(list, targets()[i])
	}
	return list, nil
}

// program is the name of the binary.
func (t target) program() string {
	if t.os == "windows" {
		return "dibber.exe"
	}
	return "dibber"
}

// buildArgs are those of go which build the program into a file. scripts/deploy/Containerfile has the same.
func buildArgs(file string) []string {
	return []string{"build", "-trimpath", "-ldflags=-s -w -buildid=", "-o", file, "."}
}

// env is the environment that names the system, with the oldest processors of its kind: ARMv6 is what the first Raspberry Pis have.
func (t target) env() []string {
	return []string{"CGO_ENABLED=0", "GOOS=" + t.os, "GOARCH=" + t.arch, "GOARM=6", "GOAMD64=v1", "GOFLAGS=-mod=readonly"}
}
