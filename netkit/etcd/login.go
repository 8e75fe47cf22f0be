package etcd

import (
	"context"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// login logs in when the cluster asks for it, and again when it has forgotten: a token lasts five
// minutes without use, and no longer than the member that gave it. The login of etcd's own client
// needs a cluster that is there when the client is made, and sends the token that has ended when it
// asks for another, which etcd 3.4 refuses for good. It is a [credentials.PerRPCCredentials].
type login struct {
	user, password string

	token atomic.Pointer[string]
	turn  chan struct{} // holds one who logs in
}

func newLogin(cfg Config) *login {
	return &login{user: cfg.User, password: cfg.Password, turn: make(chan struct{}, 1)}
}

func (l *login) options() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithPerRPCCredentials(l), grpc.WithChainUnaryInterceptor(l.unary), grpc.WithChainStreamInterceptor(l.stream),
	}
}

// methodLogin is the only request that goes without a token.
const methodLogin = "/etcdserverpb.Auth/Authenticate"

// GetRequestMetadata adds the token to a request.
func (l *login) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	out := make(map[string]string)
	if info, _ := credentials.RequestInfoFromContext(ctx); info.Method == methodLogin {
		return out, nil
	}
	if token := l.token.Load(); token != nil {
		out[rpctypes.TokenFieldNameGRPC] = *token
	}
	return out, nil
}

// RequireTransportSecurity says that the operator decides about TLS.
func (l *login) RequireTransportSecurity() bool { return false }

// unary is a [grpc.UnaryClientInterceptor].
func (l *login) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, do grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	had := l.token.Load()
	err := do(ctx, method, req, reply, cc, opts...)
	if !is(err, rpctypes.ErrUserEmpty, rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision) {
		return err
	}
	if err := l.renew(ctx, cc, had); err != nil {
		return err
	}
	return do(ctx, method, req, reply, cc, opts...)
}

// stream is a [grpc.StreamClientInterceptor]. A watch is not told that its token has ended, but that
// it has no right.
func (l *login) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, do grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if err := l.renew(ctx, cc, l.token.Load()); err != nil && !is(err, rpctypes.ErrAuthNotEnabled) {
		return nil, err
	}
	return do(ctx, desc, cc, method, opts...)
}

// renew takes a token in place of one, unless another request just did.
func (l *login) renew(ctx context.Context, cc *grpc.ClientConn, had *string) error {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if l.token.Load() != had {
		return nil
	}
	in, err := pb.NewAuthClient(cc).Authenticate(ctx, &pb.AuthenticateRequest{Name: l.user, Password: l.password}, grpc.WaitForReady(true))
	if err == nil {
		l.token.Store(&in.Token)
	}
	return err
}
