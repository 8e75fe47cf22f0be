package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestFormats: a new folder gets the present format, and so does an old one; one of a later version is left as it is.
func TestFormats(t *testing.T) {
	for _, c := range []struct {
		before, after string // what the file has; empty: there is none
		known, ok     bool
	}{
		{"", "1\n", true, true},
		{"0\n", "1\n", true, true},
		{"1\n", "1\n", true, true},
		{"2\n", "2\n", false, false},
		{"99", "99", false, false},
		{"one", "one", true, false},
		{"-1", "-1", true, false},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, formatFile)
		if c.before != "" {
			if err := os.WriteFile(file, []byte(c.before), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		l, err := Lock(dir)
		if (err == nil) != c.ok {
			t.Errorf("%q: %v", c.before, err)
		}
		var later *FormatError
		if errors.As(err, &later) == c.known {
			t.Errorf("%q: %v", c.before, err)
		}
		if text, err := os.ReadFile(file); err != nil || string(text) != c.after {
			t.Errorf("%q became %q, %v", c.before, text, err)
		}
		if err == nil {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		// It is not kept locked either.
		if err := os.WriteFile(file, []byte("1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err = Lock(dir)
		if err != nil {
			t.Errorf("after %q: %v", c.before, err)
			continue
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}
