package regchain

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

type (
	headerKey   struct{}
	answererKey struct{}
)

// withHeader is a context whose call leaves the header of its answer there.
func withHeader(ctx context.Context) (context.Context, *metadata.MD) {
	header := &metadata.MD{}
	return context.WithValue(ctx, headerKey{}, header), header
}

// withAnswerer is a context whose call leaves there who answered it.
func withAnswerer(ctx context.Context) (context.Context, *peer.Peer) {
	answerer := &peer.Peer{}
	return context.WithValue(ctx, answererKey{}, answerer), answerer
}

// caught is the options of a call by which elements before it see what came with the answer.
func caught(ctx context.Context) []grpc.CallOption {
	var options []grpc.CallOption
	if header, ok := ctx.Value(headerKey{}).(*metadata.MD); ok {
		options = append(options, grpc.Header(header))
	}
	if answerer, ok := ctx.Value(answererKey{}).(*peer.Peer); ok {
		options = append(options, grpc.Peer(answerer))
	}
	return options
}
