package portmap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dibber/netkit/host"

	"github.com/google/go-cmp/cmp"
)

// router is a home router on a loopback address of its own: what it answers to each
// protocol is up to the test.
type router struct {
	at netip.Addr

	mu    sync.Mutex // guards following
	asked []string
}

func (r *router) note(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.asked, what) { // questions are repeated
		r.asked = append(r.asked, what)
	}
}

func (r *router) seen() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.asked)
}

// serve answers the datagrams that come to a port.
func (r *router) serve(t *testing.T, port uint16, answer func(question []byte) []byte) {
	t.Helper()
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.at, port)))
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	t.Cleanup(func() {
		_ = c.Close()
		done.Wait()
	})
	done.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := answer(buf[:n]); reply != nil {
				_, _ = c.WriteTo(reply, from)
			}
		}
	})
}

var outside = netip.MustParseAddrPort("17.0.0.9:4000") // of every router here

// pcpOf answers as a PCP router does, with a result code.
func (r *router) pcpOf(code byte) func([]byte) []byte {
	return func(q []byte) []byte {
		if len(q) != pcpLen || q[0] != pcpVersion {
			return nil
		}
		r.note(fmt.Sprintf("pcp %d s", binary.BigEndian.Uint32(q[4:])))
		b := slices.Clone(q)
		b[1] |= pcpReply
		b[3] = code
		binary.BigEndian.PutUint16(b[42:], outside.Port())
		ip := outside.Addr().As16()
		copy(b[44:], ip[:])
		return b
	}
}

// natPMP answers as a router does that knows nothing newer.
func (r *router) natPMP(q []byte) []byte {
	switch {
	case q[0] != 0:
		return []byte{0, q[1] | pmpReply, 0, 1, 0, 0, 0, 0} // unsupported version
	case q[1] == pmpExternal:
		return append([]byte{0, pmpReply, 0, 0, 0, 0, 0, 0}, outside.Addr().AsSlice()...)
	default:
		r.note(fmt.Sprintf("nat-pmp %d s", binary.BigEndian.Uint32(q[8:])))
		b := append([]byte{0, pmpReply | q[1], 0, 0, 0, 0, 0, 0}, q[4:6]...)
		return append(binary.BigEndian.AppendUint16(b, outside.Port()), q[8:12]...)
	}
}

