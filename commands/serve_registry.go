package commands

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"dibber/netkit/etcd"
	"dibber/netkit/rendezvous"

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

// registryFailure gives the errors of a shared registry their class. One that is away is no failure: serve waits for it.
func registryFailure(err error) (failure, bool) {
	f := failure{Exit: exitRefused, Phase: "registry"}
	switch {
	case errors.Is(err, etcd.ErrTLS):
		f.Exit, f.Code, f.Hint = exitIdentity, "registry_tls", "--registry-ca has to be who signed etcd's certificate, --registry-cert and --registry-key one that etcd trusts"
	case errors.Is(err, etcd.ErrLogin):
		f.Code, f.Hint = "registry_login", "see --registry-user and --registry-password-file; etcdctl user list has the users"
	case errors.Is(err, etcd.ErrNoRight):
		f.Code, f.Hint = "registry_denied", "etcdctl role grant-permission ROLE readwrite PREFIX/ --prefix, with the prefix of --registry"
	case errors.Is(err, rendezvous.ErrSpaceForeign):
		f.Exit, f.Code, f.Hint = exitProtocol, "registry_foreign", "give the registry a prefix of its own in --registry"
	default:
		return failure{}, false
	}
	return f, true
}

// registryLine tells that the shared registry can be used, or why it cannot.
type registryLine struct {
	Error *string `json:"error"`
}

func (l registryLine) line() string {
	if l.Error == nil {
		return "registry back  REGISTER and DISCOVER are answered again"
	}
	return "registry lost  REGISTER and DISCOVER are answered with E_UNAVAILABLE: " + plainText(*l.Error)
}

// tellRegistry tells of a shared registry, and the service manager as well.
func tellRegistry(out *output, e rendezvous.Event) {
	if e.Kind == rendezvous.EventBack {
		supervisor{out}.status("registry back")
		out.recurring("registry", nil, "registry.back", registryLine{})
		return
	}
	cause := oneLine(e.Text)
	supervisor{out}.status("registry lost: " + cause)
	out.recurring("registry", errors.New(cause), "registry.lost", registryLine{&cause})
}

// registryDoc is how a node stands with a registry that it shares.
type registryDoc struct {
	Up    bool      `json:"up"`
	Since time.Time `json:"since"`
	Error *string   `json:"error"` // why it cannot be used
}

// registryOf is nil for a node that shares none.
func registryOf(s *rendezvous.Sharing) *registryDoc {
	if s == nil {
		return nil
	}
	return &registryDoc{Up: s.Away == nil, Since: s.Since, Error: errorText(s.Away)}
}

func (d registryDoc) String() string {
	since := d.Since.Local().Format(time.DateTime)
	if d.Error == nil {
		return "shared, up since " + since
	}
	return "lost since " + since + ": " + plainText(*d.Error)
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
