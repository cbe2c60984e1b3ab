// Package registry is the registry's role, and what other roles need to be one themselves: expiry,
// and a store in memory that can be watched.
package registry

import (
	"context"
	"time"

	"interop/internal/config"
	"interop/internal/identity"
	"interop/internal/policy"
	"interop/internal/regchain"
	"interop/internal/serve"
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
	on, err := serve.URLs(texts)
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
	server := serve.New(identity.Server(source))
	server.Registry(Services(generator, policies), Endpoints(ctx, generator, policies, Expiration))
	return server.Run(ctx, on...)
}

// Services is the registry of network services.
func Services(generator identity.Generator, policies policy.List) regchain.Handler[regchain.Service] {
	return regchain.New(
		&regchain.GRPCMetadataServer[regchain.Service]{},
		&regchain.UpdatePath[regchain.Service]{Generator: generator},
		&regchain.AuthorizeServer[regchain.Service]{Policies: policies},
		SetPayload{},
		&Memory[regchain.Service]{Match: MatchService},
	)
}

// Endpoints is the registry of endpoints.
func Endpoints(root context.Context, generator identity.Generator, policies policy.List, expiration time.Duration) regchain.Handler[regchain.Endpoint] {
	return regchain.New(
		&regchain.GRPCMetadataServer[regchain.Endpoint]{},
		&regchain.UpdatePath[regchain.Endpoint]{Generator: generator},
		// An expiry does not come by here: a name stays its owner's.
		&regchain.AuthorizeServer[regchain.Endpoint]{Policies: policies},
		regchain.NewBegin[regchain.Endpoint](root),
		&SetRegistrationTime{},
		&Expire{Root: root, After: expiration},
		&Memory[regchain.Endpoint]{Match: MatchEndpoint},
	)
}
