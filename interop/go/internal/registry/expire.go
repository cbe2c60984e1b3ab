package registry

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"interop/internal/meta"
	"interop/internal/regchain"
)

// Expire has an endpoint unregistered that nobody refreshes. It stands behind begin, where the
// expiry enters the list too: what stands before learns nothing of it.
type Expire struct {
	regchain.Pass[regchain.Endpoint]
	// Root ends all timers.
	Root context.Context
	// After is the longest that an endpoint lives without a refresh.
	After time.Duration
}

// timer is an endpoint's own.
type timer struct{ cancel context.CancelFunc }

func (t *timer) stop() {
	if t.cancel != nil {
		t.cancel()
		t.cancel = nil
	}
}

// Register writes when the endpoint expires, unless it is to be sooner, and starts the time again.
func (e *Expire) Register(ctx context.Context, entry regchain.Endpoint, next regchain.Handler[regchain.Endpoint]) (regchain.Endpoint, error) {
	var margin time.Duration
	if deadline, ok := ctx.Deadline(); ok {
		margin = time.Until(deadline)
	}
	expires := e.soonest(ctx)
	if given := entry.GetExpirationTime(); given == nil || expires.Before(given.AsTime()) {
		entry.ExpirationTime = timestamppb.New(expires)
	}
	answer, err := next.Register(ctx, entry)
	if err != nil {
		return nil, err
	}
	if given := answer.GetExpirationTime().AsTime(); given.Before(expires) {
		expires = given
	}
	running := regchain.State[timer, regchain.Endpoint](ctx, e)
	running.stop()
	canceled, cancel := context.WithCancel(e.Root)
	running.cancel = cancel
	life, name := regchain.LifeOf[regchain.Endpoint](ctx), answer.GetName()
	// As early as the unregistering may take.
	after := time.After(time.Until(expires) - margin)
	go func() {
		defer cancel()
		select {
		case <-canceled.Done():
		case <-after:
			slog.Info("expired", "endpoint", name)
			if err := life.Unregister(canceled); err != nil {
				slog.Warn("unregister an expired endpoint", "endpoint", name, "err", err)
			}
		}
	}()
	return answer, nil
}

// Unregister stops the time.
func (e *Expire) Unregister(ctx context.Context, entry regchain.Endpoint, next regchain.Handler[regchain.Endpoint]) error {
	regchain.State[timer, regchain.Endpoint](ctx, e).stop()
	return next.Unregister(ctx, entry)
}

// soonest is when the first of these ends: the own token, the caller's, the longest life.
func (e *Expire) soonest(ctx context.Context) time.Time {
	expires := time.Now().Add(e.After)
	if own := regchain.OwnExpiry(ctx); !own.IsZero() && own.Before(expires) {
		expires = own
	}
	if _, callers, err := meta.Token(ctx); err == nil && callers.Before(expires) {
		expires = callers
	}
	return expires
}
