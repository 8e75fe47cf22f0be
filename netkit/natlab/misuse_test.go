package natlab

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"dibber/netkit/host"
)

// strict is a test that notes why it was ended.
type strict struct {
	testing.TB
	why string
}

// Fatalf ends the goroutine, as a test's does.
func (s *strict) Fatalf(format string, args ...any) {
	s.why = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// TestMisuseEndsTheTest: a lab that cannot be built says why, and closes.
func TestMisuseEndsTheTest(t *testing.T) {
	for _, c := range []struct {
		want  string
		build func(lab *Lab)
	}{
		{"has no IPv6 for a", func(lab *Lab) {
			lab.Internet().Router("home", RouterConfig{}).LAN().Machine("a", MachineConfig{Families: DualStack})
		}},
		{"home's LAN is full", func(lab *Lab) {
			lab.Internet().Router("home", RouterConfig{}).LAN().Machine("a", MachineConfig{Addresses: 254})
		}},
		{"the internet is full", func(lab *Lab) {
			lab.Internet().Machine("a", MachineConfig{Addresses: 5000})
		}},
		{"unknown transport", func(lab *Lab) {
			lab.Internet().Machine("a", MachineConfig{}).Host(host.Config{Transports: []host.Transport{"pigeon"}})
		}},
	} {
		Run(t, func(t *testing.T, _ *Lab) {
			s := &strict{TB: t}
			lab := newLab(s, Config{})
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				c.build(lab)
			}()
			<-ended
			lab.close()
			if !strings.Contains(s.why, c.want) {
				t.Errorf("ended with %q, want %q", s.why, c.want)
			}
		})
	}
}
