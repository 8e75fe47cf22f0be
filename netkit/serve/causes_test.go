package serve_test

import (
	"strings"
	"testing"
	"time"

	"dibber/netkit/natlab"
)

// TestRepair: whatever a node has lost at its server comes back within 10 s of the
// end of what caused the loss, however long it lasted.
func TestRepair(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		named bool
		// cause brings the loss about, and returns when its cause is over.
		cause func(s *site, outage time.Duration)
	}{
		{"server restarted", false, func(s *site, outage time.Duration) {
			s.kill()
			time.Sleep(outage)
			s.start()
		}},
		{"server restarted elsewhere", true, func(s *site, outage time.Duration) {
			s.kill()
			time.Sleep(outage)
			s.machine = s.lab.Internet().Machine("elsewhere", natlab.MachineConfig{})
			s.start()
		}},
		{"network of the server gone and back", false, func(s *site, outage time.Duration) {
			s.machine.Link().Cut()
			time.Sleep(outage)
			s.machine.Link().Restore()
		}},
		{"network of the node gone and back", false, func(s *site, outage time.Duration) {
			s.at.Link().Cut()
			time.Sleep(outage)
			s.at.Link().Restore()
		}},
		{"partition", false, func(s *site, outage time.Duration) {
			join := s.lab.Part(s.router.External(), s.machine.Addrs()[0])
			time.Sleep(outage)
			join()
		}},
		{"network gone and back with another address", false, func(s *site, outage time.Duration) {
			s.router.Link().Cut()
			time.Sleep(outage)
			s.router.Reconnect()
			s.router.Link().Restore()
		}},
		{"roamed after a while without a network", false, func(s *site, outage time.Duration) {
			s.at.Link().Cut()
			time.Sleep(outage)
			s.roam()
			s.at.Link().Restore()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, outage := range outages() {
				for _, roles := range [][]string{{reserves}, {registers}, {keeps}, {reserves, registers, keeps}} {
					name := outage.String() + " " + roles[0]
					if len(roles) > 1 {
						name = outage.String() + " all"
					}
					t.Run(name, func(t *testing.T) {
						natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
							s := newSite(t, lab)
							s.named = c.named
							s.join(roles...)
							c.cause(s, outage)
							s.repaired()
						})
					})
				}
			}
		})
	}
}

// TestRepairAfterChange: losses whose cause is over as soon as it is there.
func TestRepairAfterChange(t *testing.T) {
	for _, c := range []struct {
		name  string
		cause func(s *site)
	}{
		{"server restarted at once", func(s *site) { s.kill(); s.start() }},
		{"own public address changed", func(s *site) { s.router.Reconnect() }},
		{"roamed", func(s *site) { s.roam() }},
	} {
		for _, roles := range [][]string{{reserves}, {registers}, {keeps}, {reserves, registers, keeps}} {
			t.Run(c.name+" "+strings.Join(roles, " "), func(t *testing.T) {
				natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
					s := newSite(t, lab)
					s.join(roles...)
					c.cause(s)
					s.repaired()
				})
			})
		}
	}
}

// outages are how long causes last.
func outages() []time.Duration {
	if raced {
		return []time.Duration{5 * time.Second, time.Minute}
	}
	return []time.Duration{5 * time.Second, 3 * time.Minute, long()}
}

// long is how long it takes until back-offs have grown, and what is kept in memory was
// forgotten.
func long() time.Duration {
	if raced {
		return time.Minute
	}
	return 40 * time.Minute
}

// roam takes the node's machine into another network.
func (s *site) roam() {
	s.router = s.lab.Internet().Router("cafe", natlab.RouterConfig{NAT: natlab.NAT{Filtering: natlab.AddressAndPortDependent}})
	s.at.Move(s.router.LAN())
}
