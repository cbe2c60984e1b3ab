package serve

import (
	"context"
	"log/slog"
	"strings"

	"google.golang.org/grpc"

	"interop/internal/meta"
)

// healthService is what may be called without a token: probes have none.
const healthService = "/grpc.health.v1.Health/"

// look logs a call that does not carry exactly one token and one expiry. The peers of the field
// log it as well, and go on; tests look for the words.
func look(ctx context.Context, method string) {
	if strings.HasPrefix(method, healthService) {
		return
	}
	if _, _, err := meta.Token(ctx); err != nil {
		slog.Error("bad metadata", "method", method, "err", err)
	}
}

func unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	look(ctx, info.FullMethod)
	return handler(ctx, request)
}

func stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	look(stream.Context(), info.FullMethod)
	return handler(server, stream)
}
