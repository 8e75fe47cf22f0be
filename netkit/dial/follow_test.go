package dial_test

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"testing"
	"time"

	"dibber/netkit/addr"
	"dibber/netkit/dial"
	"dibber/netkit/host"
	"dibber/netkit/natlab"
	"dibber/netkit/punch"
	"dibber/netkit/relay"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// mostNotice is within how long KeepAlive notices a silent peer.
const mostNotice = 6 * time.Second

// vigil is a peer behind a NAT that is reached through a relay and then directly, and
// a host behind another NAT that watches it.
type vigil struct {
	t   *testing.T
	lab *natlab.Lab

	relayKey  crypto.PrivKey
	relayAt   *natlab.Machine
	relayHost *host.Node
	relaying  *relay.Server

	peer            *host.Node
	peerAt, watcher *natlab.Router
	circuit         ma.Multiaddr
	end             context.CancelFunc
	done            chan struct{}
	result          dial.Result
	mu              sync.Mutex // guards changes
	changes         []dial.Change
	more            chan struct{}
}

func newVigil(t *testing.T, lab *natlab.Lab) *vigil {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	v := &vigil{t: t, lab: lab, relayKey: key, done: make(chan struct{}), more: make(chan struct{}, 1)}
	v.relayAt = lab.Internet().Machine("relay", natlab.MachineConfig{})
	v.startRelay()
	cone := natlab.RouterConfig{NAT: natlab.NAT{Filtering: natlab.AddressAndPortDependent}}
	v.peerAt, v.watcher = lab.Internet().Router("peer-router", cone), lab.Internet().Router("watcher-router", cone)
	v.peer = v.punching(v.peerAt)
	at := peer.AddrInfo{ID: v.relayHost.ID(), Addrs: v.relayHost.ListenAddrs()}
	reserved := make(chan struct{}, 1)
	client := relay.NewClient(v.peer, relay.ClientConfig{Relay: at, On: func(e relay.ClientEvent) {
		if e.Kind == "reserved" {
			select {
			case reserved <- struct{}{}:
			default:
			}
		}
	}})
	t.Cleanup(func() { _ = client.Close() })
	<-reserved
	v.circuit = at.Addrs[0].Encapsulate(ma.StringCast("/p2p/" + at.ID.String() + "/p2p-circuit"))
	return v
}

// punching is a host behind a router that makes relayed connections direct.
func (v *vigil) punching(r *natlab.Router) *host.Node {
	v.t.Helper()
	n := r.LAN().Machine("behind "+r.External().String(), natlab.MachineConfig{}).Host(host.Config{})
	p := punch.New(n, punch.Config{})
	v.t.Cleanup(func() { _ = p.Close() })
	return n
}

func (v *vigil) startRelay() {
	v.t.Helper()
	v.relayHost = v.relayAt.Host(host.Config{Identity: v.relayKey})
	var err error
	if v.relaying, err = relay.New(v.relayHost, relay.Config{}); err != nil {
		v.t.Fatal(err)
	}
	relaying := v.relaying
	v.t.Cleanup(func() { _ = relaying.Close() })
}

// killRelay ends the relay without a word to anybody.
func (v *vigil) killRelay() {
	v.t.Helper()
	v.relayAt.Link().Cut()
	_ = v.relaying.Close()
	if err := v.relayHost.Close(); err != nil {
		v.t.Error(err)
	}
	v.relayAt.Link().Restore()
}

// watch starts the watch, and returns when the path is punched.
func (v *vigil) watch(cfg dial.Config) {
	v.t.Helper()
	n := v.punching(v.watcher)
	ctx, cancel := context.WithCancel(v.t.Context())
	v.end = cancel
	v.t.Cleanup(cancel)
	cfg.Watch = true
	cfg.On = func(e dial.Event) {
		if e.Path == nil {
			return
		}
		v.mu.Lock()
		v.changes = append(v.changes, *e.Path)
		v.mu.Unlock()
		select {
		case v.more <- struct{}{}:
		default:
		}
	}
	go func() {
		defer close(v.done)
		var err error
		if v.result, err = dial.Do(ctx, n, v.peer.ID(), []ma.Multiaddr{v.circuit}, cfg); err != nil {
			v.t.Errorf("the watch ended with %v", err)
		}
	}()
	v.t.Cleanup(func() { <-v.done })
}

