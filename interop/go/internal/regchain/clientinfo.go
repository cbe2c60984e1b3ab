package regchain

import (
	"context"

	"google.golang.org/protobuf/proto"

	"interop/internal/clientinfo"
)

// ClientInfo adds the names of node, pod and cluster to an endpoint's labels, for each of its
// services.
type ClientInfo struct{ Pass[Endpoint] }

// Register adds them.
func (c *ClientInfo) Register(ctx context.Context, entry Endpoint, next Handler[Endpoint]) (Endpoint, error) {
	entry = proto.CloneOf(entry)
	for _, labels := range entry.GetNetworkServiceLabels() {
		if labels.Labels == nil {
			labels.Labels = map[string]string{}
		}
		clientinfo.Add(labels.Labels)
	}
	return next.Register(ctx, entry)
}