// upnp serves a description and its service; location is where a search is told that
// they are, HOST standing for where they are.
func (r *router) upnp(t *testing.T, location string) {
	t.Helper()
	const service = "urn:schemas-upnp-org:service:WANIPConnection:1"
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		action := q.Header.Get("SOAPAction")
		body, _ := io.ReadAll(q.Body)
		reply := ""
		switch {
		case q.Method == http.MethodGet:
			fmt.Fprintf(w, `<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device><deviceType>d</deviceType>`+
				`<serviceList><service><serviceType>%s</serviceType><controlURL>/c</controlURL></service></serviceList></device></root>`, service)
			return
		case strings.Contains(action, "GetExternalIPAddress"):
			reply = "<NewExternalIPAddress>" + outside.Addr().String() + "</NewExternalIPAddress>"
		case strings.Contains(action, "AddPortMapping"):
			if !strings.Contains(string(body), "<NewInternalPort>4001</NewInternalPort>") || !strings.Contains(string(body), "<NewInternalClient>127.0.0.1</NewInternalClient>") {
				t.Errorf("asked to map %s", body)
			}
			r.note("upnp add")
		case strings.Contains(action, "DeletePortMapping"):
			r.note("upnp delete")
		}
		name := strings.Trim(action[strings.LastIndex(action, "#")+1:], `"`)
		fmt.Fprintf(w, `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>`+
			`<u:%sResponse xmlns:u="%s">%s</u:%sResponse></s:Body></s:Envelope>`, name, service, reply, name)
	}))
	l, err := net.Listen("tcp", netip.AddrPortFrom(r.at, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	r.serve(t, ssdpPort, func(q []byte) []byte {
		if !strings.HasPrefix(string(q), "M-SEARCH * HTTP/1.1\r\n") {
			return nil
		}
		r.note("upnp search")
		return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nST: x\r\nLOCATION: %s\r\n\r\n", strings.ReplaceAll(location, "HOST", l.Addr().String()))
	})
}

// ask asks a router for port 4001.
func ask(t *testing.T, r *router) (Result, error) {
	t.Helper()
	n, err := host.New(host.Config{Transports: []host.Transport{host.TCP}, Family: host.IPv4Only})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return Do(t.Context(), n, Config{
		Port: 4001, Outside: outside.Port(), Gateway: r.at, Own: netip.MustParseAddr("127.0.0.1"),
	})
}

func at(ip string) *router { return &router{at: netip.MustParseAddr(ip)} }

// TestEachProtocol: the first that works is used, and used again to give the mapping
// back.
func TestEachProtocol(t *testing.T) {
	tests := []struct {
		name  string
		start func(t *testing.T, r *router)
		want  string
		asked []string
	}{
		{PCP, func(t *testing.T, r *router) { r.serve(t, pmpPort, r.pcpOf(0)) }, PCP, []string{"pcp 120 s", "pcp 0 s"}},
		{NATPMP, func(t *testing.T, r *router) { r.serve(t, pmpPort, r.natPMP) }, NATPMP, []string{"nat-pmp 120 s", "nat-pmp 0 s"}},
		{UPnP, func(t *testing.T, r *router) { r.upnp(t, "http://HOST/d.xml") }, UPnP, []string{"upnp search", "upnp add", "upnp delete"}},
		{"PCP refuses, UPnP does not", func(t *testing.T, r *router) {
			r.serve(t, pmpPort, r.pcpOf(2))
			r.upnp(t, "http://HOST/d.xml")
		}, UPnP, []string{"pcp 120 s", "upnp search", "upnp add", "upnp delete"}},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := at(fmt.Sprintf("127.77.0.%d", i+1))
			tt.start(t, r)
			got, err := ask(t, r)
			if err != nil || got.Protocol != tt.want || got.External != outside || got.Gateway != r.at {
				t.Fatalf("%+v, %v", got, err)
			}
			if last := got.Tried[len(got.Tried)-1]; !last.OK || last.Protocol != tt.want || last.Error != nil {
				t.Errorf("tried %+v", got.Tried)
			}
			if err := got.Remove(t.Context()); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(tt.asked, r.seen()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestNoMapping: a router that is silent, refuses or points elsewhere gives none, and
// each protocol says why.
func TestNoMapping(t *testing.T) {
	tests := []struct {
		name  string
		start func(t *testing.T, r *router)
		want  error
	}{
		{"silent", func(*testing.T, *router) {}, ErrSilent},
		{"refusing", func(t *testing.T, r *router) { r.serve(t, pmpPort, r.pcpOf(2)) }, ErrRefused},
		{"pointing at somebody else", func(t *testing.T, r *router) { r.upnp(t, "http://127.0.0.1:1/d.xml") }, ErrSilent},
		{"answering noise", func(t *testing.T, r *router) {
			r.serve(t, pmpPort, func([]byte) []byte { return []byte{2, 0x81, 0, 0, 1, 2, 3} })
			r.serve(t, ssdpPort, func([]byte) []byte { return []byte("HTTP/1.1 200 OK\r\nLOCATION: :\r\n\r\n") })
		}, ErrSilent},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := at(fmt.Sprintf("127.78.0.%d", i+1))
			tt.start(t, r)
			got, err := ask(t, r)
			if !errors.Is(err, tt.want) || got.Protocol != "" || len(got.Tried) != 3 {
				t.Fatalf("%+v, %v; want %v", got, err, tt.want)
			}
			for _, a := range got.Tried {
				if a.OK || a.Error == nil {
					t.Errorf("tried %+v", a)
				}
			}
			if err := got.Remove(t.Context()); err != nil {
				t.Errorf("nothing to give back: %v", err)
			}
		})
	}
}

// TestAnotherAnswers: what does not come from the router is not believed.
func TestAnotherAnswers(t *testing.T) {
	r, liar := at("127.79.0.1"), at("127.79.0.2")
	from, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(liar.at, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.at, pmpPort)))
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	defer done.Wait()
	defer c.Close()
	done.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, asker, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := liar.pcpOf(0)(buf[:n]); reply != nil {
				_, _ = from.WriteTo(reply, asker)
			}
		}
	})
	if got, err := ask(t, r); !errors.Is(err, ErrSilent) || got.Protocol != "" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestTheEndOfTheContext(t *testing.T) {
	n, err := host.New(host.Config{Transports: []host.Transport{host.TCP}, Family: host.IPv4Only})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	got, err := Do(ctx, n, Config{Port: 1, Gateway: netip.MustParseAddr("127.80.0.1"), Own: netip.MustParseAddr("127.0.0.1")})
	if !errors.Is(err, context.Canceled) || len(got.Tried) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzAnswers(f *testing.F) {
	r := at("127.0.0.1")
	nonce := [12]byte{1, 2, 3}
	f.Add(r.pcpOf(0)(pcpRequest(r.at, nonce, 4001, 0, time.Minute)))
	f.Add(r.natPMP([]byte{0, pmpExternal}))
	f.Add([]byte("HTTP/1.1 200 OK\r\nLOCATION: http://127.0.0.1:80/d.xml\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if at, done, err := pcpResponse(b, nonce, 4001); done && err == nil && !at.IsValid() {
			t.Errorf("%x is a mapping to nowhere", b)
		}
		for op, size := range map[byte]int{pmpExternal: 4, pmpMapUDP: 8} {
			if body, done, err := pmpResponse(b, op, size); done && err == nil && len(body) != size {
				t.Errorf("%x has a body of %d bytes", b, len(body))
			}
		}
		if at := ssdpLocation(b, r.at); at != nil && at.Hostname() != r.at.String() {
			t.Errorf("%q points at %s", b, at)
		}
	})
}
