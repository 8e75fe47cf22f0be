package vantage

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func wholeAnswer() Answer {
	return Answer{
		Observed: netip.MustParseAddrPort("17.0.0.1:4001"), Token: bytes.Repeat([]byte{7}, tokenLen),
		Sites: []Site{
			{IP: netip.MustParseAddr("17.0.0.2"), Here: true, Ports: []uint16{4001, 4002}, Probe: 4003, TCP: 4004},
			{IP: netip.MustParseAddr("3fff::1"), Ports: []uint16{1}},
		},
		Attempts:    []Attempt{{From: netip.MustParseAddr("17.0.0.2"), Connected: true}, {From: netip.MustParseAddr("::1")}},
		Attestation: []byte("signed"),
	}
}

func equal(a, b Answer) string {
	return cmp.Diff(a, b, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }))
}

func TestAnswerSurvivesTheWire(t *testing.T) {
	for _, a := range []Answer{{}, wholeAnswer()} {
		got, err := decodeAnswer(a.encode())
		if err != nil {
			t.Fatal(err)
		}
		if diff := equal(a, got); diff != "" {
			t.Error(diff)
		}
	}
	for _, kind := range []uint64{askSites, askConnect, askAttestation, 1 << 40} {
		if got, err := decodeRequest(encodeRequest(kind)); err != nil || got != kind {
			t.Errorf("request %d became %d, %v", kind, got, err)
		}
	}
}

// TestAnswerIsBounded refuses more of anything than an answer has.
func TestAnswerIsBounded(t *testing.T) {
	many := Answer{Sites: make([]Site, maxSites+1)}
	for i := range many.Sites {
		many.Sites[i].IP = netip.MustParseAddr("17.0.0.1")
	}
	ports := wholeAnswer()
	ports.Sites[0].Ports = make([]uint16, maxPorts+1)
	for i := range ports.Sites[0].Ports {
		ports.Sites[0].Ports[i] = 9
	}
	attempts := Answer{Attempts: make([]Attempt, maxSites+1)}
	for i := range attempts.Attempts {
		attempts.Attempts[i].From = netip.MustParseAddr("17.0.0.1")
	}
	for name, a := range map[string]Answer{
		"sites": many, "ports": ports, "attempts": attempts, "token": {Token: make([]byte, maxToken+1)}, "attestation": {Attestation: make([]byte, attestationMax+1)},
		"address": {Sites: []Site{{Probe: 1}}},
	} {
		if got, err := decodeAnswer(a.encode()); err == nil {
			t.Errorf("%s: %+v was taken", name, got)
		}
	}
}

func FuzzDecodeAnswer(f *testing.F) {
	f.Add(wholeAnswer().encode())
	f.Add([]byte{0x0a, 0x02, 0x00, 0x01})
	f.Add([]byte{0x1a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := decodeAnswer(data)
		if err != nil {
			return
		}
		again, err := decodeAnswer(a.encode())
		if err != nil {
			t.Fatalf("decoded %x, but not when encoded again: %v", data, err)
		}
		if diff := equal(a, again); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzDecodeDatagram(f *testing.F) {
	for _, d := range []datagram{
		{kind: kindReflect, id: 1},
		{kind: kindReflected, id: 2, at: netip.MustParseAddrPort("17.0.0.1:4001")},
		{kind: kindAsk, id: 3, site: 1, token: make([]byte, tokenLen)},
		{kind: kindProbe, id: 4, site: 2},
		{kind: kindLater, id: 5, after: MaxDelay},
	} {
		f.Add(d.encode())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, ok := decodeDatagram(data)
		if !ok {
			return
		}
		again, ok := decodeDatagram(d.encode())
		if !ok || again.kind != d.kind || again.id != d.id || again.at != d.at || again.site != d.site || again.after != d.after || !bytes.Equal(again.token, d.token) {
			t.Fatalf("%x became %+v, then %+v", data, d, again)
		}
		if data[0]&0x40 != 0 {
			t.Fatalf("%x would be QUIC's", data)
		}
	})
}

// TestDatagramsPayForThemselves: what comes back is never more than what was sent.
func TestDatagramsPayForThemselves(t *testing.T) {
	at := netip.MustParseAddrPort("[3fff::1]:65535") // the longest
	reflected := len(datagram{kind: kindReflected, at: at}.encode())
	probe := len(datagram{kind: kindProbe}.encode())
	if asked := len(datagram{kind: kindReflect}.encode()); reflected > asked || asked != reflectLen || reflected > maxReflected {
		t.Errorf("%d bytes for %d", reflected, asked)
	}
	if asked := len(datagram{kind: kindAsk, token: make([]byte, maxToken)}.encode()); reflected+probe > asked || asked != askLen {
		t.Errorf("%d bytes for %d", reflected+probe, asked)
	}
	for _, kind := range []byte{kindReflect, kindLater} {
		whole := datagram{kind: kind}.encode()
		if _, ok := decodeDatagram(whole); !ok || len(whole) != reflectLen || reflected > len(whole) {
			t.Errorf("%d bytes for %d", reflected, len(whole))
		}
		if _, ok := decodeDatagram(whole[:reflectLen-1]); ok {
			t.Error("a datagram too short to pay for its answer was taken")
		}
	}
	if _, ok := decodeDatagram(datagram{kind: kindLater, after: MaxDelay + time.Second}.encode()); ok {
		t.Error("an answer was put off for too long")
	}
}

// TestTokens: one holds for one endpoint and half a minute.
func TestTokens(t *testing.T) {
	now, keys := time.Unix(1_700_000_000, 0), newTokens()
	at := netip.MustParseAddrPort("17.0.0.1:4001")
	token := keys.issue(now, at)
	altered := bytes.Clone(token)
	altered[0]++
	for name, tt := range map[string]struct {
		token []byte
		at    string
		after time.Duration
		want  bool
	}{
		"fresh":           {token, "17.0.0.1:4001", 0, true},
		"at its end":      {token, "17.0.0.1:4001", tokenLife, true},
		"too old":         {token, "17.0.0.1:4001", tokenLife + time.Second, false},
		"another port":    {token, "17.0.0.1:4002", 0, false},
		"another address": {token, "17.0.0.2:4001", 0, false},
		"altered":         {altered, "17.0.0.1:4001", 0, false},
		"cut":             {token[:tokenLen-1], "17.0.0.1:4001", 0, false},
		"none":            {nil, "17.0.0.1:4001", 0, false},
		"another's":       {newTokens().issue(now, at), "17.0.0.1:4001", 0, false},
	} {
		if got := keys.valid(now.Add(tt.after), tt.token, netip.MustParseAddrPort(tt.at)); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