// next waits for the next change, to the given path.
func (v *vigil) next(to string, within time.Duration) dial.Change {
	v.t.Helper()
	limit := time.After(within)
	for {
		v.mu.Lock()
		if len(v.changes) > 0 {
			c := v.changes[0]
			v.changes = v.changes[1:]
			v.mu.Unlock()
			if c.To != to {
				v.t.Fatalf("changed to %s, want %s: %+v", c.To, to, c)
			}
			return c
		}
		v.mu.Unlock()
		select {
		case <-v.more:
		case <-limit:
			v.t.Fatalf("no change to %s within %s", to, within)
		}
	}
}

// quiet fails if anything changes for so long.
func (v *vigil) quiet(d time.Duration) {
	v.t.Helper()
	time.Sleep(d)
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.changes) > 0 {
		v.t.Errorf("changes where nothing was to change: %+v", v.changes)
	}
}

// is fails unless a change has this cause.
func (v *vigil) is(c dial.Change, cause string) {
	v.t.Helper()
	if c.Cause == nil || *c.Cause != cause {
		v.t.Errorf("change %+v, want cause %s", c, cause)
	}
}

// down fails unless a change tells a downtime between these bounds.
func (v *vigil) down(c dial.Change, least, most time.Duration) {
	v.t.Helper()
	if c.DownMS == nil || *c.DownMS < ms(least) || *c.DownMS > ms(most) {
		v.t.Errorf("change %+v, want a downtime between %s and %s", c, least, most)
		return
	}
	v.t.Logf("%s after %s: down %.0f ms", c.To, c.From, *c.DownMS)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// finish ends the watch and returns what it recorded.
func (v *vigil) finish() dial.Result {
	v.t.Helper()
	v.end()
	<-v.done
	return v.result
}

// stats are those of one path.
func stats(t *testing.T, r dial.Result, path string) dial.PathStats {
	t.Helper()
	i := slices.IndexFunc(*r.Paths, func(s dial.PathStats) bool { return s.Path == path })
	if i < 0 {
		t.Fatalf("no path %s among %+v", path, *r.Paths)
	}
	return (*r.Paths)[i]
}

// TestDirectPathCutAndRestored: a lost direct path falls back to the relay, and is
// punched again when it can be.
func TestDirectPathCutAndRestored(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		v := newVigil(t, lab)
		v.watch(dial.Config{})
		v.is(v.next(dial.Punched, 5*time.Second), dial.CauseUpgraded)
		v.quiet(time.Minute)
		join := lab.Part(v.peerAt.External(), v.watcher.External())
		cut := time.Now()
		lost := v.next(dial.None, mostNotice+time.Second)
		v.is(lost, dial.CauseSilent)
		again := v.next(dial.Relayed, mostNotice)
		back := time.Since(cut)
		v.is(again, dial.CauseRedialled)
		// The ping that stays without an answer is sent within a second of the cut.
		v.down(again, back-time.Second, back)
		v.quiet(30 * time.Second)
		join()
		up := v.next(dial.Punched, 2*time.Minute)
		v.is(up, dial.CauseUpgraded)
		v.down(up, 0, 0)
		v.quiet(time.Minute)
		r := v.finish()
		if len(*r.Changes) != 4 || *r.Path != dial.Punched {
			t.Errorf("recorded %+v, path %s", *r.Changes, *r.Path)
		}
		punched, relayed := stats(t, r, dial.Punched), stats(t, r, dial.Relayed)
		if punched.Received < 100 || *punched.P50 != 20 || *punched.Loss == 0 || *relayed.P50 != 40 {
			t.Errorf("punched %+v, relayed %+v", punched, relayed)
		}
	})
}

// TestDirectPathCutUnderProof: a direct path that is lost while the peer shows that it
// does without the relay is punched again, though the peer is still busy with that when
// it is called through the relay.
func TestDirectPathCutUnderProof(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		v := newVigil(t, lab)
		v.watch(dial.Config{})
		v.next(dial.Punched, 5*time.Second)
		relayed := func(c network.Conn) bool { return addr.IsRelayed(c.RemoteMultiaddr()) }
		for slices.ContainsFunc(v.peer.Network().Conns(), relayed) {
			time.Sleep(time.Millisecond)
		}
		join := lab.Part(v.peerAt.External(), v.watcher.External())
		v.is(v.next(dial.None, mostNotice+time.Second), dial.CauseSilent)
		v.next(dial.Relayed, mostNotice)
		join()
		v.is(v.next(dial.Punched, 15*time.Second), dial.CauseUpgraded)
		v.quiet(time.Minute)
	})
}

