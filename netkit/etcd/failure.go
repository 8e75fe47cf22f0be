package etcd

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/status"

	"dibber/netkit/rendezvous"
)

// Why a cluster does not let a client in. Errors that wrap one of these wrap
// [rendezvous.ErrSpaceRefused], too.
var (
	// ErrTLS is a connection whose ends do not trust each other. Where one speaks no TLS it hangs up,
	// which is a cluster that is away.
	ErrTLS = errors.New("no TLS connection")
	// ErrLogin is a user or a password that is wrong, or missing.
	ErrLogin = errors.New("login failed")
	// ErrNoRight is a user who may not read and write all keys below the prefix.
	ErrNoRight = errors.New("user may not use the prefix")
)

// failed gives the error of a request its class. One that nothing is known about is of a cluster
// that is away.
func failed(doing string, err error) error {
	switch {
	case is(err, rpctypes.ErrCompacted, rpctypes.ErrFutureRev):
		return fmt.Errorf("%s: %w: %w", doing, rendezvous.ErrSpaceForgotten, err)
	case is(err, rpctypes.ErrAuthFailed, rpctypes.ErrUserEmpty, rpctypes.ErrInvalidAuthToken):
		return fmt.Errorf("%s: %w: %w: %w", doing, rendezvous.ErrSpaceRefused, ErrLogin, err)
	case is(err, rpctypes.ErrPermissionDenied):
		return fmt.Errorf("%s: %w: %w: %w", doing, rendezvous.ErrSpaceRefused, ErrNoRight, err)
	case untrusted(err):
		return fmt.Errorf("%s: %w: %w: %w", doing, rendezvous.ErrSpaceRefused, ErrTLS, plain(err))
	default:
		return fmt.Errorf("%s: %w: %w", doing, rendezvous.ErrSpaceAway, plain(err))
	}
}

// plain is an error of gRPC without what it puts before what happened.
func plain(err error) error {
	if s, ok := status.FromError(err); ok {
		return errors.New(strings.TrimPrefix(s.Message(), "latest balancer error: "))
	}
	return err
}

// is reports whether an error, of etcd's client or of gRPC, is one of these.
func is(err error, these ...error) bool {
	return slices.ContainsFunc(these, func(one error) bool { return errors.Is(rpctypes.Error(err), one) })
}
