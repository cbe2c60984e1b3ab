package registry

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"interop/internal/config"
	"interop/internal/gen/registry"
	"interop/internal/identity"
	"interop/internal/listen"
	"interop/internal/policy"
)

// Expiration is how long an endpoint lives without a refresh, however long its token does.
const Expiration = time.Minute

// Run is the command `registry`.
func Run(ctx context.Context, _ []string) error {
	var env config.Env
	texts := env.List("NSM_LISTEN_ON", "unix:///listen.on.socket")
	life := env.Duration("NSM_MAX_TOKEN_LIFETIME", 10*time.Minute)
	masks := env.List("NSM_REGISTRY_SERVER_POLICIES", policy.RegistryServer...)
	if err := env.Err(); err != nil {
		return err
	}
	on, err := listen.URLs(texts)
	if err != nil {
		return err
	}
	policies, err := policy.Load(masks...)
	if err != nil {
		return err
	}
	source, err := identity.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	generator := identity.NewGenerator(source, life)
	server := grpc.NewServer(grpc.Creds(identity.Server(source)))
	services := NewServices(&Front[*registry.NetworkService]{Generator: generator, Policies: policies})
	endpoints := NewMemory(&Front[*registry.NetworkServiceEndpoint]{Generator: generator, Policies: policies}, Expiration)
	registry.RegisterNetworkServiceRegistryServer(server, services)
	registry.RegisterNetworkServiceEndpointRegistryServer(server, endpoints)
	return listen.Serve(ctx, server, on...)
}
