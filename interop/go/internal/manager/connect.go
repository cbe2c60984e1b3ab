package manager

import (
	"context"

	"interop/internal/chain"
	"interop/internal/regchain"
)

// connect goes on to another registry with a client's list.
type connect[E regchain.Entry] struct{ client regchain.Handler[E] }

// Register takes back there what the rest of this list does not take.
func (c *connect[E]) Register(ctx context.Context, entry E, next regchain.Handler[E]) (E, error) {
	answer, err := c.client.Register(ctx, entry)
	if err != nil {
		return nil, err
	}
	own, err := next.Register(ctx, answer)
	if err != nil {
		after, cancel := chain.Postpone(ctx)
		defer cancel()
		_ = c.client.Unregister(after, answer)
	}
	return own, err
}

// Find sends what is found there, and then here.
func (c *connect[E]) Find(ctx context.Context, query regchain.Query[E], send func(regchain.Found[E]) error, next regchain.Handler[E]) error {
	if err := c.client.Find(ctx, query, send); err != nil {
		return err
	}
	return next.Find(ctx, query, send)
}

// Unregister does both, whatever fails.
func (c *connect[E]) Unregister(ctx context.Context, entry E, next regchain.Handler[E]) error {
	err := c.client.Unregister(ctx, entry)
	if own := next.Unregister(ctx, entry); own != nil {
		return own
	}
	return err
}
