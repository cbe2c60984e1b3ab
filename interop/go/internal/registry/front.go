// Package registry is what a registry server does on the wire: the call's path in and out, the
// policies, one event of a name at a time, expiry, and a store in memory that can be watched.
package registry

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"interop/internal/identity"
	"interop/internal/meta"
	"interop/internal/policy"
)

// Thing is what is registered: a network service or an endpoint.
type Thing interface {
	comparable
	GetName() string
	GetPathIds() []string
}

// Front is what every registry server does first with a registration: it takes the path from the
// metadata and sends it back, enters it, and asks the policies.
type Front[T Thing] struct {
	// Generator makes the own token.
	Generator identity.Generator
	// Policies decide; none allow everything.
	Policies policy.List
	// SetPathIDs writes the IDs of the hops into what is registered.
	SetPathIDs func(T, []string)

	mu sync.Mutex
	// owners is the path IDs by name; a restart forgets them, an expiry does not.
	owners map[string][]string
}

// Register does so and goes on.
func (f *Front[T]) Register(ctx context.Context, in T, next func(context.Context, T) (T, error)) (T, error) {
	var out T
	err := f.within(ctx, in, func(ctx context.Context) (err error) {
		if out, err = next(ctx, in); err == nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.owners == nil {
				f.owners = make(map[string][]string)
			}
			f.owners[out.GetName()] = out.GetPathIds()
		}
		return err
	})
	return out, err
}

// Unregister does so, frees the name and goes on.
func (f *Front[T]) Unregister(ctx context.Context, in T, next func(context.Context, T) error) error {
	return f.within(ctx, in, func(ctx context.Context) error {
		f.mu.Lock()
		delete(f.owners, in.GetName())
		f.mu.Unlock()
		return next(ctx, in)
	})
}

func (f *Front[T]) within(ctx context.Context, in T, next func(context.Context) error) error {
	path, missing := meta.IncomingPath(ctx)
	if missing != nil {
		slog.Warn("a registration without a path", "name", in.GetName(), "error", missing)
	} else {
		ctx = meta.WithPath(ctx, path)
	}
	own, expires, err := f.Generator.ForCaller(ctx)
	if err != nil {
		return fmt.Errorf("own token: %w", err)
	}
	index, err := f.enter(ctx, in, own)
	if err != nil {
		return err
	}
	if err := f.authorize(ctx, in.GetName()); err != nil {
		return err
	}
	if err := next(context.WithValue(ctx, expiresKey{}, expires)); err != nil {
		return err
	}
	if missing != nil {
		return nil
	}
	path.Index = index
	return meta.AnswerPath(ctx, path)
}

// enter moves the path to the own segment and returns the caller's index.
func (f *Front[T]) enter(ctx context.Context, in T, own string) (uint32, error) {
	peer, _, err := meta.Token(ctx)
	if err != nil {
		slog.Warn("a registration without a token", "name", in.GetName(), "error", err)
	}
	path := meta.PathFrom(ctx)
	if len(path.PathSegments) == 0 {
		path.Index, path.PathSegments = 0, []*meta.Segment{{}}
	}
	if int(path.Index) >= len(path.PathSegments) {
		return 0, fmt.Errorf("path: index %d, but %d segments", path.Index, len(path.PathSegments))
	}
	index := path.Index
	path.PathSegments[index].Token = peer
	path.Index++
	if int(path.Index) == len(path.PathSegments) {
		path.PathSegments = append(path.PathSegments, &meta.Segment{})
	}
	path.PathSegments[path.Index].Token = own

	// Nobody's name is the empty one.
	from, _ := identity.Subject(peer)
	self, err := identity.Subject(own)
	if err != nil {
		return 0, err
	}
	ids := withID(in.GetPathIds(), int(index), from)
	f.SetPathIDs(in, withID(ids, int(path.Index), self))
	return index, nil
}

// withID replaces the ID of a hop; one beyond the end goes to the end.
func withID(ids []string, index int, id string) []string {
	if index >= len(ids) {
		return append(ids, id)
	}
	ids[index] = id
	return ids
}

func (f *Front[T]) authorize(ctx context.Context, name string) error {
	if len(f.Policies) == 0 {
		return nil
	}
	f.mu.Lock()
	owners := maps.Clone(f.owners)
	f.mu.Unlock()
	left := meta.PathFrom(ctx).Left()
	return f.Policies.Check(ctx, Input(name, owners, left))
}

// Input is what the policies are asked about a name; the registrant is whom segment 0's token
// claims.
func Input(name string, owners map[string][]string, path *meta.Path) policy.RegistryInput {
	if owners == nil {
		owners = map[string][]string{}
	}
	input := policy.RegistryInput{
		ResourceName:    name,
		ResourcePathIDs: owners,
		PathSegments:    path.PathSegments,
		Index:           path.Index,
	}
	if len(path.PathSegments) > 0 {
		input.ResourceID, _ = identity.Subject(path.PathSegments[0].Token)
	}
	return input
}

type expiresKey struct{}

// ownExpiry is when the token expires that this server put into the path.
func ownExpiry(ctx context.Context) (time.Time, bool) {
	expires, ok := ctx.Value(expiresKey{}).(time.Time)
	return expires, ok
}
