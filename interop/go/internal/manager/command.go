package manager

import (
	"context"
	"os"
	"time"

	"interop/internal/config"
	"interop/internal/dial"
	"interop/internal/identity"
	"interop/internal/policy"
	"interop/internal/registry"
	"interop/internal/serve"
)

// dialTimeout is the Go implementation's command's.
const dialTimeout = 750 * time.Millisecond

// Run is the command `manager`.
func Run(ctx context.Context, _ []string) error {
	var env config.Env
	options := Options{
		Name:       env.String("NSM_NAME", "nmgr"),
		Forwarder:  env.String("NSM_FORWARDER_NETWORK_SERVICE_NAME", "forwarder"),
		Expiration: registry.Expiration,
	}
	// Empty is another thing than not set: this manager is the registry then.
	if to, set := os.LookupEnv("NSM_REGISTRY_URL"); !set || to != "" {
		options.Registry = env.URL("NSM_REGISTRY_URL", "tcp://localhost:5001")
	}
	texts := env.List("NSM_LISTEN_ON", "unix:///var/lib/networkservicemesh/nsm.io.sock")
	life := env.Duration("NSM_MAX_TOKEN_LIFETIME", 10*time.Minute)
	options.Dial.Timeout = env.Duration("NSM_DIAL_TIMEOUT", dialTimeout)
	servers := env.List("NSM_REGISTRY_SERVER_POLICIES", policy.RegistryServer...)
	clients := env.List("NSM_REGISTRY_CLIENT_POLICIES", policy.RegistryClient...)
	if err := env.Err(); err != nil {
		return err
	}
	on, err := serve.URLs(texts)
	if err != nil {
		return err
	}
	options.Public = serve.Public(on).String()
	options.Policies = policy.MustLoad(policy.Server...)
	if options.RegistryServer, err = policy.Load(servers...); err != nil {
		return err
	}
	if options.RegistryClient, err = policy.Load(clients...); err != nil {
		return err
	}
	source, err := identity.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	options.Generator = identity.NewGenerator(source, life)
	options.Dial = dial.Options{Timeout: options.Dial.Timeout, GRPC: identity.DialOptions(source, options.Generator)}
	manager := New(ctx, options)
	server := serve.New(identity.Server(source))
	server.NetworkService(manager.Requests, manager.Monitor)
	server.Registry(manager.Services, manager.Endpoints)
	return server.Run(ctx, on...)
}
