package commands

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"os"
	"strings"

	"dibber/netkit/etcd"

	"github.com/urfave/cli/v2"
)

// registryOptions say where the rendezvous point's registrations are shared with other servers.
type registryOptions struct {
	At           string
	CA           string
	Cert, Key    string
	User         string
	PasswordFile string
}

func registryFlags(o *registryOptions) []cli.Flag {
	text := func(name, usage string, dest *string) cli.Flag {
		return &cli.StringFlag{Name: name, Usage: usage, Destination: dest}
	}
	return []cli.Flag{
		text("registry", "share the registrations with other servers in `ETCD`, etcd://host:2379[,host:2379...]/prefix, or etcds:// for TLS; without, keep them in the state folder", &o.At),
		text("registry-ca", "trust the certificates that those in `FILE` sign, for etcds; without, those the system trusts", &o.CA),
		text("registry-cert", "show etcd the certificate in `FILE`, for etcds", &o.Cert),
		text("registry-key", "key `FILE` of --registry-cert", &o.Key),
		text("registry-user", "log in to etcd as `NAME`", &o.User),
		text("registry-password-file", "read the password of --registry-user from `FILE`", &o.PasswordFile),
	}
}

// registryKeys are the flags that do nothing without --registry.
func registryKeys() []string {
	return []string{"registry-ca", "registry-cert", "registry-key", "registry-user", "registry-password-file"}
}

func (o *registryOptions) validate() error {
	if o.At == "" {
		return nil
	}
	_, secure, err := o.parse()
	switch {
	case err != nil:
		return err
	case (o.Cert == "") != (o.Key == ""):
		return usagef("--registry-cert and --registry-key go together")
	case (o.User == "") != (o.PasswordFile == ""):
		return usagef("--registry-user and --registry-password-file go together")
	case !secure && o.CA+o.Cert != "":
		return usagef("--registry-ca and --registry-cert need TLS: say etcds:// in --registry")
	}
	return nil
}

// parse reads the members and the prefix, and whether to use TLS.
func (o *registryOptions) parse() (cfg etcd.Config, secure bool, err error) {
	scheme, rest, ok := strings.Cut(o.At, "://")
	if !ok || scheme != "etcd" && scheme != "etcds" {
		return cfg, false, usagef("--registry: %q is not etcd://host:2379[,host:2379...]/prefix", o.At)
	}
	hosts, prefix, _ := strings.Cut(rest, "/")
	for host := range strings.SplitSeq(hosts, ",") {
		at, err := url.Parse("//" + host)
		if err != nil || at.Hostname() == "" || at.Host != host {
			return cfg, false, usagef("--registry: %q is no host and port", host)
		}
		port := at.Port()
		if port == "" {
			port = "2379" // etcd's own
		}
		cfg.Endpoints = append(cfg.Endpoints, net.JoinHostPort(at.Hostname(), port))
	}
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		cfg.Prefix = "/" + prefix
	}
	return cfg, scheme == "etcds", nil
}

// open makes the client; nil without --registry.
func (o *registryOptions) open() (*etcd.Space, error) {
	if o.At == "" {
		return nil, nil
	}
	cfg, secure, err := o.parse()
	if err != nil {
		return nil, err
	}
	if secure {
		if cfg.TLS, err = o.tls(); err != nil {
			return nil, err
		}
	}
	if o.User != "" {
		password, err := os.ReadFile(o.PasswordFile)
		if err != nil {
			return nil, usagef("--registry-password-file: %w", err)
		}
		cfg.User, cfg.Password = o.User, strings.TrimRight(string(password), "\r\n")
	}
	return etcd.Open(cfg)
}

func (o *registryOptions) tls() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, usagef("--registry-ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, usagef("--registry-ca: %w", errors.New("no certificate in "+o.CA))
		}
	}
	if o.Cert != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, usagef("--registry-cert, --registry-key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}
