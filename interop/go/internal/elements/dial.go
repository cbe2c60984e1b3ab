package elements

import (
	"context"
	"errors"
	"log/slog"
	"net/url"

	"google.golang.org/grpc"

	"interop/internal/chain"
	"interop/internal/dial"
	"interop/internal/fdconn"
	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
)

// ClientURL says where the next hop is, if nothing before has.
type ClientURL struct{ To *url.URL }

// Request says it.
func (c *ClientURL) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	return next.Request(chain.WithURL(ctx, c.To), request)
}

// Close says it.
func (c *ClientURL) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	return next.Close(chain.WithURL(ctx, c.To), conn)
}

// hop is the connection to the next hop, one for each connection of the mesh: element [Dial]
// makes it, [Monitor] and heal watch over it.
type hop struct {
	to   *url.URL
	conn *grpc.ClientConn
}

func (h *hop) dial(ctx context.Context, to *url.URL, options dial.Options) error {
	h.close()
	h.to = to
	conn, err := options.Dial(ctx, to)
	if err == nil {
		h.conn = conn
	}
	return err
}

func (h *hop) close() {
	if h.conn != nil {
		_ = h.conn.Close()
		h.conn = nil
	}
}

// ConnOf is the connection to the next hop, nil where there is none.
func ConnOf(ctx context.Context) grpc.ClientConnInterface {
	if conn := chain.State[hop](ctx, hop{}).conn; conn != nil {
		return conn
	}
	return nil
}

// Dial connects anew for each request, as the Go implementation does. If the next hop is another
// one than before, the connection is closed there first.
type Dial struct{ Options dial.Options }

// Request dials.
func (d *Dial) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	to := chain.URLOf(ctx)
	if to == nil {
		return next.Request(ctx, request)
	}
	state := chain.State[hop](ctx, hop{})
	known := state.to != nil
	if known && state.to.String() != to.String() {
		if err := d.leave(ctx, state, request.Connection, next); err != nil {
			return nil, err
		}
	}
	err := state.dial(ctx, to, d.Options)
	if err != nil {
		if !known {
			state.to = nil
		}
		return nil, err
	}
	called, _ := fdconn.WithCall(ctx)
	conn, err := next.Request(called, request)
	if err != nil && !known {
		state.close()
		state.to = nil
	}
	return conn, err
}

// leave closes the connection at the hop where it was.
func (d *Dial) leave(ctx context.Context, state *hop, conn *connection.Connection, next chain.Handler) error {
	after, cancel := chain.Postpone(ctx)
	defer cancel()
	if err := state.dial(after, state.to, d.Options); err != nil {
		state.to = nil
		return err
	}
	after, _ = fdconn.WithCall(chain.WithURL(after, state.to))
	if err := next.Close(after, conn); err != nil {
		slog.Warn("close at the hop that is left", "id", conn.GetId(), "err", err)
	}
	return nil
}

// Close dials the hop that is known, goes on whatever comes of it, and hangs up.
func (d *Dial) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	state := chain.State[hop](ctx, hop{})
	if state.to == nil {
		return next.Close(ctx, conn)
	}
	defer func() { state.close(); state.to = nil }()
	to := chain.URLOf(ctx)
	if to == nil {
		to = state.to
	}
	if err := state.dial(ctx, to, d.Options); err != nil {
		slog.Warn("close", "id", conn.GetId(), "err", err)
	}
	called, _ := fdconn.WithCall(ctx)
	return next.Close(called, conn)
}

var errNotDialled = errors.New("connect: nothing has been dialled")

// Call makes the call to the next hop.
type Call struct{}

// Request makes it.
func (c *Call) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, _ chain.Handler) (*connection.Connection, error) {
	to := ConnOf(ctx)
	if to == nil {
		return nil, errNotDialled
	}
	return networkservice.NewNetworkServiceClient(to).Request(ctx, request)
}

// Close makes it.
func (c *Call) Close(ctx context.Context, conn *connection.Connection, _ chain.Handler) error {
	to := ConnOf(ctx)
	if to == nil {
		return errNotDialled
	}
	_, err := networkservice.NewNetworkServiceClient(to).Close(ctx, conn)
	return err
}
