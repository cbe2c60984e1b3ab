// Package regchain runs registry calls through lists of small elements: one element serves
// services and endpoints alike where both need it.
package regchain

import (
	"context"

	"google.golang.org/protobuf/proto"

	"interop/internal/gen/registry"
)

// Entry is what a registry holds.
type Entry interface {
	*registry.NetworkService | *registry.NetworkServiceEndpoint
	proto.Message
	GetName() string
	GetPathIds() []string
}

// Service and Endpoint are the two kinds.
type (
	Service  = *registry.NetworkService
	Endpoint = *registry.NetworkServiceEndpoint
)

// Query is what to find.
type Query[E Entry] struct {
	// Like is an example: what is set in it must fit.
	Like E
	// Watch for changes after what is there has been sent.
	Watch bool
}

// Found is one entry, or the news that it is gone.
type Found[E Entry] struct {
	Entry   E
	Deleted bool
}

// Handler answers registry calls.
type Handler[E Entry] interface {
	Register(ctx context.Context, entry E) (E, error)
	// Find sends what it finds, and returns when that is all; a watch returns when its context
	// ends, or with the error of the one who is asked.
	Find(ctx context.Context, query Query[E], send func(Found[E]) error) error
	Unregister(ctx context.Context, entry E) error
}

// Element does its part and hands on to the next.
type Element[E Entry] interface {
	Register(ctx context.Context, entry E, next Handler[E]) (E, error)
	Find(ctx context.Context, query Query[E], send func(Found[E]) error, next Handler[E]) error
	Unregister(ctx context.Context, entry E, next Handler[E]) error
}

// Pass hands everything on: elements embed it for what they leave alone.
type Pass[E Entry] struct{}

// Register hands on.
func (Pass[E]) Register(ctx context.Context, entry E, next Handler[E]) (E, error) {
	return next.Register(ctx, entry)
}

// Find hands on.
func (Pass[E]) Find(ctx context.Context, query Query[E], send func(Found[E]) error, next Handler[E]) error {
	return next.Find(ctx, query, send)
}

// Unregister hands on.
func (Pass[E]) Unregister(ctx context.Context, entry E, next Handler[E]) error {
	return next.Unregister(ctx, entry)
}

// New is the handler that runs these elements, first to last. Behind the last one a registration
// is answered with itself, and nothing is found.
func New[E Entry](elements ...Element[E]) Handler[E] {
	var handler Handler[E] = tail[E]{}
	for at := len(elements) - 1; at >= 0; at-- {
		handler = &linked[E]{elements[at], handler}
	}
	return handler
}

type linked[E Entry] struct {
	element Element[E]
	next    Handler[E]
}

func (l *linked[E]) Register(ctx context.Context, entry E) (E, error) {
	return l.element.Register(ctx, entry, l.next)
}

func (l *linked[E]) Find(ctx context.Context, query Query[E], send func(Found[E]) error) error {
	return l.element.Find(ctx, query, send, l.next)
}

func (l *linked[E]) Unregister(ctx context.Context, entry E) error {
	return l.element.Unregister(ctx, entry, l.next)
}

type tail[E Entry] struct{}

func (tail[E]) Register(_ context.Context, entry E) (E, error)             { return entry, nil }
func (tail[E]) Find(context.Context, Query[E], func(Found[E]) error) error { return nil }
func (tail[E]) Unregister(context.Context, E) error                        { return nil }

// List is everything that a query finds now.
func List[E Entry](ctx context.Context, from Handler[E], like E) ([]E, error) {
	var entries []E
	err := from.Find(ctx, Query[E]{Like: like}, func(found Found[E]) error {
		entries = append(entries, found.Entry)
		return nil
	})
	return entries, err
}

// setPathIDs writes an entry's path IDs.
func setPathIDs[E Entry](entry E, ids []string) {
	switch entry := any(entry).(type) {
	case *registry.NetworkService:
		entry.PathIds = ids
	case *registry.NetworkServiceEndpoint:
		entry.PathIds = ids
	}
}
