package regchain

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"google.golang.org/grpc/peer"

	"interop/internal/chain"
	"interop/internal/identity"
	"interop/internal/meta"
	"interop/internal/policy"
)

// owners is the path IDs of every name that was let through.
type owners struct {
	mutex sync.Mutex
	names map[string][]string
}

func (o *owners) put(name string, ids []string) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if o.names == nil {
		o.names = map[string][]string{}
	}
	o.names[name] = slices.Clone(ids)
}

func (o *owners) drop(name string) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	delete(o.names, name)
}

func (o *owners) known(name string) bool {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.names[name] != nil
}

func (o *owners) input(name string, path *meta.Path) policy.RegistryInput {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	all := make(map[string][]string, len(o.names))
	for name, ids := range o.names {
		all[name] = slices.Clone(ids)
	}
	return policy.RegistryInput{
		ResourceID:      firstSubject(path),
		ResourceName:    name,
		ResourcePathIDs: all,
		PathSegments:    path.PathSegments,
		Index:           path.Index,
	}
}

// firstSubject is who the first segment's token says that it is from.
func firstSubject(path *meta.Path) string {
	if len(path.PathSegments) == 0 {
		return ""
	}
	subject, err := identity.Subject(path.PathSegments[0].Token)
	if err != nil {
		slog.Warn("the first token of a registry call cannot be read", "err", err)
	}
	return subject
}

// AuthorizeServer has policies look at the path up to this hop and at whose the name is.
type AuthorizeServer[E Entry] struct {
	Pass[E]
	Policies policy.List
	owners   owners
}

// Register asks them first, and remembers whose the name is.
func (a *AuthorizeServer[E]) Register(ctx context.Context, entry E, next Handler[E]) (E, error) {
	if len(a.Policies) == 0 {
		return next.Register(ctx, entry)
	}
	if err := a.Policies.Check(ctx, a.owners.input(entry.GetName(), meta.PathFrom(ctx).Left())); err != nil {
		return nil, err
	}
	answer, err := next.Register(ctx, entry)
	if err != nil {
		return nil, err
	}
	a.owners.put(answer.GetName(), answer.GetPathIds())
	return answer, nil
}

// Unregister asks them first, and forgets whose the name was.
func (a *AuthorizeServer[E]) Unregister(ctx context.Context, entry E, next Handler[E]) error {
	if len(a.Policies) == 0 {
		return next.Unregister(ctx, entry)
	}
	if err := a.Policies.Check(ctx, a.owners.input(entry.GetName(), meta.PathFrom(ctx).Left())); err != nil {
		return err
	}
	a.owners.drop(entry.GetName())
	return next.Unregister(ctx, entry)
}

// AuthorizeClient has policies look at the path that came back, with the certificate of who
// answered. What they refuse is unregistered, unless it stood before.
type AuthorizeClient[E Entry] struct {
	Pass[E]
	Policies policy.List
	owners   owners
}

// Register asks them about the answer.
func (a *AuthorizeClient[E]) Register(ctx context.Context, entry E, next Handler[E]) (E, error) {
	if len(a.Policies) == 0 {
		return next.Register(ctx, entry)
	}
	ctx = ensurePath(ctx)
	ctx, answerer := withAnswerer(ctx)
	answer, err := next.Register(ctx, entry)
	if err != nil {
		return nil, err
	}
	err = a.Policies.Check(answeredBy(ctx, answerer), a.owners.input(answer.GetName(), meta.PathFrom(ctx)))
	if err == nil {
		a.owners.put(answer.GetName(), answer.GetPathIds())
		return answer, nil
	}
	if !a.owners.known(answer.GetName()) {
		after, cancel := chain.Postpone(ctx)
		defer cancel()
		if undone := next.Unregister(after, answer); undone != nil {
			slog.Warn("unregister what policies refused", "name", answer.GetName(), "err", undone)
		}
	}
	return nil, err
}

// Unregister asks them about the answer.
func (a *AuthorizeClient[E]) Unregister(ctx context.Context, entry E, next Handler[E]) error {
	if len(a.Policies) == 0 {
		return next.Unregister(ctx, entry)
	}
	ctx = ensurePath(ctx)
	ctx, answerer := withAnswerer(ctx)
	if err := next.Unregister(ctx, entry); err != nil {
		return err
	}
	if err := a.Policies.Check(answeredBy(ctx, answerer), a.owners.input(entry.GetName(), meta.PathFrom(ctx))); err != nil {
		return err
	}
	a.owners.drop(entry.GetName())
	return nil
}

// ensurePath is a context with a path that later elements can change.
func ensurePath(ctx context.Context) context.Context {
	return meta.WithPath(ctx, meta.PathFrom(ctx))
}

func answeredBy(ctx context.Context, answerer *peer.Peer) context.Context {
	if answerer.AuthInfo == nil {
		return ctx
	}
	return peer.NewContext(ctx, answerer)
}
