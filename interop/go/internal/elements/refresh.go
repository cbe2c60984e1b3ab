package elements

import (
	"context"
	"log/slog"
	"time"

	"interop/internal/chain"
	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
)

// refreshRetry is how long after a refresh that failed the next one comes: the Go
// implementation's.
const refreshRetry = 200 * time.Millisecond

// Refresh asks again before the first of the path's tokens expires.
type Refresh struct{ Root context.Context }

// Request starts the time again.
func (r *Refresh) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	conn, err := next.Request(ctx, request)
	if err != nil {
		return nil, err
	}
	state := chain.State[timer](ctx, r)
	state.stop()
	canceled, cancel := context.WithCancel(r.Root)
	state.cancel = cancel
	life, id := chain.LifeOf(ctx), conn.GetId()
	after := time.After(refreshAfter(conn, time.Now()))
	go func() {
		for {
			select {
			case <-canceled.Done():
				return
			case <-after:
			}
			// A refresh that works has started another time, and ended this one.
			again, err := life.Rerequest(canceled, false)
			if err == nil {
				slog.Info("refreshed", about(again, id)...)
				return
			}
			if canceled.Err() == nil {
				slog.Warn("refresh failed", "id", id, "err", err)
			}
			after = time.After(refreshRetry)
		}
	}()
	return conn, nil
}

// Close stops the time.
func (r *Refresh) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	chain.State[timer](ctx, r).stop()
	return next.Close(ctx, conn)
}

// refreshAfter is a fifth of the shortest remaining life at the start of the path, more towards
// its end, and a third where there is but one segment.
func refreshAfter(conn *connection.Connection, now time.Time) time.Duration {
	segments := conn.GetPath().GetPathSegments()
	if len(segments) == 0 {
		return time.Nanosecond
	}
	shortest := segments[0].GetExpires().AsTime().Sub(now)
	for _, segment := range segments[1:] {
		shortest = min(shortest, segment.GetExpires().AsTime().Sub(now))
	}
	if shortest <= 0 {
		return time.Nanosecond
	}
	scale := 1.0 / 3
	if len(segments) > 1 {
		scale = 0.2 + 0.2*float64(conn.GetPath().GetIndex())/float64(len(segments))
	}
	return time.Duration(float64(shortest) * scale)
}
