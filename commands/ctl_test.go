package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dibber/netkit/relay"
	"dibber/netkit/rendezvous"
	"dibber/netkit/serve"
)

// controlled is a running relay and rendezvous point, with a circuit through it.
type controlled struct {
	server, far, registered *running
	args                    []string // that say where the server is
	socket                  string
}

// startControlled starts one.
func startControlled(t *testing.T) controlled {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "server")
	const quic = "/ip4/127.0.0.1/udp/0/quic-v1"
	c := controlled{
		server: start(t, "serve", "--relay", "--rendezvous", "--state-dir", dir, "--listen", quic),
		args:   []string{"--state-dir", dir}, socket: filepath.Join(dir, "control.sock"),
	}
	at := c.server.ready().Addrs[0]
	c.far = start(t, "serve", "--use-relay", at, "--state-dir", filepath.Join(t.TempDir(), "far"), "--listen", quic)
	c.registered = start(t, "serve", "--register", at, "--namespace", "chat", "--no-connect", "--state-dir", filepath.Join(t.TempDir(), "registered"), "--listen", quic)
	c.far.event("reservation.reserved")
	c.registered.event("registration.registered")
	held := start(t, "dial", at+"/p2p-circuit/p2p/"+c.far.ready().Peer, "--relay-only", "--watch", "--listen", quic)
	held.event("identify")
	c.server.event("relay.circuit.opened")
	return c
}

// steady replaces what is measured by a 1.
func steady(doc string) string {
	for _, rule := range []struct{ match, with string }{
		{`"(pid|sent|received|sent_left|received_left|streams|seen_by)": \d+`, `"$1": 1`},
		{`("connections": \{\s*"used": )\d+(,\s*"limit": )\d+`, `${1}1${2}1`},
		{`("bytes": )\d+(,\s*"refused")`, `${1}1${2}`},
		{`"rtt_ms": (?:null|[\d.]+)`, `"rtt_ms": 1`}, // measured, or not yet
		{`"watch": \{[^}]*\}`, `"watch": {}`},        // the registered one may have begun to
	} {
		doc = regexp.MustCompile(rule.match).ReplaceAllString(doc, rule.with)
	}
	return doc
}

// TestDocumentsOfControl pins the documents of the ctl commands.
func TestDocumentsOfControl(t *testing.T) {
	t.Parallel()
	c := startControlled(t)
	peer := c.far.ready().Peer
	for _, line := range [][]string{
		{"ctl.limits.get", "limits", "get"},
		{"ctl.limits.set", "limits", "set", "relay-rate=65536", "relay-circuits=5"},
		{"ctl.log-level", "log-level"},
		{"ctl.log-level.set", "log-level", "info"},
		{"ctl.status", "status"},
		{"ctl.peers", "peers"},
		{"ctl.reservations", "reservations"},
		{"ctl.circuits", "circuits"},
		{"ctl.registrations", "registrations"},
		{"ctl.end", "end", "1"},
		{"ctl.kick", "kick", peer},
		{"ctl.ban", "ban", "192.0.2.7/24", "--for", "24h", "--reason", "floods"},
		{"ctl.bans", "bans"},
		{"ctl.unban", "unban", "192.0.2.0/24"},
		{"ctl.drain", "drain", "--within", "1m"},
	} {
		goldenDocument(t, line[0]+".json", steady(succeeds(t, slices.Concat([]string{"ctl"}, line[1:], c.args)...)))
	}
	<-c.server.done
	documentsFit(t, c.server.stop())
}

// TestDocumentOfSessions pins that of a node which has nothing to replicate.
func TestDocumentOfSessions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	succeeds(t, "replicate", "init", "--state-dir", dir)
	start(t, "serve", "--replicate", "--accept-any", "--state-dir", dir, "--listen", "/ip4/127.0.0.1/udp/0/quic-v1").ready()
	goldenDocument(t, "ctl.sessions.json", succeeds(t, "ctl", "sessions", "--state-dir", dir))
}

