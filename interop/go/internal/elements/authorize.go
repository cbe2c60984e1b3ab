package elements

import (
	"context"
	"fmt"

	"google.golang.org/grpc/peer"

	"interop/internal/chain"
	"interop/internal/fdconn"
	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
	"interop/internal/path"
	"interop/internal/policy"
)

// AuthorizeServer has policies look at the path up to this hop, before anything is done.
type AuthorizeServer struct{ Policies policy.List }

// Request asks them.
func (a *AuthorizeServer) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	if err := a.check(ctx, request.Connection); err != nil {
		return nil, err
	}
	return next.Request(ctx, request)
}

// Close asks them.
func (a *AuthorizeServer) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	if err := a.check(ctx, conn); err != nil {
		return err
	}
	return next.Close(ctx, conn)
}

func (a *AuthorizeServer) check(ctx context.Context, conn *connection.Connection) error {
	if _, ok := peer.FromContext(ctx); !ok {
		return nil
	}
	return a.Policies.Check(ctx, path.Left(conn.GetPath()))
}

// AuthorizeClient has policies look at the whole path that was answered, with the certificate of
// who answered. What they refuse is closed, unless it stood before.
type AuthorizeClient struct{ Policies policy.List }

type authorized struct {
	once bool
	peer *peer.Peer
}

// Request asks them about the answer.
func (a *AuthorizeClient) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	conn, err := next.Request(ctx, request)
	if err != nil {
		return nil, err
	}
	state := chain.State[authorized](ctx, a)
	if call := fdconn.CallFrom(ctx); call != nil && call.Peer() != nil {
		state.peer = call.Peer()
	}
	err = a.Policies.Check(withPeer(ctx, state.peer), conn.GetPath())
	if err == nil {
		state.once = true
		return conn, nil
	}
	if !state.once {
		after, cancel := chain.Postpone(ctx)
		defer cancel()
		if closed := next.Close(after, conn); closed != nil {
			err = fmt.Errorf("%w (and the close failed: %w)", err, closed)
		}
	}
	return nil, err
}

// Close asks them about what is to be closed.
func (a *AuthorizeClient) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	state := chain.State[authorized](ctx, a)
	if err := a.Policies.Check(withPeer(ctx, state.peer), conn.GetPath()); err != nil {
		return err
	}
	return next.Close(ctx, conn)
}

func withPeer(ctx context.Context, remote *peer.Peer) context.Context {
	if remote == nil {
		return ctx
	}
	return peer.NewContext(ctx, remote)
}
