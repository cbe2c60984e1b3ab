package identity

import (
	"net/url"

	"google.golang.org/grpc"
)

// DialOptions is how every connection is dialled: mutual TLS, a token on every call, and calls
// that wait for the connection instead of failing while it is not there.
func DialOptions(source Source, generator Generator) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(Client(source)),
		grpc.WithDefaultCallOptions(
			grpc.WaitForReady(true),
			grpc.PerRPCCredentials(PerRPC(generator)),
		),
	}
}

// Target is the gRPC name of what a URL of ours points to: `unix:///a/b` or `tcp://host:port`.
func Target(to *url.URL) string {
	if to.Scheme == "unix" {
		return "unix:" + to.Path
	}
	// Names are resolved at each dial, as the peers do.
	return "passthrough:///" + to.Host
}
