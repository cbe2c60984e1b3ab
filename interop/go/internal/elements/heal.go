package elements

import (
	"context"
	"log/slog"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"interop/internal/chain"
	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
)

// Heal listens to the next hop, and asks for another endpoint when that says that the connection
// is down, or is not to be heard any more.
type Heal struct{ Root context.Context }

// listening is the watch over one connection, from one request to the next.
type listening struct {
	cancel  context.CancelFunc
	healing *atomic.Bool
}

// Request starts to listen anew; after a refresh that failed, to what stood before.
func (h *Heal) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	state := chain.State[listening](ctx, h)
	listened, healing := state.cancel != nil, false
	if listened {
		state.cancel()
		healing = state.healing.Load()
		state.cancel = nil
	}
	asked := proto.CloneOf(request.Connection)
	conn, err := next.Request(ctx, request)
	if err != nil {
		if listened && !healing {
			h.listen(ctx, state, asked)
		}
		return nil, err
	}
	h.listen(ctx, state, conn)
	return conn, nil
}

// Close listens no more.
func (h *Heal) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	if state := chain.State[listening](ctx, h); state.cancel != nil {
		state.cancel()
		state.cancel = nil
	}
	return next.Close(ctx, conn)
}

func (h *Heal) listen(ctx context.Context, state *listening, conn *connection.Connection) {
	to, life := ConnOf(ctx), chain.LifeOf(ctx)
	if to == nil {
		return
	}
	within, cancel := context.WithCancel(h.Root)
	started := &atomic.Bool{}
	state.cancel, state.healing = cancel, started
	watch := Watch(within, to, conn)
	go func() {
		if !down(within, watch) {
			return
		}
		started.Store(true)
		slog.Warn("control plane is down", "id", conn.GetId())
		// Without a look at the data plane there is nothing to wait for: another endpoint, as
		// often as it takes.
		for h.Root.Err() == nil {
			again, err := life.Rerequest(h.Root, true)
			if err == nil {
				slog.Info("healed", about(again, conn.GetId())...)
				return
			}
			slog.Warn("heal failed", "id", conn.GetId(), "err", err)
		}
	}()
}

// down waits until the connection is down; false if somebody has stopped to listen.
func down(ctx context.Context, watch *Watching) bool {
	for {
		conn, err := watch.Next()
		if ctx.Err() != nil {
			return false
		}
		if err != nil {
			// Cancelled: this side has hung up.
			return status.Code(err) != codes.Canceled
		}
		if conn.GetState() == connection.State_DOWN {
			return true
		}
	}
}
