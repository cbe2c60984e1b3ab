package regchain

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	"interop/internal/gen/registry"
)

// running is something that goes on for a registration until the next, or until its end.
type running struct{ cancel context.CancelFunc }

func (r *running) stop() {
	if r.cancel != nil {
		r.cancel()
		r.cancel = nil
	}
}

func (r *running) restart(root context.Context) context.Context {
	r.stop()
	ctx, cancel := context.WithCancel(root)
	r.cancel = cancel
	return ctx
}

// Heal watches the own entry, and registers again when the one who is watched goes away.
type Heal[E Entry] struct {
	Pass[E]
	Root context.Context
}

// Register watches after it has registered.
func (h *Heal[E]) Register(ctx context.Context, entry E, next Handler[E]) (E, error) {
	answer, err := next.Register(ctx, proto.CloneOf(entry))
	if err != nil {
		return nil, err
	}
	life := LifeOf[E](ctx)
	watching := State[running, E](ctx, h).restart(h.Root)
	query := Query[E]{Like: named[E](entry.GetName()), Watch: true}
	go func() {
		err := next.Find(watching, query, func(Found[E]) error { return nil })
		if watching.Err() != nil {
			return
		}
		slog.Info("the registry went away: register again", "name", entry.GetName(), "err", err)
		if err := life.Reregister(watching); err != nil && watching.Err() == nil {
			slog.Warn("register again", "name", entry.GetName(), "err", err)
		}
	}()
	return answer, nil
}

// Unregister watches no more.
func (h *Heal[E]) Unregister(ctx context.Context, entry E, next Handler[E]) error {
	State[running, E](ctx, h).stop()
	return next.Unregister(ctx, entry)
}

// named is an entry with nothing but this name.
func named[E Entry](name string) E {
	var entry E
	switch any(entry).(type) {
	case *registry.NetworkService:
		return any(&registry.NetworkService{Name: name}).(E)
	default:
		return any(&registry.NetworkServiceEndpoint{Name: name}).(E)
	}
}

// Refresh registers an endpoint again when two thirds of its time are over.
type Refresh struct {
	Pass[Endpoint]
	Root context.Context
}

// Register starts the time again.
func (r *Refresh) Register(ctx context.Context, entry Endpoint, next Handler[Endpoint]) (Endpoint, error) {
	answer, err := next.Register(ctx, entry)
	if err != nil {
		return nil, err
	}
	life := LifeOf[Endpoint](ctx)
	refreshing := State[running, Endpoint](ctx, r).restart(r.Root)
	if answer.GetExpirationTime() == nil {
		return answer, nil
	}
	after := time.After(2 * time.Until(answer.ExpirationTime.AsTime()) / 3)
	go func() {
		select {
		case <-refreshing.Done():
		case <-after:
			if err := life.Reregister(refreshing); err != nil && refreshing.Err() == nil {
				slog.Warn("register again", "name", entry.GetName(), "err", err)
			} else if err == nil {
				slog.Info("registered again", "name", entry.GetName())
			}
		}
	}()
	return answer, nil
}

// Unregister stops it.
func (r *Refresh) Unregister(ctx context.Context, entry Endpoint, next Handler[Endpoint]) error {
	State[running, Endpoint](ctx, r).stop()
	return next.Unregister(ctx, entry)
}
