package natlab_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/natlab"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/quic-go/quic-go"
)

// The link of the speed tests: 50 ms there and back.
const (
	oneWay     = 25 * time.Millisecond
	speedRound = 2 * oneWay
)

// onLink runs f with two public machines that far apart. What f measures in
// virtual time counts round trips: the processor's work takes none of it.
func onLink(t *testing.T, f func(t *testing.T, a, b *natlab.Machine)) {
	t.Helper()
	natlab.Run(t, func(t *testing.T, lab *natlab.Lab) {
		half := natlab.MachineConfig{Link: natlab.LinkConfig{Latency: oneWay / 2}}
		f(t, lab.Internet().Machine("a", half), lab.Internet().Machine("b", half))
	})
}

// TestDialCostsWhatQUICCosts: from the dial call, a connection of ours is there
// after one round trip, as a bare QUIC handshake is, and the first byte of an
// answer after two. go-libp2p's Connect and NewStream need three.
func TestDialCostsWhatQUICCosts(t *testing.T) {
	raw := rawHandshake(t)
	connected, answered := ourDial(t)
	stock := stockAnswer(t)
	t.Logf("round trip %s; QUIC handshake %s; dial %s (%.3f of it); first byte back %s, %.2f round trips (stock %.2f)",
		speedRound, raw, connected, float64(connected)/float64(raw), answered, rounds(answered), rounds(stock))
	if raw < speedRound {
		t.Errorf("a handshake in %s is faster than the link", raw)
	}
	if limit := raw * 105 / 100; connected > limit {
		t.Errorf("dial took %s, at most %s is allowed", connected, limit)
	}
	if limit := speedRound * 21 / 10; answered > limit {
		t.Errorf("first byte back after %s, at most %s is allowed", answered, limit)
	}
	if stock <= answered {
		t.Errorf("stock go-libp2p has an answer after %s, we after %s", stock, answered)
	}
}

func rounds(d time.Duration) float64 { return float64(d) / float64(speedRound) }

// ourDial measures netkit/host: until the connection is there, and until an
// answer is.
func ourDial(t *testing.T) (connected, answered time.Duration) {
	t.Helper()
	onLink(t, func(t *testing.T, a, b *natlab.Machine) {
		from, to := a.Host(host.Config{}), b.Host(host.Config{})
		echo(to)
		start := time.Now()
		conn, err := from.Dial(t.Context(), to.ID(), to.Addrs())
		if err != nil {
			t.Fatal(err)
		}
		connected = time.Since(start)
		s, err := from.OpenStream(t.Context(), conn, echoProtocol)
		if err != nil {
			t.Fatal(err)
		}
		firstByte(t, s)
		answered = time.Since(start)
	})
	return connected, answered
}

// stockAnswer measures go-libp2p's own way to an answer.
func stockAnswer(t *testing.T) (answered time.Duration) {
	t.Helper()
	onLink(t, func(t *testing.T, a, b *natlab.Machine) {
		from, to := a.Stock(), b.Stock()
		echo(to)
		start := time.Now()
		if err := from.Connect(t.Context(), info(to)); err != nil {
			t.Fatal(err)
		}
		s, err := from.NewStream(t.Context(), to.ID(), echoProtocol)
		if err != nil {
			t.Fatal(err)
		}
		firstByte(t, s)
		answered = time.Since(start)
	})
	return answered
}

// firstByte sends a byte to an echo and waits for it.
func firstByte(t *testing.T, s network.Stream) {
	t.Helper()
	defer func() { _ = s.Reset() }()
	if _, err := s.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// rawHandshake measures quic-go without libp2p, both sides showing certificates
// as libp2p's do.
func rawHandshake(t *testing.T) (took time.Duration) {
	t.Helper()
	onLink(t, func(t *testing.T, a, b *natlab.Machine) {
		conf := &tls.Config{
			Certificates: []tls.Certificate{certificate(t)}, NextProtos: []string{"raw"},
			InsecureSkipVerify: true, ClientAuth: tls.RequireAnyClientCert,
		}
		if _, err := transport(t, b).Listen(conf, nil); err != nil {
			t.Fatal(err)
		}
		client := transport(t, a)
		start := time.Now()
		if _, err := client.Dial(t.Context(), net.UDPAddrFromAddrPort(at(b, natlab.Port)), conf, nil); err != nil {
			t.Fatal(err)
		}
		took = time.Since(start)
	})
	return took
}

// transport is quic-go on a socket of m; it ends its listener and connections
// when it is closed.
func transport(t *testing.T, m *natlab.Machine) *quic.Transport {
	t.Helper()
	tr := &quic.Transport{Conn: open(t, m, natlab.Port).conn}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

// certificate is self-signed, as libp2p's are.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
