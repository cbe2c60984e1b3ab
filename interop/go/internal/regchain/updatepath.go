package regchain

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"interop/internal/identity"
	"interop/internal/meta"
)

// UpdatePath writes the caller's token into the path and its own behind it, and the SPIFFE IDs of
// both into the entry.
type UpdatePath[E Entry] struct {
	Pass[E]
	Generator identity.Generator
}

type expiresKey struct{}

// OwnExpiry is when the token that [UpdatePath] wrote expires; the zero time if there is none.
func OwnExpiry(ctx context.Context) time.Time {
	expires, _ := ctx.Value(expiresKey{}).(time.Time)
	return expires
}

// Register moves there and back.
func (u *UpdatePath[E]) Register(ctx context.Context, entry E, next Handler[E]) (E, error) {
	path := meta.PathFrom(ctx)
	expires, err := u.advance(ctx, path, entry)
	if err != nil {
		return nil, err
	}
	answer, err := next.Register(context.WithValue(ctx, expiresKey{}, expires), entry)
	if err != nil {
		return nil, err
	}
	path.Index--
	return answer, nil
}

// Unregister moves there and back.
func (u *UpdatePath[E]) Unregister(ctx context.Context, entry E, next Handler[E]) error {
	path := meta.PathFrom(ctx)
	if _, err := u.advance(ctx, path, entry); err != nil {
		return err
	}
	err := next.Unregister(ctx, entry)
	path.Index--
	return err
}

func (u *UpdatePath[E]) advance(ctx context.Context, path *meta.Path, entry E) (time.Time, error) {
	callers, _, err := meta.Token(ctx)
	if err != nil {
		slog.Warn("a registry call without its caller's token", "name", entry.GetName(), "err", err)
	}
	own, expires, err := u.Generator.ForCaller(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if err := step(path, callers, own); err != nil {
		return time.Time{}, err
	}
	caller, err := identity.Subject(callers)
	if err != nil {
		slog.Warn("a registry call whose caller's token cannot be read", "name", entry.GetName(), "err", err)
	}
	self, err := identity.Subject(own)
	if err != nil {
		return time.Time{}, err
	}
	ids := put(entry.GetPathIds(), int(path.Index)-1, caller)
	setPathIDs(entry, put(ids, int(path.Index), self))
	return expires, nil
}

// step moves a path on by one segment, and writes the tokens of the two at its end.
func step(path *meta.Path, callers, own string) error {
	if len(path.PathSegments) == 0 {
		path.PathSegments = []*meta.Segment{{Token: callers}, {Token: own}}
		path.Index = 1
		return nil
	}
	if int(path.Index) >= len(path.PathSegments) {
		return fmt.Errorf("updatepath: index %d, but %d segments", path.Index, len(path.PathSegments))
	}
	path.PathSegments[path.Index].Token = callers
	path.Index++
	if int(path.Index) == len(path.PathSegments) {
		path.PathSegments = append(path.PathSegments, &meta.Segment{})
	}
	path.PathSegments[path.Index].Token = own
	return nil
}

// put writes an ID at its place; places between are not made.
func put(ids []string, at int, id string) []string {
	if at >= len(ids) {
		return append(ids, id)
	}
	ids[at] = id
	return ids
}
