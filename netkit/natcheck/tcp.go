package natcheck

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dibber/netkit/nat"
	"dibber/netkit/vantage"
)

// udpHeadStart is how long QUIC may take to connect before it is asked whether UDP
// gets out at all.
const udpHeadStart = time.Second

// reaches reports whether another address of a server can be the same server's to this
// host: of the same family, and loopback only where the server is reached over that.
func (l *look) reaches(site, here vantage.Site) bool {
	return familyOf(site.IP) == l.key.family && site.IP.IsLoopback() == here.IP.IsLoopback()
}

// surveyTCP asks l's server for all that it can tell about TCP, and about UDP if no
// QUIC connection comes about.
func (c *check) surveyTCP(ctx context.Context, l *look, a vantage.Answer) {
	i := slices.IndexFunc(a.Sites, func(s vantage.Site) bool { return s.Here })
	if i < 0 {
		return
	}
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { c.udpBlocked(ctx, l, a.Sites[i]) })
	if !l.ownPort() {
		return // what the server sees is not how the node is reached
	}
	known := map[netip.Addr]bool{}
	for j, site := range a.Sites {
		known[site.IP] = j == i || c.n.Contacted(TCP, site.IP)
	}
	attempts := l.askConnect(ctx)
	answered := map[netip.Addr]bool{a.Sites[i].IP: true}
	for j, site := range a.Sites {
		if site.TCP == 0 || !l.reaches(site, a.Sites[i]) {
			continue
		}
		at := site.IP
		if j == i {
			at = l.remote.Addr() // the server may not know the address that it is known by
		}
		c.n.Contact(TCP, at)
		if c.askTCP(ctx, l, netip.AddrPortFrom(at, site.TCP)) {
			answered[site.IP] = true
		}
	}
	c.add(l.key.family, TCP, func(e *nat.Evidence) {
		for _, at := range attempts {
			e.Trials = append(e.Trials, nat.Trial{
				Server: l.v.server.ID.String(), Known: known[at.From],
				Came: at.Connected, Sure: answered[at.From],
			})
		}
	})
}

// askConnect has the server try to connect; by this look nothing was sent by TCP to its
// other addresses before. What is told of the filter is what gets a connection: one that is
// let in is answered by another outside port where the mapping depends on the remote
// and the NAT does not keep sessions.
func (l *look) askConnect(ctx context.Context) []vantage.Attempt {
	st, err := l.v.c.n.OpenOn(ctx, l.conn, vantage.Protocol)
	if err != nil {
		return nil
	}
	a, err := vantage.AskConnect(ctx, st)
	if err != nil {
		return nil // what gets in stays unknown
	}
	return a.Attempts
}

// askTCP asks one TCP port whom it sees.
func (c *check) askTCP(ctx context.Context, l *look, to netip.AddrPort) bool {
	local, observed, err := vantage.AskTCP(ctx, c.n, to)
	if err != nil || familyOf(observed.Addr()) != l.key.family {
		return false
	}
	if local.Port() == l.local.Port() {
		c.saw(Sight{
			Server: l.v.server.ID, Local: local, Observed: observed, Transport: TCP, Remote: to, By: ByReflector,
		})
	}
	return true
}

// udpBlocked finds out whether datagrams come back from a server that is reached by
// TCP, if QUIC is not.
func (c *check) udpBlocked(ctx context.Context, l *look, site vantage.Site) {
	late := time.NewTimer(udpHeadStart)
	defer late.Stop()
	select {
	case <-ctx.Done():
		return
	case <-l.v.overQUIC(l.key.family):
		return
	case <-late.C:
	}
	s := &survey{
		c: c, server: l.v.server.ID,
		replies: make(chan arrival, replyRoom), copies: make(map[uint64]sent),
	}
	for _, sock := range c.socks {
		if familyOf(sock.Local().Addr()) != l.key.family {
			continue
		}
		for _, p := range site.Ports {
			s.look(sock, netip.AddrPortFrom(l.remote.Addr(), p))
		}
	}
	if len(s.asked) == 0 {
		return
	}
	c.n.Contact(UDP, l.remote.Addr())
	s.run(ctx, func(*question) bool { return true })
	s.report()
	if ctx.Err() == nil && !slices.ContainsFunc(s.asked, func(q *question) bool { return q.seen.IsValid() }) {
		c.add(l.key.family, UDP, func(e *nat.Evidence) {
			if e.Works == nil {
				e.Works = new(false)
			}
		})
	}
}
