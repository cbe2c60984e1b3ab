package manager

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	"interop/internal/chain"
	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
	"interop/internal/gen/registry"
	"interop/internal/regchain"
	"interop/internal/selection"
)

// watchPause is between a watch that ended and the next, as the Go implementation has it.
const watchPause = 100 * time.Millisecond

// NetSvcMonitor closes a connection whose endpoint its service no longer allows.
type NetSvcMonitor struct {
	// Root ends all watches.
	Root context.Context
	// Services and Endpoints are the registries to ask.
	Services  regchain.Handler[regchain.Service]
	Endpoints regchain.Handler[regchain.Endpoint]
}

type watching struct{ cancel context.CancelFunc }

func (w *watching) stop() {
	if w.cancel != nil {
		w.cancel()
		w.cancel = nil
	}
}

// Request watches the service of what was answered, until the first of its tokens expires.
func (n *NetSvcMonitor) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	before := chain.State[watching](ctx, n)
	before.stop()
	conn, err := next.Request(ctx, request)
	if err != nil {
		return nil, err
	}
	watch, cancel := context.WithDeadline(n.Root, firstExpiry(conn))
	before.cancel = cancel
	go n.watch(watch, proto.CloneOf(conn), chain.LifeOf(ctx))
	return conn, nil
}

// Close watches no more.
func (n *NetSvcMonitor) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	chain.State[watching](ctx, n).stop()
	return next.Close(ctx, conn)
}

// firstExpiry is never the zero time: an answer's path has this hop's segment, with an expiry.
func firstExpiry(conn *connection.Connection) time.Time {
	var first time.Time
	for _, segment := range conn.GetPath().GetPathSegments() {
		if at := segment.GetExpires().AsTime(); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

func (n *NetSvcMonitor) watch(ctx context.Context, conn *connection.Connection, life *chain.Life) {
	query := regchain.Query[regchain.Service]{
		Like:  &registry.NetworkService{Name: conn.GetNetworkService()},
		Watch: true,
	}
	for ctx.Err() == nil {
		err := n.Services.Find(ctx, query, func(found regchain.Found[regchain.Service]) error {
			n.judge(ctx, conn, found.Entry, life)
			return nil
		})
		if err != nil && ctx.Err() == nil {
			slog.Debug("the watch of a service ended", "service", conn.GetNetworkService(), "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchPause):
		}
	}
}

// judge says nothing about an endpoint that is not found.
func (n *NetSvcMonitor) judge(ctx context.Context, conn *connection.Connection, service regchain.Service, life *chain.Life) {
	like := &registry.NetworkServiceEndpoint{Name: conn.GetNetworkServiceEndpointName()}
	endpoints, _ := regchain.List(ctx, n.Endpoints, like)
	if len(endpoints) == 0 || len(selection.Endpoints(conn.GetLabels(), service, endpoints)) > 0 {
		return
	}
	slog.Warn("the endpoint does not fit its service any more", "endpoint", like.GetName(), "service", service.GetName())
	if err := life.Close(ctx); err != nil {
		slog.Warn("close", "id", conn.GetId(), "err", err)
	}
}
