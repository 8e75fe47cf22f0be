package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"dibber/netkit/rendezvous"
	"dibber/netkit/wire"
	"dibber/scripts/node"
)

// hostile is the process of the hostile peers. It runs only when a processor is idle, where the system has that: what is measured is
// what the attacks do to the server, not what making them costs the machine. How much of them it came to is part of the figures.
type hostile struct {
	cmd *exec.Cmd
	in  io.Closer
	out io.Reader
}

func startFlood(ctx context.Context, addr string, o options) (*hostile, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	yielding := []string{"nice", "-n", "19"}
	if _, err := exec.LookPath("chrt"); err == nil {
		yielding = []string{"chrt", "--idle", "0"}
	}
	args := append(yielding, self, childSubcommand, "flood", addr, strconv.Itoa(o.floodPeers), o.floodEvery.String())
	h := &hostile{cmd: exec.CommandContext(ctx, args[0], args[1:]...)}
	h.cmd.Stderr = os.Stderr
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if h.out, err = h.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return h, h.cmd.Start()
}

// stop ends the attacks and returns how many there were of each kind.
func (h *hostile) stop() (counts map[string]int64, err error) {
	if err := h.in.Close(); err != nil {
		return nil, err
	}
	err = json.NewDecoder(h.out).Decode(&counts)
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
	return counts, err
}

// begun is the count of attacks begun, of all kinds, also those that came to nothing because the server let nobody in.
const begun = "begun"

// attacks counts what was done of each kind: connections made, handshakes begun and left, streams opened and left, registrations
// and cookies sent and answered, lengths of 64 MiB announced.
type attacks struct {
	begun, connections, handshakes, streams, registrations, cookies, lengths atomic.Int64
}

func (a *attacks) counts() map[string]int64 {
	return map[string]int64{
		begun: a.begun.Load(), "connections": a.connections.Load(), "slow handshakes": a.handshakes.Load(), "streams": a.streams.Load(),
		"registrations": a.registrations.Load(), "cookies": a.cookies.Load(), "length prefixes": a.lengths.Load(),
	}
}

// flood attacks a server with n peers, spread over the networks of 127.0.0.0/8, until its input ends.
func flood(addr, count, every string) error {
	target, err := peer.AddrInfoFromString(addr)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	pause, err := time.ParseDuration(every)
	if err != nil {
		return err
	}
	a := new(attacks)
	go a.holdHandshakes(target.Addrs[0])
	go func() {
		for i := range n {
			go a.attack(*target, i, pause)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(a.counts())
}

// holdHandshakes opens connections and says nothing, over and over.
func (a *attacks) holdHandshakes(addr ma.Multiaddr) {
	_, hostport, err := manet.DialArgs(addr)
	if err != nil {
		return
	}
	for {
		var held []net.Conn
		for range slowDials {
			if c, err := new(net.Dialer).DialContext(context.Background(), "tcp", hostport); err == nil {
				held = append(held, c)
				a.handshakes.Add(1)
			}
		}
		time.Sleep(slowEvery)
		for _, c := range held {
			_ = c.Close()
		}
	}
}

// attack connects again whenever it is thrown out, or has gone by itself, and does the worst it can.
func (a *attacks) attack(target peer.AddrInfo, i int, pause time.Duration) {
	for round := int64(0); ; {
		a.begun.Add(1)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		c, err := hostileClient(ctx, target, i)
		cancel()
		if err == nil {
			a.connections.Add(1)
			for more := true; more && c.Network().Connectedness(target.ID) == network.Connected; {
				a.begun.Add(1)
				more = a.misbehave(c, int64(i)+round)
				round++
				time.Sleep(pause)
			}
			_ = c.Close()
		}
		time.Sleep(pause)
	}
}

// hostileClient is a client with an address of its own network.
func hostileClient(ctx context.Context, target peer.AddrInfo, i int) (*client, error) {
	h, err := node.NewPeer(net.IPv4(127, byte(1+i%200), byte(i/200), 1), libp2p.DisableRelay())
	if err != nil {
		return nil, err
	}
	c := &client{Host: h, key: h.Peerstore().PrivKey(h.ID()), server: target.ID}
	if err := h.Connect(ctx, target); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return c, nil
}

// misbehave does one of the attacks: registrations, cookies, a length of 64 MiB, streams left open, or leaving, to come again by
// another connection.
func (a *attacks) misbehave(c *client, at int64) (more bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	switch at % 5 {
	case 0:
		for j := range 5 {
			request, err := registerRequest(c.key, fmt.Sprintf("flood-%d-%d", at, j), "192.0.2.1", uint64(time.Now().UnixNano()))
			if err == nil {
				_, err = c.ask(ctx, rendezvous.ProtocolID, request)
			}
			count(&a.registrations, err)
		}
	case 1:
		for j := range 5 {
			cookie := binary.BigEndian.AppendUint64(nil, uint64(at)<<8|uint64(j))
			_, err := c.ask(ctx, rendezvous.ProtocolID, encodeDiscover("honest", 1000, append(cookie, "AAAAAAAAAAAAAAAA"...)))
			count(&a.cookies, err)
		}
	case 2:
		if st, err := c.NewStream(ctx, c.server, rendezvous.ProtocolID); err == nil {
			_, err = st.Write(append(binary.AppendUvarint(nil, 64<<20), make([]byte, 16<<10)...))
			count(&a.lengths, err)
		}
	case 3:
		for range 20 {
			if st, err := c.NewStream(ctx, c.server, rendezvous.ProtocolID); err == nil {
				_, err = st.Write(wire.AppendFrame(nil, []byte{0})[:1])
				count(&a.streams, err)
			}
		}
	default:
		return false
	}
	return true
}

func count(n *atomic.Int64, err error) {
	if err == nil {
		n.Add(1)
	}
}
