package etcd

import (
	"cmp"
	"context"
	"crypto/tls"
	"strings"
	"time"

	client "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// newClient makes a client, without waiting for the cluster.
func newClient(cfg Config) (*client.Client, error) {
	endpoints := make([]string, len(cfg.Endpoints))
	for i, at := range cfg.Endpoints {
		endpoints[i] = "http://" + at
		if cfg.TLS != nil {
			endpoints[i] = "https://" + at
		}
	}
	options := []grpc.DialOption{grpc.WithChainUnaryInterceptor(noteCause)}
	if cfg.User != "" {
		options = append(options, newLogin(cfg).options()...)
	}
	return client.New(client.Config{
		Endpoints: endpoints, TLS: cfg.TLS, DialOptions: options,
		// A member that died without a word is noticed. etcd turns away who asks more than every 5 s.
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
		Logger: zap.NewNop(), // what it would log comes back as errors
	})
}

// cause is why the last attempt of a request failed: etcd's client tells no more than that time was
// up, where gRPC says what became of the connections.
type cause struct{ err error }

type causeKey struct{}

func withCause(ctx context.Context) (context.Context, *cause) {
	c := new(cause)
	return context.WithValue(ctx, causeKey{}, c), c
}

// of is the cause of a request's error, if it is known.
func (c *cause) of(err error) error { return cmp.Or(c.err, err) }

// noteCause is a [grpc.UnaryClientInterceptor] of each attempt. Those of a request follow each other.
func noteCause(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, do grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := do(ctx, method, req, reply, cc, opts...)
	if c, ok := ctx.Value(causeKey{}).(*cause); ok {
		c.err = err
	}
	return err
}

// timeUp reports whether an error says no more than that the time of a request was up.
func timeUp(err error) bool {
	code := status.FromContextError(err).Code()
	if s, ok := status.FromError(err); ok {
		code = s.Code()
	}
	return code == codes.DeadlineExceeded || code == codes.Canceled
}

// handshakeMost is how long a connection may take that is made to see why there is none.
const handshakeMost = 2 * time.Second

// handshake returns why there is no TLS connection to a member, if that is why; nil where TLS is not
// used. gRPC sees that or, depending on who is faster, no more than that the connection was closed.
func (s *Space) handshake(ctx context.Context) error {
	if s.cfg.TLS == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handshakeMost)
	defer cancel()
	for _, at := range s.cfg.Endpoints {
		conn, err := (&tls.Dialer{Config: s.cfg.TLS}).DialContext(ctx, "tcp", at)
		if err == nil {
			// A server begins with its settings, or with what is wrong with the certificate.
			_ = conn.SetDeadline(time.Now().Add(handshakeMost))
			_, err = conn.Read(make([]byte, 1))
			_ = conn.Close() // nothing was sent
		}
		if err != nil && untrusted(err) {
			return err
		}
	}
	return nil
}

// untrusted reports whether TLS is why there is no connection: errors of crypto/tls and crypto/x509
// begin with their names, and of many there is no more than the text.
func untrusted(err error) bool {
	return strings.Contains(err.Error(), "tls: ") || strings.Contains(err.Error(), "x509: ")
}
