package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPackages: a package has its files with their modes and the one time, and the same files give the same bytes whenever and
// wherever they were made.
func TestPackages(t *testing.T) {
	made := time.Unix(1_700_000_000, 0).UTC()
	parts := func() []part {
		dir := t.TempDir()
		for name, text := range map[string]string{"dibber": "program", "README.md": "text"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return []part{{"dibber", filepath.Join(dir, "dibber"), 0o755}, {"README.md", filepath.Join(dir, "README.md"), 0o644}}
	}
	for _, pack := range []func(string, time.Time, []part) ([]byte, error){tarred, zipped} {
		a, err := pack("dibber-1", made, parts())
		if err != nil {
			t.Fatal(err)
		}
		b, err := pack("dibber-1", made, parts())
		if err != nil || !bytes.Equal(a, b) {
			t.Errorf("two packages differ, or %v", err)
		}
	}
	data, err := tarred("dibber-1", made, parts())
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(unpacked)
	h, err := r.Next()
	if err != nil || h.Name != "dibber-1/dibber" || h.Mode != 0o755 || !h.ModTime.Equal(made) {
		t.Errorf("%+v, %v", h, err)
	}
	if text, err := io.ReadAll(r); err != nil || string(text) != "program" {
		t.Errorf("%q, %v", text, err)
	}
	if data, err = zipped("dibber-1", made, parts()); err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil || len(z.File) != 2 || z.File[0].Mode() != 0o755 || !z.File[1].Modified.Equal(made) {
		t.Errorf("%+v, %v", z.File, err)
	}
}

func TestChosen(t *testing.T) {
	if list, err := chosen("linux/arm,windows/amd64"); err != nil || len(list) != 2 || list[1].program() != "dibber.exe" {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := chosen("plan9/386"); err == nil {
		t.Error("plan9/386 was chosen")
	}
	if list, err := chosen(""); err != nil || len(list) != 8 {
		t.Errorf("%v, %v", list, err)
	}
}

// TestContainerIsTheRelease: the container has the program that a release has, and starts it where the unit for systemd keeps its
// state.
func TestContainerIsTheRelease(t *testing.T) {
	data, err := os.ReadFile("../deploy/Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, flag := range buildFlags() {
		name, value, _ := strings.Cut(flag, "=")
		if value != "" {
			flag = name + `="` + value + `"`
		}
		if !strings.Contains(text, " "+flag+" ") {
			t.Errorf("it is not built with %s", flag)
		}
	}
	for _, want := range []string{"CGO_ENABLED=0", "FROM scratch", "USER 65532", "/var/lib/dibber"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing", want)
		}
	}
}
