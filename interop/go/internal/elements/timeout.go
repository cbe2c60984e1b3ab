package elements

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"interop/internal/chain"
	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
	"interop/internal/path"
)

// Timeout closes a connection whose caller's token runs out, early enough that the close has as
// much time as the request had.
type Timeout struct{ Root context.Context }

type timer struct{ cancel context.CancelFunc }

func (t *timer) stop() {
	if t.cancel != nil {
		t.cancel()
		t.cancel = nil
	}
}

// Request starts the time again.
func (t *Timeout) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	var margin time.Duration
	if deadline, ok := ctx.Deadline(); ok {
		margin = time.Until(deadline)
	}
	conn, err := next.Request(ctx, request)
	if err != nil {
		return nil, err
	}
	expires := path.Previous(conn).GetExpires()
	if expires == nil {
		return nil, fmt.Errorf("timeout: the previous segment of %s has no expiry", conn.GetId())
	}
	running := chain.State[timer](ctx, t)
	running.stop()
	canceled, cancel := context.WithCancel(t.Root)
	running.cancel = cancel
	life := chain.LifeOf(ctx)
	after := time.After(time.Until(expires.AsTime()) - margin)
	go func() {
		defer cancel()
		select {
		case <-canceled.Done():
		case <-after:
			slog.Info("expired", "id", conn.GetId())
			if err := life.Close(canceled); err != nil {
				slog.Warn("close of an expired connection", "id", conn.GetId(), "err", err)
			}
		}
	}()
	return conn, nil
}

// Close stops the time; not where the close itself ran out of it.
func (t *Timeout) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	err := next.Close(ctx, conn)
	if ctx.Err() == nil {
		chain.State[timer](ctx, t).stop()
	}
	return err
}
