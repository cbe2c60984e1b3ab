// Package elements is the elements of network service chains, named as the Go implementation
// names them, that more than one role lists.
package elements

import (
	"context"
	"log/slog"

	"google.golang.org/protobuf/types/known/timestamppb"

	"interop/internal/chain"
	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
	"interop/internal/identity"
	"interop/internal/meta"
	"interop/internal/path"
)

// UpdatePath moves the connection to the segment of this hop, and back on the way out.
type UpdatePath struct{ Name string }

// Request is the move there and back.
func (u *UpdatePath) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	if request.Connection == nil {
		request.Connection = &connection.Connection{}
	}
	place, err := path.Advance(request.Connection, u.Name)
	if err != nil {
		return nil, err
	}
	conn, err := next.Request(ctx, request)
	if err != nil {
		return nil, err
	}
	path.Rewind(conn, place)
	return conn, nil
}

// Close moves likewise.
func (u *UpdatePath) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	place, err := path.Advance(conn, u.Name)
	if err != nil {
		return err
	}
	err = next.Close(ctx, conn)
	path.Rewind(conn, place)
	return err
}

// UpdateToken writes the caller's token into the previous segment, and one of its own, meant for
// the caller, into the current.
type UpdateToken struct{ Generator identity.Generator }

// Request writes both.
func (u *UpdateToken) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	if err := u.write(ctx, request.Connection); err != nil {
		return nil, err
	}
	return next.Request(ctx, request)
}

// Close writes both.
func (u *UpdateToken) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	if err := u.write(ctx, conn); err != nil {
		return err
	}
	return next.Close(ctx, conn)
}

func (u *UpdateToken) write(ctx context.Context, conn *connection.Connection) error {
	if previous := path.Previous(conn); previous != nil {
		token, expires, err := meta.Token(ctx)
		if err != nil {
			slog.Warn("a call without its caller's token", "id", conn.GetId(), "err", err)
		} else {
			previous.Token, previous.Expires = token, timestamppb.New(expires)
		}
	}
	token, expires, err := u.Generator.ForCaller(ctx)
	if err != nil {
		return err
	}
	if own := path.Current(conn); own != nil {
		own.Token, own.Expires = token, timestamppb.New(expires)
	}
	return nil
}

// TrimPath cuts what is right of this hop off the answer, unless a client of this process has
// gone on from here.
type TrimPath struct{}

type goesOn struct{ yes bool }

// Request cuts.
func (t *TrimPath) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	conn, err := next.Request(ctx, request)
	if err == nil && !chain.State[goesOn](ctx, goesOn{}).yes {
		path.Trim(conn)
	}
	return conn, err
}

// Close cuts nothing.
func (t *TrimPath) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	return next.Close(ctx, conn)
}

// KeepPath stands in a client's chain and tells [TrimPath] that the path goes on.
type KeepPath struct{}

// Request tells it, once the next hop has answered.
func (k *KeepPath) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	conn, err := next.Request(ctx, request)
	if err == nil {
		chain.State[goesOn](ctx, goesOn{}).yes = true
	}
	return conn, err
}

// Close hands on.
func (k *KeepPath) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	return next.Close(ctx, conn)
}
