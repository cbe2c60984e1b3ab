package registry

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"interop/internal/gen/registry"
	"interop/internal/meta"
)

// Turns lets one event of an endpoint's name in at a time, and unregisters what expires.
type Turns struct {
	// Expiration is the longest that an endpoint lives without a refresh.
	Expiration time.Duration
	// After is what comes after: an expiry enters the list here, so what stands before learns
	// nothing of it.
	After Endpoints

	mu    sync.Mutex
	names map[string]*turn
}

// Endpoints registers and unregisters endpoints.
type Endpoints interface {
	Register(context.Context, *registry.NetworkServiceEndpoint) (*registry.NetworkServiceEndpoint, error)
	Unregister(context.Context, *registry.NetworkServiceEndpoint) error
}

// turn is what is kept of a name while it is registered.
type turn struct {
	mu    sync.Mutex
	users int
	// registration is what to unregister; nil if there is none.
	registration *registry.NetworkServiceEndpoint
	expiry       *time.Timer
}

// Register has an expiration time written, goes on, and starts the timer.
func (t *Turns) Register(ctx context.Context, in *registry.NetworkServiceEndpoint) (*registry.NetworkServiceEndpoint, error) {
	if in.GetName() == "" {
		return nil, errors.New("NetworkServiceEndpoint.Name can not be zero valued")
	}
	turn := t.enter(in.GetName())
	defer t.leave(in.GetName(), turn)
	var margin time.Duration
	if deadline, ok := ctx.Deadline(); ok {
		margin = time.Until(deadline)
	}
	expires := t.expiry(ctx)
	if in.GetExpirationTime() == nil || expires.Before(in.GetExpirationTime().AsTime()) {
		in.ExpirationTime = timestamppb.New(expires)
	}
	name := in.GetName()
	out, err := t.After.Register(ctx, in)
	if err != nil {
		return nil, err
	}
	if given := out.GetExpirationTime().AsTime(); given.Before(expires) {
		expires = given
	}
	turn.registration = proto.CloneOf(out)
	turn.registration.Name, turn.registration.ExpirationTime = name, nil
	t.arm(ctx, turn, name, time.Until(expires)-margin)
	return out, nil
}

// Unregister unregisters what was registered last, or what is asked for if nothing was.
func (t *Turns) Unregister(ctx context.Context, in *registry.NetworkServiceEndpoint) error {
	turn := t.enter(in.GetName())
	defer t.leave(in.GetName(), turn)
	if turn.registration != nil {
		in = turn.registration
	}
	return t.drop(ctx, turn, in)
}

func (t *Turns) drop(ctx context.Context, turn *turn, in *registry.NetworkServiceEndpoint) error {
	if turn.expiry != nil {
		turn.expiry.Stop()
	}
	turn.registration = nil
	return t.After.Unregister(ctx, in)
}

// arm has the endpoint unregistered in the name of its last registration's caller.
func (t *Turns) arm(ctx context.Context, turn *turn, name string, after time.Duration) {
	timeout := t.Expiration
	if deadline, ok := ctx.Deadline(); ok {
		timeout = time.Until(deadline)
	}
	later := meta.WithPath(context.WithoutCancel(ctx), meta.PathFrom(ctx).Clone())
	if turn.expiry != nil {
		turn.expiry.Stop()
	}
	mine := turn.registration
	turn.expiry = time.AfterFunc(after, func() {
		turn := t.enter(name)
		defer t.leave(name, turn)
		if turn.registration != mine {
			return
		}
		slog.Info("expired", "endpoint", name)
		ctx, cancel := context.WithTimeout(later, timeout)
		defer cancel()
		if err := t.drop(ctx, turn, mine); err != nil {
			slog.Warn("an expired endpoint stays", "endpoint", name, "error", err)
		}
	})
}

// expiry is the soonest of the own token's, the caller's token's and the default.
func (t *Turns) expiry(ctx context.Context) time.Time {
	expires := time.Now().Add(t.Expiration)
	if own, ok := ownExpiry(ctx); ok && own.Before(expires) {
		expires = own
	}
	if _, callers, err := meta.Token(ctx); err == nil && callers.Before(expires) {
		expires = callers
	}
	return expires
}

func (t *Turns) enter(name string) *turn {
	t.mu.Lock()
	if t.names == nil {
		t.names = make(map[string]*turn)
	}
	found, known := t.names[name]
	if !known {
		found = &turn{}
		t.names[name] = found
	}
	found.users++
	t.mu.Unlock()
	found.mu.Lock()
	return found
}

func (t *Turns) leave(name string, turn *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	turn.users--
	if turn.users == 0 && turn.registration == nil {
		delete(t.names, name)
	}
	turn.mu.Unlock()
}
