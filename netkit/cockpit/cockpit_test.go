package cockpit

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"dibber/netkit/host"
	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"
	"dibber/netkit/serve"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const token = "a-token-that-nobody-guesses"

// open makes a service that ends with the test.
func open(t *testing.T, cfg Config) *Service {
	t.Helper()
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	s, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// attach gives a service a node on loopback with the two roles that are seen most.
func attach(t *testing.T, s *Service) *host.Node {
	t.Helper()
	n, err := host.New(host.Config{Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")}, Metrics: s.Registerer()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	srv, err := serve.New(n, serve.Config{Relay: &relay.Config{}, Rendezvous: &rendezvous.ServerConfig{}, On: s.Note})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	s.Attach(n, srv)
	return n
}

// ask sends a request, with headers in pairs, and returns status and body.
func ask(t *testing.T, s *Service, method, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, strings.TrimSuffix(s.URL(), "/")+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	r.Host = r.Header.Get("Host")
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got, string(body)
}

func TestWhoIsKeptOut(t *testing.T) {
	for addr, loopback := range map[string]bool{
		"127.0.0.1:0": true, "127.8.9.10:1": true, "[::1]:0": true, "localhost:0": true, "[::ffff:127.0.0.1]:0": true,
		":0": false, "0.0.0.0:0": false, "[::]:0": false, "192.0.2.1:1": false, "host.example:1": false, "127.0.0.1": false,
	} {
		if got := Loopback(addr); got != loopback {
			t.Errorf("Loopback(%s) = %v", addr, got)
		}
	}
	if _, err := New(t.Context(), Config{Addr: "0.0.0.0:0"}); !errors.Is(err, ErrNeedsToken) {
		t.Errorf("without a token: %v", err)
	}
	if _, err := New(t.Context(), Config{Addr: "127.0.0.1:0", Token: []byte("short")}); !errors.Is(err, ErrShortToken) {
		t.Errorf("with a short token: %v", err)
	}
	free := open(t, Config{Hosts: []string{"Proxy.Example:443"}})
	for name, status := range map[string]int{
		"": 200, "localhost:1": 200, "LOCALHOST": 200, "127.0.0.1:9": 200, "proxy.example": 200, "proxy.example.:80": 200,
		"evil.example": 421, "127.0.0.2": 421, "[::1]": 421, "localhost.evil.example": 421, "10.0.0.1": 421,
	} {
		if got, _ := ask(t, free, "GET", "/metrics", "Host", name); got.StatusCode != status {
			t.Errorf("Host %q: %d, want %d", name, got.StatusCode, status)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS"} {
		if got, _ := ask(t, free, method, "/metrics"); got.StatusCode != 405 {
			t.Errorf("%s: %d", method, got.StatusCode)
		}
	}
	kept := open(t, Config{Token: []byte(token), Pprof: true})
	for _, path := range []string{"/metrics", "/events", "/debug/pprof/", "/debug/pprof/heap"} {
		for _, header := range []string{"", "Bearer", "Bearer ", "Bearer " + token + "x", "Bearer " + token[1:], "Basic " + token, token} {
			if got, body := ask(t, kept, "GET", path, "Authorization", header); got.StatusCode != 401 || got.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s with %q: %d %s", path, header, got.StatusCode, body)
			}
		}
	}
	for path, status := range map[string]int{"/metrics": 200, "/debug/pprof/": 200, "/": 200, "/nothing": 404} {
		if got, _ := ask(t, kept, "GET", path, "Authorization", "bearer "+token); got.StatusCode != status {
			t.Errorf("%s with the token: %d", path, got.StatusCode)
		}
	}
	// Nothing of the node's is there, so that the page can ask for the token.
	for path, status := range map[string]int{"/": 401, "/app.js": 200, "/draw.js": 200, "/tables.js": 200, "/style.css": 200, "/icon.svg": 200, "/healthz": 200, "/readyz": 503} {
		got, body := ask(t, kept, "GET", path)
		if got.StatusCode != status || body == "" {
			t.Errorf("%s without a token: %d", path, got.StatusCode)
		}
		if p := got.Header.Get("Content-Security-Policy"); !strings.HasPrefix(p, "default-src 'none'; script-src 'self'") {
			t.Errorf("%s: policy %q", path, p)
		}
	}
	if got, _ := ask(t, free, "GET", "/debug/pprof/"); got.StatusCode != 404 {
		t.Errorf("profiles nobody asked for: %d", got.StatusCode)
	}
}

func TestReadiness(t *testing.T) {
	s := open(t, Config{})
	is := func(want string, ready string) {
		t.Helper()
		if _, got := ask(t, s, "GET", "/readyz"); got != want+"\n" {
			t.Errorf("readyz %q, want %s", got, want)
		}
		if _, got := ask(t, s, "GET", "/metrics"); !strings.Contains(got, "\ndibber_ready "+ready+"\n") {
			t.Errorf("%s: dibber_ready is not %s", want, ready)
		}
	}
	is("starting", "0")
	attach(t, s)
	is("ready", "1")
	s.Drain()
	is("draining", "0")
	if _, got := ask(t, s, "GET", "/healthz"); got != "ok\n" {
		t.Errorf("healthz %q", got)
	}
}

// TestScrape has what libp2p counts, and what stands in the roles.
func TestScrape(t *testing.T) {
	s := open(t, Config{Version: "1.2.3"})
	n := attach(t, s)
	other, err := host.New(host.Config{Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1")}})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.Connect(t.Context(), peer.AddrInfo{ID: n.ID(), Addrs: n.Addrs()}); err != nil {
		t.Fatal(err)
	}
	s.Note(serve.Event{Relayed: &relay.Event{Kind: relay.EventCircuitOpened, Took: time.Second}})
	s.Note(serve.Event{Rendezvous: &rendezvous.Event{Kind: rendezvous.EventDiscover, Took: time.Millisecond}})
	_, body := ask(t, s, "GET", "/metrics")
	for _, line := range []string{
		`dibber_build_info{version="1.2.3"} 1`, `dibber_role{role="relay"} 1`, `dibber_role{role="rendezvous"} 1`, "dibber_peers 1", "dibber_connections 1",
		"dibber_relay_circuits 0", "dibber_relay_reservations_limit 1024", "dibber_rendezvous_registrations 0", "dibber_connection_rtt_seconds_count 1",
		"dibber_relay_circuit_open_seconds_count 1", `dibber_rendezvous_request_seconds_count{type="discover"} 1`,
		"libp2p_swarm_connections_opened_total", "libp2p_rcmgr_connections", "go_goroutines", "process_start_time_seconds",
	} {
		if !strings.Contains(body, "\n"+line) {
			t.Errorf("no %s", line)
		}
	}
	if strings.Contains(body, n.ID().String()) || strings.Contains(body, other.ID().String()) {
		t.Error("a peer id is in a label: there would be one series for each peer")
	}
}

// TestStream tells a page what goes on, and to one that is not to know, nothing of who and where.
func TestStream(t *testing.T) {
	s := open(t, Config{})
	n := attach(t, s)
	p := n.ID()
	s.Note(serve.Event{Relayed: &relay.Event{Kind: relay.EventCircuitRefused, Peer: p, Reason: relay.ReasonRate}})
	s.Note(serve.Event{Rendezvous: &rendezvous.Event{Kind: rendezvous.EventRefused, Peer: p, Status: rendezvous.StatusNotAuthorized, Text: "of the secret garden"}})
	s.Note(serve.Event{Relayed: &relay.Event{Kind: relay.EventOfferCarried, Peer: p, Destination: "other"}})
	read := func(path string) (state State, data string) {
		got, err := http.Get(strings.TrimSuffix(s.URL(), "/") + path)
		if err != nil {
			t.Fatal(err)
		}
		defer got.Body.Close()
		in := bufio.NewScanner(got.Body)
		in.Buffer(nil, 1<<20)
		for in.Scan() && in.Text() != "event: state" {
		}
		in.Scan()
		data = strings.TrimPrefix(in.Text(), "data: ")
		if err := json.Unmarshal([]byte(data), &state); err != nil {
			t.Fatal(err)
		}
		return state, data
	}
	st, _ := read("/events")
	if st.Node.Peer != p.String() || st.Relay == nil || st.Rendezvous == nil || st.Redacted {
		t.Errorf("%+v", st)
	}
	if len(st.Refusals) != 2 || st.Refusals[0].Detail != "of the secret garden" || st.Refusals[1].Reason != "rate" {
		t.Errorf("refusals %+v", st.Refusals)
	}
	if len(st.Meetings) != 1 || st.Meetings[0].How != ByOffer {
		t.Errorf("meetings %+v", st.Meetings)
	}
	st, data := read("/events?redact=1")
	if !st.Redacted || len(st.Refusals) != 2 || strings.Contains(data, p.String()) || strings.Contains(data, "garden") {
		t.Errorf("redacted: %s", data)
	}
}
