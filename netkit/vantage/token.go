package vantage

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"
)

const (
	// tokenLife is how long a token authorises probes: longer than a check takes.
	tokenLife = 30 * time.Second
	tokenLen  = 8 + 16 // the moment it ends, and half a MAC
)

// tokens makes and checks tokens, each for one endpoint.
type tokens struct{ key [32]byte }

func newTokens() *tokens {
	t := new(tokens)
	_, _ = rand.Read(t.key[:]) // never fails (crypto/rand)
	return t
}

func (t *tokens) issue(now time.Time, to netip.AddrPort) []byte {
	return t.seal(now.Add(tokenLife).Unix(), to)
}

func (t *tokens) seal(until int64, to netip.AddrPort) []byte {
	out := binary.BigEndian.AppendUint64(nil, uint64(until))
	mac := hmac.New(sha256.New, t.key[:])
	mac.Write(appendEndpoint(out, to))
	return mac.Sum(out)[:tokenLen]
}

// valid reports whether a token authorises probes to an endpoint.
func (t *tokens) valid(now time.Time, token []byte, to netip.AddrPort) bool {
	if len(token) != tokenLen {
		return false
	}
	until := int64(binary.BigEndian.Uint64(token))
	return now.Unix() <= until && hmac.Equal(token, t.seal(until, to))
}
