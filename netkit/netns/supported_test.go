//go:build linux

package netns_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"dibber/netkit/netns"
)

// TestMissingIsNamed: one error names all that is missing.
func TestMissingIsNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := netns.Supported()
	if err == nil || !strings.Contains(err.Error(), "ip (Debian: iproute2), nft (Debian: nftables)") {
		t.Errorf("nothing on the path: %v", err)
	}
}

// verdict is a test that notes how it was ended.
type verdict struct {
	testing.TB
	how string
}

func (v *verdict) Helper() {}

func (v *verdict) Fatalf(format string, args ...any) { v.end("failed: "+format, args) }
func (v *verdict) Skipf(format string, args ...any)  { v.end("skipped: "+format, args) }

func (v *verdict) end(format string, args []any) {
	v.how = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// TestNeed: what is missing skips a test with a line that says so, or fails it
// where nothing may be missing.
func TestNeed(t *testing.T) {
	for _, c := range []struct {
		required string
		err      error
		want     string
	}{
		{"", nil, ""},
		{"1", nil, ""},
		{"", errors.New("root"), "skipped: network namespaces lack root"},
		{"1", errors.New("root"), "failed: DIBBER_NETNS_REQUIRED=1, but network namespaces lack root"},
	} {
		t.Setenv(netns.RequiredEnv, c.required)
		v := &verdict{}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			netns.Need(v, c.err)
		}()
		<-ended
		if v.how != c.want {
			t.Errorf("%s=%s, %v: %q, want %q", netns.RequiredEnv, c.required, c.err, v.how, c.want)
		}
	}
}