// TestDocumentsOfBackups pins those of ctl backup and restore.
func TestDocumentsOfBackups(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	state, file := filepath.Join(dir, "state"), filepath.Join(dir, "node.tar")
	start(t, "serve", "--relay", "--state-dir", state, "--listen", "/ip4/127.0.0.1/udp/0/quic-v1").ready()
	sizes := regexp.MustCompile(`"(files|bytes)": \d+`)
	pin := func(name, doc string) {
		t.Helper()
		goldenDocument(t, name+".json", sizes.ReplaceAllString(strings.ReplaceAll(doc, dir, "<dir>"), `"$1": 1`))
	}
	pin("ctl.backup", succeeds(t, "ctl", "backup", file, "--state-dir", state))
	pin("restore", succeeds(t, "restore", file, "--state-dir", filepath.Join(dir, "copy")))
}

// byHand sends a request as curl does, and returns the status and the body.
func (c controlled) byHand(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", c.socket)
	}}}
	r, err := http.NewRequestWithContext(t.Context(), method, "http://dibber"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	got, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	data, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got.StatusCode, string(data)
}

// TestControlByHand: the socket speaks HTTP with JSON to anybody, and answers what makes
// no sense with a reason.
func TestControlByHand(t *testing.T) {
	t.Parallel()
	c := startControlled(t)
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/circuits", "", 200, `"id":1`},
		{"GET", "/status", "", 200, `"draining":false`},
		{"GET", "/registrations?limit=1&namespace=chat", "", 200, `"namespace":"chat"`},
		{"POST", "/limits", `{"relay-circuits": 7, "rendezvous-refuse": "private", "relay-unlimited": true}`, 200, `"from":"64","to":"7"`},
		{"GET", "/limits", "", 200, `{"key":"relay-circuits","value":"7"}`},

		{"POST", "/limits", `{"relay-circuits": 8, "relay-circuit": 7}`, 400, `did you mean`},
		{"POST", "/limits", `{"relay-circuits": 8.5}`, 400, `whole number`},
		{"POST", "/limits", `{"relay-circuits": [8]}`, 400, `a limit is a number`},
		{"POST", "/limits", `{"relay-circuits": null}`, 400, `a limit is a number`},
		{"POST", "/limits", `{"rendezvous-refuse": "privat"}`, 400, `did you mean private`},
		{"POST", "/limits", `relay-circuits=8`, 400, `not an object`},
		{"POST", "/limits", `{"relay-circuits": 8} {}`, 400, `not an object`},
		{"POST", "/limits", `{}`, 400, `not an object`},
		{"POST", "/limits", ``, 400, `not an object`},
		{"GET", "/registrations?limit=0", "", 400, `limit`},
		{"GET", "/registrations?ns=chat", "", 400, `takes no parameter`},
		{"DELETE", "/circuits/x", "", 400, `not the number of a circuit`},
		{"DELETE", "/circuits/18446744073709551616", "", 400, `not the number of a circuit`},
		{"DELETE", "/circuits/77", "", 404, `"code":"not_found"`},
		{"DELETE", "/peers/nobody", "", 400, `"code":"usage"`},
		{"POST", "/drain?within=-1s", "", 400, `within`},
		{"DELETE", "/status", "", 404, `"code":"unknown_verb"`},
		{"GET", "/limits", "", 200, `{"key":"relay-circuits","value":"7"}`}, // as before all that

		{"DELETE", "/circuits/1", "", 200, `"id":1`},
		{"DELETE", "/peers/" + c.far.ready().Peer, "", 200, `"reservation":true`},
	} {
		status, body := c.byHand(t, tt.method, tt.path, tt.body)
		if status != tt.status || !strings.Contains(body, tt.want) || !json.Valid([]byte(body)) {
			t.Errorf("%s %s %s: %d %s, want %d and %s", tt.method, tt.path, tt.body, status, body, tt.status, tt.want)
		}
	}
	closed := c.server.event("relay.circuit.closed")
	if !strings.Contains(closed, `"reason":"operator"`) {
		t.Errorf("the circuit ended with %s", closed)
	}
}

