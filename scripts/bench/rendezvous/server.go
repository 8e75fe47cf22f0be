package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"

	nethost "dibber/netkit/host"
	"dibber/netkit/rendezvous"
	netserve "dibber/netkit/serve"
	"dibber/netkit/store"
	"dibber/netkit/wire"
)

// echoProtocol answers a frame with one of the size its first four bytes say: what any server on streams has to do.
const echoProtocol = protocol.ID("/bench/echo/1.0.0")

const maxFrame = 4 << 20

// ready is what the server process prints when it serves.
type ready struct {
	Addrs         []string `json:"addrs"`
	LoadMS        float64  `json:"load_ms"`
	Registrations int      `json:"registrations"`
}

// tap is a host that shows the handlers set on it.
type tap struct {
	host.Host
	handlers map[protocol.ID]network.StreamHandler
}

func (t *tap) SetStreamHandler(id protocol.ID, handler network.StreamHandler) {
	t.handlers[id] = handler
	t.Host.SetStreamHandler(id, handler)
}

// serverLimits are those of a server under measurement: nothing but its work limits it. A flooded one has its defaults.
func serverLimits(flooded bool) rendezvous.Limits {
	if flooded {
		return rendezvous.Limits{}
	}
	fast := rendezvous.Rate{PerSecond: 1e9, Burst: 1e9}
	return rendezvous.Limits{
		Total: 1 << 30, PerPeer: 1 << 30, PeerRegister: fast, PeerDiscover: fast, PrefixRegister: fast, PrefixDiscover: fast,
	}
}

// child runs a part of the measurement in a process of its own.
func child(part string, args []string) error {
	switch {
	case part == "server" && len(args) == 2:
		return serve(args[0], args[1] == "flooded")
	case part == "flood" && len(args) == 3:
		return flood(args[0], args[1], args[2])
	default:
		return fmt.Errorf("unknown part %q", part)
	}
}

// serve serves from the database in dir until its input ends. Each line of input is a number of registrations to add, and the
// namespace they go to if it is one; it is answered with the server's stats.
func serve(dir string, flooded bool) (err error) {
	defer netserve.PaceGarbage(100)() // as dibber serve does
	h, err := nethost.New(nethost.Config{
		Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0"), ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	begun := time.Now()
	db, err := store.Open(dir, store.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	t := &tap{Host: h, handlers: make(map[protocol.ID]network.StreamHandler)}
	s, err := rendezvous.NewServer(t, rendezvous.ServerConfig{
		DB: db, Limits: serverLimits(flooded),
		Abused: func(p peer.ID) { h.TurnAway(p, time.Minute) }, // as dibber serve does
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	r := ready{LoadMS: ms(time.Since(begun)), Registrations: s.Stats().Registrations}
	h.SetStreamHandler(echoProtocol, echo)
	for _, addr := range h.ListenAddrs() {
		r.Addrs = append(r.Addrs, fmt.Sprintf("%s/p2p/%s", addr, h.ID()))
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(r); err != nil {
		return err
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		count, ns, _ := strings.Cut(in.Text(), " ")
		n, err := strconv.Atoi(count)
		if err != nil {
			return err
		}
		if err := fill(t.handlers[rendezvous.ProtocolID], n, ns); err != nil {
			return err
		}
		if err := out.Encode(s.Stats()); err != nil {
			return err
		}
	}
	return nil
}

func echo(st network.Stream) {
	body, err := wire.NewReader(st, maxFrame).Next()
	if err != nil || len(body) < 4 {
		_ = st.Reset()
		return
	}
	size := int(body[0])<<24 | int(body[1])<<16 | int(body[2])<<8 | int(body[3])
	if err := wire.WriteFrame(st, make([]byte, size), maxFrame); err != nil {
		_ = st.Reset()
		return
	}
	_ = st.Close()
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
