// Package manager is the node's door as the Go implementation has it: requests go to a forwarder
// of the node, registrations to the registry under the manager's own URL.
package manager

import (
	"context"
	"net/url"
	"time"

	"interop/internal/chain"
	"interop/internal/dial"
	"interop/internal/elements"
	"interop/internal/identity"
	"interop/internal/policy"
	"interop/internal/regchain"
	"interop/internal/registry"
)

// Options is what a manager is told.
type Options struct {
	// Name of the hop.
	Name string
	// Public is the URL by which other nodes reach it.
	Public string
	// Registry is where services and endpoints are registered; nil has the manager keep them.
	Registry *url.URL
	// Forwarder is the service that forwarders register for.
	Forwarder string
	// Generator of tokens.
	Generator identity.Generator
	// Dial to the next hop and to the registry.
	Dial dial.Options
	// Policies on requests and closes, on registrations, and on the registry's answers.
	Policies, RegistryServer, RegistryClient policy.List
	// Expiration is how long an endpoint lives without a refresh.
	Expiration time.Duration
}

// Manager is its three lists.
type Manager struct {
	// Requests answers requests and closes, and Monitor who watches them.
	Requests chain.Handler
	Monitor  *elements.Monitor
	// Services and Endpoints answer registry calls.
	Services  regchain.Handler[regchain.Service]
	Endpoints regchain.Handler[regchain.Endpoint]
}

// New makes a manager that lives as long as the context.
func New(root context.Context, options Options) *Manager {
	services, door := options.remote(root)
	if options.Registry == nil {
		services, door = options.local()
	}
	manager := &Manager{
		Services: regchain.New(
			// the path comes with the call and goes back with the answer
			&regchain.GRPCMetadataServer[regchain.Service]{},
			// the caller's token and ours
			&regchain.UpdatePath[regchain.Service]{Generator: options.Generator},
			// may the caller
			&regchain.AuthorizeServer[regchain.Service]{Policies: options.RegistryServer},
			services,
		),
		Endpoints: regchain.New(append(options.front(root), door...)...),
	}
	manager.Requests, manager.Monitor = options.requests(root, manager.Services, regchain.New(door...))
	return manager
}

// front is what an endpoint's registration goes through before it leaves the node.
func (o Options) front(root context.Context) []regchain.Element[regchain.Endpoint] {
	return []regchain.Element[regchain.Endpoint]{
		// the path comes with the call and goes back with the answer
		&regchain.GRPCMetadataServer[regchain.Endpoint]{},
		// the caller's token and ours
		&regchain.UpdatePath[regchain.Endpoint]{Generator: o.Generator},
		// may the caller
		&regchain.AuthorizeServer[regchain.Endpoint]{Policies: o.RegistryServer},
		// one event of a name at a time
		regchain.NewBegin[regchain.Endpoint](root),
		// where it runs
		&regchain.ClientInfo{},
		// no longer than the tokens
		&registry.Expire{Root: root, After: o.Expiration},
		// its socket's descriptor
		&RecvSocket{Forwarder: o.Forwarder},
		// and to who finds it
		SendSocket{},
	}
}

// remote is the way to the registry.
func (o Options) remote(root context.Context) (regchain.Element[regchain.Service], []regchain.Element[regchain.Endpoint]) {
	client := regchain.ClientOptions{To: o.Registry, Dial: o.Dial, Policies: o.RegistryClient, WithoutHeal: true}
	return &connect[regchain.Service]{regchain.NewServiceClient(root, client)}, []regchain.Element[regchain.Endpoint]{
		// other nodes know it by our URL
		&LocalBypass{Own: o.Public},
		// the registry
		&connect[regchain.Endpoint]{regchain.NewEndpointClient(root, client)},
	}
}

// local keeps what is registered.
func (o Options) local() (regchain.Element[regchain.Service], []regchain.Element[regchain.Endpoint]) {
	return &registry.Memory[regchain.Service]{Match: registry.MatchService}, []regchain.Element[regchain.Endpoint]{
		&registry.Memory[regchain.Endpoint]{Match: registry.MatchEndpoint},
		&LocalBypass{Own: o.Public},
	}
}

func (o Options) requests(root context.Context, services regchain.Handler[regchain.Service], endpoints regchain.Handler[regchain.Endpoint]) (chain.Handler, *elements.Monitor) {
	server := elements.ServerOptions{Name: o.Name, Generator: o.Generator, Policies: o.Policies}
	client := elements.ClientOptions{Name: o.Name, Dial: o.Dial}
	return elements.NewServer(root, server,
		// where it runs
		&elements.ClientInfo{},
		// which forwarder
		&DiscoverForwarder{Services: services, Endpoints: endpoints, Name: o.Forwarder, Own: o.Public},
		// still the right endpoint
		&NetSvcMonitor{Root: root, Services: services, Endpoints: endpoints},
		// which addresses not
		ExcludedPrefixes{},
		// descriptors from the caller
		&elements.RecvFDServer{},
		// the next hop
		&elements.Connect{Client: elements.NewClient(root, client,
			// descriptors from it
			&elements.RecvFDClient{},
			// and to it
			&elements.SendFDClient{},
		)},
		// descriptors to the caller
		&elements.SendFDServer{},
	)
}
