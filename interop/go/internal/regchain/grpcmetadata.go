package regchain

import (
	"context"
	"log/slog"

	"interop/internal/meta"
)

// GRPCMetadataServer takes the path out of the request's metadata, and sends it back, as it is
// then, in the answer's header.
type GRPCMetadataServer[E Entry] struct{ Pass[E] }

// Register does both.
func (g *GRPCMetadataServer[E]) Register(ctx context.Context, entry E, next Handler[E]) (E, error) {
	path, err := meta.IncomingPath(ctx)
	if err != nil {
		slog.Warn("register", "name", entry.GetName(), "err", err)
		return next.Register(ctx, entry)
	}
	answer, err := next.Register(meta.WithPath(ctx, path), entry)
	if err != nil {
		return nil, err
	}
	return answer, meta.AnswerPath(ctx, path)
}

// Unregister does both.
func (g *GRPCMetadataServer[E]) Unregister(ctx context.Context, entry E, next Handler[E]) error {
	path, err := meta.IncomingPath(ctx)
	if err != nil {
		slog.Warn("unregister", "name", entry.GetName(), "err", err)
		return next.Unregister(ctx, entry)
	}
	if err := next.Unregister(meta.WithPath(ctx, path), entry); err != nil {
		return err
	}
	return meta.AnswerPath(ctx, path)
}

// GRPCMetadataClient sends the context's path with the request, and takes over the one that comes
// back in the answer's header.
type GRPCMetadataClient[E Entry] struct{ Pass[E] }

// Register does both.
func (g *GRPCMetadataClient[E]) Register(ctx context.Context, entry E, next Handler[E]) (E, error) {
	var answer E
	err := withPath(ctx, func(ctx context.Context) (err error) {
		answer, err = next.Register(ctx, entry)
		return err
	})
	return answer, err
}

// Unregister does both.
func (g *GRPCMetadataClient[E]) Unregister(ctx context.Context, entry E, next Handler[E]) error {
	return withPath(ctx, func(ctx context.Context) error { return next.Unregister(ctx, entry) })
}

func withPath(ctx context.Context, call func(context.Context) error) error {
	path := meta.PathFrom(ctx)
	outgoing, err := meta.OutgoingPath(ctx, path)
	if err != nil {
		return err
	}
	outgoing, header := withHeader(outgoing)
	if err := call(outgoing); err != nil {
		return err
	}
	if answered, err := meta.HeaderPath(*header); err == nil {
		*path = *answered
	}
	return nil
}
