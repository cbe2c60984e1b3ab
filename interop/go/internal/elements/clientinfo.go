package elements

import (
	"context"

	"interop/internal/chain"
	"interop/internal/clientinfo"
	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
)

// ClientInfo adds the names of node, pod and cluster to a connection's labels.
type ClientInfo struct{}

// Request adds them.
func (c *ClientInfo) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	if request.Connection.Labels == nil {
		request.Connection.Labels = map[string]string{}
	}
	clientinfo.Add(request.Connection.Labels)
	return next.Request(ctx, request)
}

// Close hands on.
func (c *ClientInfo) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	return next.Close(ctx, conn)
}
