package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestChoose(t *testing.T) {
	if list, err := choose(""); err != nil || len(list) != 8 {
		t.Errorf("all are %v, %v", list, err)
	}
	if list, err := choose("windows/arm64,linux/arm"); err != nil || !slices.Equal(list, []target{{"windows", "arm64"}, {"linux", "arm"}}) {
		t.Errorf("two are %v, %v", list, err)
	}
	if list, err := choose("linux/amd64,plan9/386"); err == nil {
		t.Errorf("an unknown one is %v", list)
	}
}

func TestVersion(t *testing.T) {
	if v, err := version("../.."); err != nil || !strings.Contains(v, ".") {
		t.Errorf("version %q, %v", v, err)
	}
}

// TestArchives: the same files give the same bytes, whenever they were written, and come out again.
func TestArchives(t *testing.T) {
	made := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for _, system := range []target{{"linux", "amd64"}, {"windows", "amd64"}} {
		var first []byte
		for i := range 2 {
			at := filepath.Join(t.TempDir(), "built")
			if err := errors.Join(os.WriteFile(at, []byte("program"), 0o600), os.Chtimes(at, made, made.AddDate(i, 0, 0))); err != nil {
				t.Fatal(err)
			}
			data, err := archive{root: "r", made: made, files: []file{{at, system.program(), 0o755}}}.pack(system)
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				first = data
			} else if !bytes.Equal(first, data) {
				t.Errorf("%s: packed twice, not the same", system)
			}
		}
		if name, text, mode := unpack(t, system, first); name != "r/"+system.program() || text != "program" || mode != 0o755 {
			t.Errorf("%s: it holds %s, %q, %o", system, name, text, mode)
		}
	}
}

// unpack takes the one file out of an archive.
func unpack(t *testing.T, system target, data []byte) (name, text string, mode int64) {
	t.Helper()
	fatal := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if system.os == "windows" {
		z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
		fatal(err)
		f, err := z.File[0].Open()
		fatal(err)
		out, err := io.ReadAll(f)
		fatal(err)
		return z.File[0].Name, string(out), int64(z.File[0].Mode().Perm())
	}
	g, err := gzip.NewReader(bytes.NewReader(data))
	fatal(err)
	r := tar.NewReader(g)
	h, err := r.Next()
	fatal(err)
	out, err := io.ReadAll(r)
	fatal(err)
	return h.Name, string(out), h.Mode
}

// TestContainerfile holds the container file against the repository and against how releases are built.
func TestContainerfile(t *testing.T) {
	text, err := os.ReadFile("../deploy/Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	var build []string
	seen := make(map[string]int)
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		seen[words[0]]++
		switch {
		case words[0] == "COPY" && !strings.HasPrefix(words[1], "--"):
			for _, from := range words[1 : len(words)-1] {
				if _, err := os.Stat(filepath.Join("../..", from)); err != nil {
					t.Errorf("it copies %s: %v", from, err)
				}
			}
		case words[0] == "RUN" && strings.Contains(line, `"build"`):
			if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "RUN")), &build); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		case words[0] == "USER" && strings.HasPrefix(words[1], "0"):
			t.Error("it runs as root")
		}
	}
	if want := append([]string{"go"}, buildArgs("/dibber")...); !slices.Equal(build, want) {
		t.Errorf("it builds by %q, releases are built by %q", build, want)
	}
	if !slices.Contains(target{"linux", "amd64"}.env(), "CGO_ENABLED=0") || !bytes.Contains(text, []byte("ENV CGO_ENABLED=0\n")) {
		t.Error("one of the two builds with C")
	}
	if seen["FROM"] != 2 || seen["USER"] != 1 || seen["ENTRYPOINT"] != 1 {
		t.Errorf("it has %v", seen)
	}
	module, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	_, version, _ := strings.Cut(string(module), "\ngo ")
	major := strings.Join(strings.Split(strings.Fields(version)[0], ".")[:2], ".")
	if !bytes.Contains(text, []byte("golang:"+major+" AS build")) {
		t.Errorf("it builds with another Go than %s", major)
	}
}
