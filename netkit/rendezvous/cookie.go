package rendezvous

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// cookieKey makes and checks cookies. A cookie is 8 bytes of seq, big endian,
// and 16 characters of base64url: the first 12 bytes of HMAC-SHA256 over
// epoch, namespace and seq. The tail is text because rust reads everything
// after the eighth byte as a namespace in UTF-8. The server keeps nothing for
// a cookie; a key kept on disk makes it outlive a restart.
type cookieKey struct {
	secret [32]byte
	epoch  [8]byte
}

const cookieMACBytes = 12

func newCookieKey() (key cookieKey) {
	// crypto/rand.Read never returns an error.
	_, _ = rand.Read(key.secret[:])
	_, _ = rand.Read(key.epoch[:])
	return key
}

// mint returns the cookie of seq in a namespace; "" stands for all of them.
func (k cookieKey) mint(ns string, seq uint64) []byte {
	cookie := binary.BigEndian.AppendUint64(make([]byte, 0, 24), seq)
	return base64.RawURLEncoding.AppendEncode(cookie, k.mac(ns, seq))
}

// open returns the seq of a cookie that mint made for the namespace.
func (k cookieKey) open(ns string, cookie []byte) (uint64, bool) {
	if len(cookie) < 8 {
		return 0, false
	}
	seq := binary.BigEndian.Uint64(cookie)
	return seq, hmac.Equal(cookie, k.mint(ns, seq))
}

func (k cookieKey) mac(ns string, seq uint64) []byte {
	mac := hmac.New(sha256.New, k.secret[:])
	mac.Write(k.epoch[:])
	mac.Write([]byte(ns))
	mac.Write(binary.BigEndian.AppendUint64(nil, seq))
	return mac.Sum(nil)[:cookieMACBytes]
}
