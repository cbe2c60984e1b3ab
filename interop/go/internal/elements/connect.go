package elements

import (
	"context"
	"errors"
	"fmt"

	"interop/internal/chain"
	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
)

// Connect goes on to the next hop with a client's chain, and then with the rest of this one.
type Connect struct{ Client chain.Handler }

// Request closes at the next hop what the rest of this chain does not take.
func (c *Connect) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	conn, err := c.Client.Request(ctx, request)
	if err != nil {
		return nil, err
	}
	request.Connection = conn
	answer, err := next.Request(ctx, request)
	if err != nil {
		after, cancel := chain.Postpone(ctx)
		defer cancel()
		if closed := c.Client.Close(after, conn); closed != nil {
			err = fmt.Errorf("%w (and the close failed: %w)", err, closed)
		}
	}
	return answer, err
}

// Close does both whatever fails.
func (c *Connect) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	return errors.Join(c.Client.Close(ctx, conn), next.Close(ctx, conn))
}
