package commands

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"dibber/netkit/cockpit"
	"dibber/netkit/host"
	"dibber/netkit/serve"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/urfave/cli/v2"
)

// httpOptions are the flags of what serve shows over HTTP.
type httpOptions struct {
	Addr      string // host:port; empty means nothing is shown
	TokenFile string
	Hosts     []string
	Redact    bool
	Pprof     bool
}

func httpFlags(o *httpOptions) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "http", Usage: "show a dashboard, metrics and health over HTTP at `HOST:PORT`", Destination: &o.Addr},
		&cli.StringFlag{Name: "http-token-file", Usage: "want the token in `FILE` from who asks over HTTP; needed beside loopback", Destination: &o.TokenFile},
		listFlag("", "http-host", "answer HTTP requests for `NAME` too, that of a proxy, say (repeatable)", &o.Hosts),
		&cli.BoolFlag{Name: "http-redact", Usage: "show neither who nor where peers are on the dashboard", Destination: &o.Redact},
		&cli.BoolFlag{Name: "http-pprof", Usage: "serve profiles of the process at /debug/pprof/", Destination: &o.Pprof},
	}
}

// httpKeys are the flags that do nothing without --http.
func httpKeys() []string {
	return []string{"http-token-file", "http-host", "http-redact", "http-pprof"}
}

func (o *httpOptions) validate() error {
	if o.Addr == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(o.Addr); err != nil {
		return usagef("--http: %q is not of the form HOST:PORT, as in 127.0.0.1:9464", o.Addr)
	}
	if o.TokenFile == "" && !cockpit.Loopback(o.Addr) {
		return usagef("--http %s: others than this machine could ask; it needs --http-token-file", o.Addr)
	}
	for _, name := range o.Hosts {
		if name == "" || strings.ContainsAny(name, "/*@ ") {
			return usagef("--http-host: %q is no name of a host", name)
		}
	}
	return nil
}

// maxToken bounds what is read as a token.
const maxToken = 4096

// token reads the token that is wanted; nil for none.
func (o *httpOptions) token() ([]byte, error) {
	if o.TokenFile == "" {
		return nil, nil
	}
	f, err := os.Open(o.TokenFile)
	if err != nil {
		return nil, usagef("--http-token-file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return nil, usagef("--http-token-file: %w", err)
	}
	data = bytes.TrimSpace(data)
	if len(data) > maxToken || bytes.ContainsAny(data, " \r\n\t") {
		return nil, usagef("--http-token-file: %s holds more than one word", o.TokenFile)
	}
	return data, nil
}

// dashboard is what serve shows over HTTP; the zero value shows nothing.
type dashboard struct{ s *cockpit.Service }

// open makes the dashboard, which says that the node is not ready.
func (o *httpOptions) open(ctx context.Context) (dashboard, error) {
	if o.Addr == "" {
		return dashboard{}, nil
	}
	token, err := o.token()
	if err != nil {
		return dashboard{}, err
	}
	s, err := cockpit.New(ctx, cockpit.Config{Addr: o.Addr, Token: token, Hosts: o.Hosts, Redact: o.Redact, Pprof: o.Pprof, Version: Version})
	switch {
	case errors.Is(err, cockpit.ErrShortToken):
		return dashboard{}, usagef("--http-token-file: %w", err)
	case err != nil:
		return dashboard{}, &failure{Code: "listen", Phase: "listen", Addr: o.Addr, Hint: listenHint(err), Err: err}
	}
	return dashboard{s}, nil
}

// registerer is where libp2p's metrics go; nil where nobody asks for any.
func (d dashboard) registerer() prometheus.Registerer {
	if d.s == nil {
		return nil
	}
	return d.s.Registerer()
}

// note takes what happened.
func (d dashboard) note(e serve.Event) {
	if d.s != nil {
		d.s.Note(e)
	}
}

// attach says that the node is ready.
func (d dashboard) attach(n *host.Node, s *serve.Server) {
	if d.s != nil {
		d.s.Attach(n, s)
	}
}

// url is that of the page; nil for none.
func (d dashboard) url() *string {
	if d.s == nil {
		return nil
	}
	return new(d.s.URL())
}

// drain says that the node is about to end.
func (d dashboard) drain() {
	if d.s != nil {
		d.s.Drain()
	}
}

// close ends it.
func (d dashboard) close() error {
	if d.s == nil {
		return nil
	}
	if err := d.s.Close(); err != nil {
		return fmt.Errorf("end the dashboard: %w", err)
	}
	return nil
}
