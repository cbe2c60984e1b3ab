package regchain

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"
)

// The Go implementation's: a try gets so long, and the next one comes so much later.
const (
	tryTimeout    = 15 * time.Second
	retryInterval = 200 * time.Millisecond
)

// Retry tries until it works, the context ends, or the program does.
type Retry[E Entry] struct{ Root context.Context }

// Register retries.
func (r *Retry[E]) Register(ctx context.Context, entry E, next Handler[E]) (E, error) {
	var answer E
	err := r.retry(ctx, "register", entry, func(ctx context.Context) (err error) {
		answer, err = next.Register(ctx, proto.CloneOf(entry))
		return err
	})
	return answer, err
}

// Unregister retries.
func (r *Retry[E]) Unregister(ctx context.Context, entry E, next Handler[E]) error {
	return r.retry(ctx, "unregister", entry, func(ctx context.Context) error {
		return next.Unregister(ctx, proto.CloneOf(entry))
	})
}

// Find is not tried again here: what has been sent cannot be taken back.
func (r *Retry[E]) Find(ctx context.Context, query Query[E], send func(Found[E]) error, next Handler[E]) error {
	return next.Find(ctx, query, send)
}

func (r *Retry[E]) retry(ctx context.Context, what string, entry E, call func(context.Context) error) error {
	for {
		try, cancel := context.WithTimeout(ctx, tryTimeout)
		err := call(try)
		cancel()
		if err == nil {
			return nil
		}
		slog.Warn(what+" failed", "name", entry.GetName(), "err", err)
		select {
		case <-r.Root.Done():
			return fmt.Errorf("%s %s: the program ends: %w", what, entry.GetName(), err)
		case <-ctx.Done():
			return fmt.Errorf("%s %s: %w", what, entry.GetName(), err)
		case <-time.After(retryInterval):
		}
	}
}