// TestListsAsText pins what people see of lists.
func TestListsAsText(t *testing.T) {
	t.Parallel()
	c := startControlled(t)
	peer, registered := c.far.ready().Peer, c.registered.ready().Peer
	for verb, want := range map[string]string{
		"peers":         `(?s)^PEER +DIR +PATH +TRANSPORT +AGE +STREAMS +ADDRESS +AGENT\n.*` + peer + ` +in +direct +quic +[\dhms]+ +\d+ +/ip4/127\.0\.0\.1/udp/\d+/quic-v1 +dibber/`,
		"reservations":  `^PEER +UNTIL +SINCE +CIRCUITS +TRANSPORT +ADDRESS\n` + peer + ` +\d\d:\d\d:\d\d +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +1 +quic +/ip4`,
		"circuits":      `^CIRCUIT +FROM +TO +SENT +RECEIVED +AGE +TIME LEFT +MAY SEND +MAY RECEIVE +TRANSPORTS\n1 +\w{52} +` + peer + ` +[\d.]+ K?i?B +[\d.]+ K?i?B +[\dms]+ +[\dms]+ +[\d.]+ KiB +[\d.]+ KiB +quic → quic\n$`,
		"registrations": `^NAMESPACE +PEER +RECORD +TTL +ADDRESS\nchat +` + registered + ` +standard +(2h|1h5\dm\d+s) +/ip4/`,
	} {
		got := (session{}).run(t.Context(), append([]string{"ctl", verb}, c.args...)...)
		if !regexp.MustCompile(want).MatchString(got.stdout) {
			t.Errorf("%s: %s\nwant %s", verb, got.stdout, want)
		}
		if quiet := (session{}).run(t.Context(), append([]string{"ctl", verb, "-q"}, c.args...)...).stdout; !strings.Contains(quiet, peer+"\n") && quiet != registered+"\n" && quiet != "1\n" {
			t.Errorf("%s -q: %q", verb, quiet)
		}
	}
}

// TestStatusAsText shows every part of a status to people.
func TestStatusAsText(t *testing.T) {
	t.Parallel()
	c := startControlled(t)
	doc := statusDoc{}
	if err := json.Unmarshal([]byte(succeeds(t, append([]string{"ctl", "status"}, c.args...)...)), &doc); err != nil {
		t.Fatal(err)
	}
	*doc.UptimeS, *doc.Draining = 3661.2, true
	doc.Reachability = new("public")
	doc.Addresses = &[]serve.Address{{Addr: "/ip4/17.0.0.1/tcp/4001", Kind: serve.Observed, SeenBy: 3, Reachability: new("reachable"), ConfirmedBy: nil, Asked: 2}}
	doc.Counters.Relay.Refused = map[relay.Reason]uint64{relay.ReasonRate: 2, relay.ReasonCircuits: 1}
	doc.Counters.Relay.Closed = map[relay.Reason]uint64{relay.ReasonBytes: 4}
	doc.Counters.Rendezvous.Refused = map[string]uint64{"ttl": 5}
	text := newText(newEnv(Stdio{}))
	doc.renderText(text)
	for _, want := range []string{
		"up for 1h1m1s, draining", "reachability  public", "/ip4/17.0.0.1/tcp/4001  observed, seen by 3, reachable: 0 of 2 say so",
		"1 of 1024 reservations", "1 of 1024 circuits", "1 of 100000 registrations", "refused: circuits 1, rate 2", "circuits ended: bytes 4",
		"refused: ttl 5", "register ",
	} {
		if !bytes.Contains(text.bytes(), []byte(want)) {
			t.Errorf("no %q in %s", want, text.bytes())
		}
	}
}

// TestLimitsAreFlags: what is shown of limits is what the flags take.
func TestLimitsAreFlags(t *testing.T) {
	t.Parallel()
	r, err := relay.Limits{Rate: 5}.WithDefaults()
	if err != nil {
		t.Fatal(err)
	}
	p, err := rendezvous.Limits{RefuseAddrs: rendezvous.AddrPrivate | rendezvous.AddrRelayed}.WithDefaults()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := limitRows(serve.Limits{Relay: &r, Rendezvous: &p})
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for _, row := range rows {
		if row.Value != nil {
			values[row.Key] = *row.Value
		}
	}
	if err := checkLimits(values); err != nil {
		t.Error(err)
	}
	if len(rows) != len(relayLimitKeys())+len(rendezvousLimitKeys()) || values["relay-rate"] != "5" || values["rendezvous-refuse"] != "private,relayed" {
		t.Errorf("%v", values)
	}
}