// TestRelayKilledWhileDirect: it is not needed any more.
func TestRelayKilledWhileDirect(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		v := newVigil(t, lab)
		v.watch(dial.Config{})
		v.next(dial.Punched, 5*time.Second)
		time.Sleep(10 * time.Second) // the relayed connection is retired
		v.killRelay()
		v.quiet(5 * time.Minute)
		if s := stats(t, v.finish(), dial.Punched); s.Sent < 300 || *s.Loss != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// holed is how long the peer's NAT lets a watcher in that was cut off: the peer's QUIC
// repeats what it had to say until its connection is idle, and every packet keeps the
// hole open for as long as a mapping lives.
const holed = time.Minute + natlab.DefaultTimeout

// TestBothPathsLostAndBack: while there is none the peer is dialled again and again. When
// the way is back so late that the old hole is closed, it leads through the relay first.
func TestBothPathsLostAndBack(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		v := newVigil(t, lab)
		v.watch(dial.Config{})
		v.next(dial.Punched, 5*time.Second)
		time.Sleep(10 * time.Second)
		cut := time.Now()
		v.watcher.Link().Cut()
		v.is(v.next(dial.None, mostNotice+time.Second), dial.CauseSilent)
		v.quiet(holed)
		v.watcher.Link().Restore()
		restored := time.Now()
		back := v.next(dial.Relayed, 20*time.Second)
		v.down(back, restored.Sub(cut)-time.Second, time.Since(cut))
		if took := time.Since(restored); took > 10*time.Second {
			t.Errorf("back %s after the way was", took)
		}
		v.next(dial.Punched, time.Minute)
		v.quiet(time.Minute)
	})
}

// TestHoleOutlivesTheConnection: a plain dial goes through what the peer's last packets
// left open in its NAT. The path is then called direct, not punched: no relay helped.
func TestHoleOutlivesTheConnection(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		v := newVigil(t, lab)
		v.watch(dial.Config{})
		v.next(dial.Punched, 5*time.Second)
		time.Sleep(10 * time.Second)
		v.killRelay()
		v.relayAt.Link().Cut()
		v.watcher.Link().Cut()
		v.is(v.next(dial.None, mostNotice+time.Second), dial.CauseSilent)
		v.quiet(time.Minute)
		v.watcher.Link().Restore()
		back := v.next(dial.Direct, 20*time.Second)
		v.is(back, dial.CauseRedialled)
		v.quiet(time.Minute)
	})
}

// TestNATRemapped: the NAT before the watcher gets another address, which leaves every
// connection behind.
func TestNATRemapped(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		v := newVigil(t, lab)
		v.watch(dial.Config{})
		v.next(dial.Punched, 5*time.Second)
		time.Sleep(10 * time.Second)
		v.watcher.Reconnect()
		v.is(v.next(dial.None, mostNotice+time.Second), dial.CauseSilent)
		v.down(v.next(dial.Relayed, 30*time.Second), time.Second, 30*time.Second)
		v.next(dial.Punched, 2*time.Minute)
		v.quiet(time.Minute)
	})
}

// TestRelayLimitIsACause: with the relay's time used up the peer is called again.
func TestRelayLimitIsACause(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		v := newVigil(t, lab)
		lab.Part(v.peerAt.External(), v.watcher.External())
		v.watch(dial.Config{})
		v.is(v.next(dial.None, 3*time.Minute), dial.CauseRelayLimit)
		v.down(v.next(dial.Relayed, 10*time.Second), 0, 3*time.Second)
	})
}

// TestRelayThatEndsACircuitIsACause: as by its operator's word.
func TestRelayThatEndsACircuitIsACause(t *testing.T) {
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		v := newVigil(t, lab)
		lab.Part(v.peerAt.External(), v.watcher.External())
		v.watch(dial.Config{})
		time.Sleep(5 * time.Second)
		for _, c := range v.relaying.Circuits() {
			v.relaying.EndCircuit(c.ID, relay.ReasonOperator)
		}
		v.is(v.next(dial.None, 10*time.Second), dial.CauseRelayEnded)
		v.down(v.next(dial.Relayed, 10*time.Second), 0, 3*time.Second)
	})
}
