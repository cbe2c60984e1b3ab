package elements

import (
	"context"
	"log/slog"

	"google.golang.org/protobuf/proto"

	"interop/internal/chain"
	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
)

// UpstreamRefresh asks again when a hop to the right wants it.
type UpstreamRefresh struct{ Root context.Context }

// Request listens from now on.
func (u *UpstreamRefresh) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	state := chain.State[timer](ctx, u)
	state.stop()
	conn, err := next.Request(ctx, request)
	if err != nil {
		return nil, err
	}
	to, life := ConnOf(ctx), chain.LifeOf(ctx)
	if to == nil {
		return conn, nil
	}
	within, cancel := context.WithCancel(u.Root)
	state.cancel = cancel
	watch := Watch(within, to, proto.CloneOf(conn))
	go func() {
		for {
			told, err := watch.Next()
			if err != nil || within.Err() != nil {
				return
			}
			if told.GetState() != connection.State_REFRESH_REQUESTED {
				continue
			}
			if again, err := life.Rerequest(within, false); err == nil {
				slog.Info("refreshed", append(about(again, told.GetId()), "why", "asked for")...)
			}
			return
		}
	}()
	return conn, nil
}

// Close listens no more.
func (u *UpstreamRefresh) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	chain.State[timer](ctx, u).stop()
	return next.Close(ctx, conn)
}
