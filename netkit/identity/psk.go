package identity

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/pnet"
)

// pskLen is the length of a pre-shared key, in bytes.
const pskLen = 32

// The first line of a file with a pre-shared key, and the second for each encoding.
const (
	pskHeader = "/key/swarm/psk/1.0.0/"
	pskBase16 = "/base16/"
	pskBase64 = "/base64/"
	pskBin    = "/bin/"
)

// ErrPSK says that data is not a pre-shared key.
var ErrPSK = errors.New("not a pre-shared key")

// NewPSK makes a pre-shared key from the system's randomness.
func NewPSK() pnet.PSK {
	key := make(pnet.PSK, pskLen)
	rand.Read(key) // never fails: see its documentation
	return key
}

// ParsePSK reads a pre-shared key in the file format of the libp2p specification, in each
// of its encodings (base16, base64, bin), or as aquadoggo takes it: 64 hex digits alone. Line ends
// may be CR LF and may be missing at the end. Errors wrap ErrPSK.
func ParsePSK(data []byte) (pnet.PSK, error) {
	if len(data) > MaxKeyLen {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrPSK, MaxKeyLen)
	}
	if key, ok := parseHex32(bytes.TrimSpace(data)); ok {
		return key, nil
	}
	header, rest, _ := bytes.Cut(data, []byte("\n"))
	encoding, body, _ := bytes.Cut(rest, []byte("\n"))
	if string(bytes.TrimSpace(header)) != pskHeader {
		return nil, fmt.Errorf("%w: the first line is not %s", ErrPSK, pskHeader)
	}
	key, err := decodePSK(string(bytes.TrimSpace(encoding)), body)
	if err != nil {
		return nil, err
	}
	if len(key) != pskLen {
		return nil, fmt.Errorf("%w: %d bytes instead of %d", ErrPSK, len(key), pskLen)
	}
	return key, nil
}

func decodePSK(encoding string, body []byte) ([]byte, error) {
	text := bytes.TrimSpace(body)
	switch encoding {
	case pskBase16:
		key := make([]byte, hex.DecodedLen(len(text)))
		if _, err := hex.Decode(key, text); err != nil {
			return nil, fmt.Errorf("%w: the third line is not base16", ErrPSK)
		}
		return key, nil
	case pskBase64:
		key, err := base64.StdEncoding.DecodeString(string(text))
		if err != nil {
			return nil, fmt.Errorf("%w: the third line is not base64", ErrPSK)
		}
		return key, nil
	case pskBin:
		// The key itself may end with a byte that looks like a line end.
		if len(body) > pskLen && len(bytes.TrimRight(body[pskLen:], "\r\n")) == 0 {
			body = body[:pskLen]
		}
		return bytes.Clone(body), nil
	}
	return nil, fmt.Errorf("%w: the second line is none of %s %s %s", ErrPSK, pskBase16, pskBase64, pskBin)
}

// EncodePSK writes key in the format of the specification, in base16, as kubo, rust-libp2p and
// js-libp2p read it. The error wraps ErrPSK if key is not 32 bytes long.
func EncodePSK(key pnet.PSK) ([]byte, error) {
	if len(key) != pskLen {
		return nil, fmt.Errorf("%w: %d bytes instead of %d", ErrPSK, len(key), pskLen)
	}
	return fmt.Appendf(nil, "%s\n%s\n%x\n", pskHeader, pskBase16, []byte(key)), nil
}

// LoadPSK reads the pre-shared key in the file path. A file that its group or others may touch is
// refused with a *PermissionError.
func LoadPSK(path string) (pnet.PSK, error) {
	data, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	key, err := ParsePSK(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}
