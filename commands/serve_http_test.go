package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// seen asks over HTTP, with headers in pairs.
func seen(t *testing.T, url string, headers ...string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
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
	data, err := io.ReadAll(io.LimitReader(got.Body, 4<<10)) // a stream goes on
	if err != nil {
		t.Fatal(err)
	}
	return got.StatusCode, string(data)
}

// TestServeHTTP shows a node over HTTP to those who may see it, as far as they may.
func TestServeHTTP(t *testing.T) {
	t.Parallel()
	const quic, word = "/ip4/127.0.0.1/udp/0/quic-v1", "a-word-that-nobody-guesses"
	dir := t.TempDir()
	file := filepath.Join(dir, "token")
	if err := os.WriteFile(file, []byte(word+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url := func(r *running) string {
		var ready struct{ HTTP string }
		if err := json.Unmarshal([]byte(r.event("ready")), &ready); err != nil || ready.HTTP == "" {
			t.Fatalf("%v: %s", err, r.event("ready"))
		}
		return ready.HTTP
	}
	free := start(t, "serve", "--relay", "--state-dir", filepath.Join(dir, "free"), "--listen", quic, "--http", "localhost:0", "--http-host", "relay.example")
	at := url(free)
	for path, want := range map[string]string{"": "<title>dibber</title>", "readyz": "ready\n", "healthz": "ok\n", "metrics": "dibber_build_info{"} {
		if status, body := seen(t, at+path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("/%s: %d %s", path, status, body)
		}
	}
	for host, want := range map[string]int{"relay.example": 200, "localhost": 200, "evil.example": 421} {
		if status, _ := seen(t, at+"healthz", "Host", host); status != want {
			t.Errorf("Host %s: %d", host, status)
		}
	}
	if status, _ := seen(t, at+"debug/pprof/"); status != http.StatusNotFound {
		t.Errorf("profiles nobody asked for: %d", status)
	}
	kept := start(t, "serve", "--relay", "--state-dir", filepath.Join(dir, "kept"), "--listen", quic,
		"--http", "0.0.0.0:0", "--http-token-file", file, "--http-redact", "--http-pprof")
	at = url(kept)
	for _, path := range []string{"metrics", "events", "debug/pprof/"} {
		if status, _ := seen(t, at+path); status != http.StatusUnauthorized {
			t.Errorf("/%s without the token: %d", path, status)
		}
	}
	for _, path := range []string{"metrics", "debug/pprof/cmdline", "debug/pprof/"} {
		if status, body := seen(t, at+path, "Authorization", "Bearer "+word); (status == http.StatusOK) == strings.HasSuffix(path, "cmdline") || strings.Contains(body, word) {
			t.Errorf("/%s with the token: %d", path, status)
		}
	}
	if _, body := seen(t, at+"events", "Authorization", "Bearer "+word); strings.Contains(body, kept.ready().Peer) || !strings.Contains(body, `"redacted":true`) {
		t.Errorf("redacted: %s", body)
	}
	documentsFit(t, free.stop())
	documentsFit(t, kept.stop())

	short := filepath.Join(dir, "short")
	if err := os.WriteFile(short, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"--http 0.0.0.0:0", "--http :0", "--http 127.0.0.1", "--http-redact", "--http-pprof", "--http-host x", "--http-token-file " + file,
		"--http 127.0.0.1:0 --http-host http://x/", "--http 127.0.0.1:0 --http-token-file " + short, "--http 127.0.0.1:0 --http-token-file " + short + ".none",
	} {
		got := (session{}).run(t.Context(), append([]string{"serve", "--state-dir", filepath.Join(dir, "usage"), "--listen", quic}, strings.Fields(line)...)...)
		if got.code != int(exitUsage) || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("%s: exit %d\n%s%s", line, got.code, got.stdout, got.stderr)
		}
	}
}

// TestLogFormat: what a node does is in its log, a line for each event, as grave as it is.
func TestLogFormat(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"relay.circuit.opened": "INFO", "relay.circuit.refused": "WARN", "reservation.lost": "WARN", "rendezvous.discover": "DEBUG", "ready": "INFO",
	} {
		if got := eventLevel(name).String(); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	command := func(*env) spec {
		return spec{name: "log", doc: countDoc{}, run: func(_ context.Context, out *output) (any, error) {
			out.notice("a word")
			return nil, errors.New("no luck")
		}}
	}
	for line := range strings.SplitSeq(strings.TrimSpace((session{}).with(t.Context(), command, "log", "-v", "--log-format", "json").stderr), "\n") {
		var got struct{ Level, Msg, Code string }
		if err := json.Unmarshal([]byte(line), &got); err != nil || got.Msg != "a word" && (got.Msg != "no luck" || got.Level != "ERROR" || got.Code != "internal") {
			t.Errorf("%v: %s", err, line)
		}
	}
	for _, format := range []string{"text", "json"} {
		var stderr bytes.Buffer
		e := newEnv((session{}).stdio(new(bytes.Buffer), &stderr))
		e.shared.LogLevel, e.shared.LogFormat = "info", format
		out := &output{e: e, logsEvents: true}
		out.log, out.level = e.logger()
		reason := "rate"
		out.event("relay.circuit.refused", relayedLine{Peer: "p", Reason: &reason})
		out.event("rendezvous.discover", rendezvousLine{Peer: "p"})
		out.warn("the disk is %s", "full")
		line, rest, _ := strings.Cut(stderr.String(), "\n")
		if format == "text" {
			if !strings.HasSuffix(line, `level=WARN msg=relay.circuit.refused peer=`+relayedLine{Peer: "p"}.Peer.String()+` reason=rate`) || rest != "warning: the disk is full\n" {
				t.Errorf("%s", stderr.String())
			}
			continue
		}
		var got struct{ Time, Level, Msg, Reason string }
		if err := json.Unmarshal([]byte(line), &got); err != nil || got.Level != "WARN" || got.Msg != "relay.circuit.refused" || got.Reason != reason {
			t.Errorf("%v: %s", err, line)
		}
		if err := json.Unmarshal([]byte(rest), &got); err != nil || got.Msg != "the disk is full" {
			t.Errorf("%v: %s", err, rest)
		}
	}
}
