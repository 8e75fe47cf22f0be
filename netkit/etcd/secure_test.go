package etcd_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dibber/netkit/etcd"
	"dibber/netkit/rendezvous"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	a := authority{cert: &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, Subject: pkix.Name{CommonName: "authority"}}}
	a.cert, a.key = a.sign(t, a.cert)
	return a
}

// sign makes a certificate, by itself as long as the authority has none.
func (a authority) sign(t testing.TB, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if signer == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// issue makes a certificate for somebody on this machine.
func (a authority) issue(t testing.TB, name string) tls.Certificate {
	t.Helper()
	cert, key := a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// config trusts the authority, and shows certificates.
func (a authority) config(shown ...tls.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: shown}
}

// files has etcd show a certificate, and want one of the authority from others.
func (a authority) files(t testing.TB, shown tls.Certificate) (args []string) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(shown.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for flag, block := range map[string]pem.Block{
		"--trusted-ca-file": {Type: "CERTIFICATE", Bytes: a.cert.Raw},
		"--cert-file":       {Type: "CERTIFICATE", Bytes: shown.Certificate[0]},
		"--key-file":        {Type: "PRIVATE KEY", Bytes: key},
	} {
		name := filepath.Join(dir, flag)
		if err := os.WriteFile(name, pem.EncodeToMemory(&block), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, flag, name)
	}
	return append(args, "--client-cert-auth")
}

// refused fails the test unless a server does not start, since the registry refuses it for a reason.
func refused(t *testing.T, what string, space *etcd.Space, reason error) {
	t.Helper()
	s, err := rendezvous.NewServer(newHost(t), rendezvous.ServerConfig{Space: space})
	if err == nil {
		err = errors.Join(errors.New("it started"), s.Close())
	}
	if !errors.Is(err, rendezvous.ErrSpaceRefused) || !errors.Is(err, reason) {
		t.Errorf("%s: %v", what, err)
	}
}

// quick is for requests that are to fail: of how long they try depends nothing else.
func quick(cfg etcd.Config) etcd.Config {
	cfg.Attempt = 200 * time.Millisecond
	return cfg
}

func TestTLS(t *testing.T) {
	t.Parallel()
	needEtcd(t)
	ours, other := newAuthority(t), newAuthority(t)
	good := etcd.Config{TLS: ours.config(ours.issue(t, "dibber"))}
	m := startMember(t, good, ours.files(t, ours.issue(t, "etcd"))...)
	a, b := point(t, rendezvous.ServerConfig{Space: m.space(t, good)}), point(t, rendezvous.ServerConfig{Space: m.space(t, good)})
	h := newHost(t)
	if err := register(t.Context(), h, a, "ns"); err != nil {
		t.Fatal(err)
	}
	discover(t, newHost(t), b, nil, 1)
	for what, space := range map[string]*etcd.Space{
		"another authority":             m.space(t, quick(etcd.Config{TLS: other.config(ours.issue(t, "dibber"))})),
		"no certificate":                m.space(t, quick(etcd.Config{TLS: ours.config()})),
		"certificate that is not known": m.space(t, quick(etcd.Config{TLS: ours.config(other.issue(t, "dibber"))})),
	} {
		refused(t, what, space, etcd.ErrTLS)
	}
	// Only one of both ends speaks TLS: the other hangs up, as one that is about to end would.
	for want, space := range map[string]*etcd.Space{"handshake failed": newMember(t).space(t, quick(good)), "server preface": m.space(t, quick(etcd.Config{}))} {
		if _, _, err := space.Get(t.Context(), "key"); !errors.Is(err, rendezvous.ErrSpaceAway) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
