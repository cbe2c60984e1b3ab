// Package dial makes connections to the next hop.
package dial

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"interop/internal/identity"
)

// Options is how a role dials.
type Options struct {
	// Timeout of one dial; none if 0.
	Timeout time.Duration
	// GRPC is mutual TLS, tokens and the rest.
	GRPC []grpc.DialOption
}

// Dial connects, and waits until the connection stands: a peer that is not there is an error
// here, not a hang of the first call.
func (o Options) Dial(ctx context.Context, to *url.URL) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(identity.Target(to), o.GRPC...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", to, err)
	}
	if o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.Timeout)
		defer cancel()
	}
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if !conn.WaitForStateChange(ctx, state) {
			_ = conn.Close()
			return nil, fmt.Errorf("dial %s: still %s: %w", to, state, ctx.Err())
		}
		if conn.GetState() == connectivity.Idle {
			conn.Connect()
		}
	}
	return conn, nil
}
