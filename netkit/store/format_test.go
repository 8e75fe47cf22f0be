package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestMigrate(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		from  int
	}{
		{"empty", nil, -1},
		{"locked just now", map[string]string{"lock": "7\n"}, -1},
		{"written without a version", map[string]string{"lock": "7\n", "identity.key": "x"}, 0},
		{"of this version", map[string]string{"format": "1\n", "identity.key": "x"}, 1},
		{"edited by hand", map[string]string{"format": "1"}, 1},
	} {
		dir := t.TempDir()
		for name, text := range c.files {
			put(t, dir, name, text)
		}
		if from, err := Migrate(dir); err != nil || from != c.from {
			t.Errorf("%s: from %d, %v; want %d", c.name, from, err, c.from)
		}
		if now, err := CheckFormat(dir); err != nil || now != Format {
			t.Errorf("%s: now %d, %v", c.name, now, err)
		}
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, had := c.files["format"]; len(list) != len(c.files)+1 && !had {
			t.Errorf("%s: it leaves %v", c.name, list)
		}
	}
}

func TestMigrateMakesTheFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if version, err := CheckFormat(dir); err != nil || version != -1 {
		t.Errorf("a missing folder is %d, %v", version, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("looking made the folder: %v", err)
	}
	if from, err := Migrate(dir); err != nil || from != -1 {
		t.Errorf("from %d, %v", from, err)
	}
}

func TestNewerFolderIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "format", "7\n")
	_, err := Migrate(dir)
	newer, ok := errors.AsType[*NewerError](err)
	if !ok || newer.Found != 7 || newer.Known != Format || newer.Dir != dir {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "format")); err != nil || string(text) != "7\n" {
		t.Errorf("it tells %q now, %v", text, err)
	}
}

func TestNonsenseIsNoFormat(t *testing.T) {
	for _, text := range []string{"", "\n", "one\n", "-1\n", "0\n", "1\n1\n", "00000000000000000000000000000000000001\n"} {
		dir := t.TempDir()
		put(t, dir, "format", text)
		if _, err := Migrate(dir); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
