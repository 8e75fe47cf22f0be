package bans_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"dibber/netkit/bans"

	"github.com/google/go-cmp/cmp"
)

const somebody = "12D3KooWCw68m5CRcV8vD9iuR325oKwJHLYqTYH5mYwD6k2QV4nm"

var now = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func of(t *testing.T, text string) bans.Ban {
	t.Helper()
	b, err := bans.Of(text)
	if err != nil {
		t.Fatal(err)
	}
	b.Since = now
	return b
}

func subjects(b *bans.Book, at time.Time) (out []string) {
	for _, one := range b.List(at) {
		out = append(out, one.Subject())
	}
	return out
}

func TestOf(t *testing.T) {
	for text, want := range map[string]string{
		somebody: somebody, "192.0.2.7": "192.0.2.7/32", "192.0.2.7/24": "192.0.2.0/24", "::ffff:192.0.2.7": "192.0.2.7/32",
		"2001:db8::1": "2001:db8::1/128", "2001:db8:1::/48": "2001:db8:1::/48",
	} {
		if got := of(t, text).Subject(); got != want {
			t.Errorf("%s is read as %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", "x", "192.0.2.0/33", "fe80::1%eth0", "::ffff:192.0.2.0/120", "192.0.2.7:80", "/ip4/192.0.2.7"} {
		if b, err := bans.Of(text); err == nil {
			t.Errorf("%q is read as %s", text, b.Subject())
		}
	}
}

// TestBook: bans outlive the process, one of the same subject replaces the other, and those whose time is over are gone.
func TestBook(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bans.json")
	book := func() *bans.Book {
		b, err := bans.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := book()
	short := of(t, "192.0.2.0/24")
	short.Until, short.Reason = new(now.Add(time.Hour)), new("noise")
	for _, one := range []bans.Ban{of(t, somebody), of(t, "192.0.2.0/24"), short} {
		if err := b.Add(one, now); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{somebody, "192.0.2.0/24"}, subjects(book(), now)); diff != "" {
		t.Error(diff)
	}
	if got := book().List(now)[1]; !got.Until.Equal(*short.Until) || *got.Reason != "noise" {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff([]string{somebody}, subjects(book(), now.Add(time.Hour))); diff != "" {
		t.Error(diff)
	}
	if _, ok, err := b.Remove("192.0.2.0/24", now.Add(time.Hour)); ok || err != nil {
		t.Errorf("a ban that was over: %v, %v", ok, err)
	}
	if gone, ok, err := b.Remove(somebody, now); !ok || err != nil || gone.Subject() != somebody {
		t.Errorf("%+v, %v, %v", gone, ok, err)
	}
	if diff := cmp.Diff([]string{"192.0.2.0/24"}, subjects(book(), now)); diff != "" {
		t.Error(diff)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if left, err := filepath.Glob(file + "*"); err != nil || len(left) != 1 {
		t.Errorf("files %v, %v", left, err)
	}
}

// TestSpoilt: a book that cannot be read opens for nobody, and one that cannot be written stays as it was.
func TestSpoilt(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"cut": `{"bans": [{"peer"`, "of nobody": `{"bans": [{}]}`, "no peer id": `{"bans": [{"peer": "x"}]}`,
		"of both": `{"bans": [{"peer": "` + somebody + `", "network": "192.0.2.0/24"}]}`,
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := bans.Open(file); err == nil || !strings.Contains(err.Error(), "read bans in "+file) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b, err := bans.Open(filepath.Join(dir, "gone", "bans.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Add(of(t, somebody), now); err == nil || len(b.List(now)) != 0 {
		t.Errorf("%v, %v", err, b.List(now))
	}
}

func TestFull(t *testing.T) {
	list := make([]string, 0, bans.Most)
	for i := range bans.Most {
		list = append(list, `{"network": "10.`+strconv.Itoa(i>>8)+`.`+strconv.Itoa(i&255)+`.0/24"}`)
	}
	file := filepath.Join(t.TempDir(), "bans.json")
	if err := os.WriteFile(file, []byte(`{"bans": [`+strings.Join(list, ",")+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := bans.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Add(of(t, somebody), now); !errors.Is(err, bans.ErrFull) {
		t.Error(err)
	}
	if err := b.Add(of(t, "10.0.0.0/24"), now); err != nil {
		t.Errorf("in place of another: %v", err)
	}
}
