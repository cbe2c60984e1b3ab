// Package forwarder is the role between two sides of a connection, as far as it speaks: it selects
// the endpoint, and negotiates both sides' mechanisms. It makes no interface.
package forwarder

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"time"

	"interop/internal/chain"
	"interop/internal/dial"
	"interop/internal/elements"
	"interop/internal/gen/registry"
	"interop/internal/identity"
	"interop/internal/mechanism"
	"interop/internal/policy"
	"interop/internal/regchain"
	"interop/internal/serve"
	"interop/internal/start"
)

// settings is what the role reads beside the common.
type settings struct {
	connectTo *url.URL
	listenOn  *url.URL
	service   string
	labels    map[string]string
	tunnel    *tunnel
	dial      dial.Options
	policies  policy.List
}

func read(role *start.Role) (*settings, error) {
	env := role.Env
	read := &settings{
		connectTo: env.URL("NSM_CONNECT_TO", "unix:///var/lib/networkservicemesh/nsm.io.sock"),
		listenOn:  env.URL("NSM_LISTEN_ON", "unix:///listen.on.sock"),
		service:   env.String("NSM_NS_NAME", "forwarder"),
		labels:    env.Map("NSM_LABELS", map[string]string{"p2p": "true"}),
		dial:      role.Dial(env.Duration("NSM_DIAL_TIMEOUT", 750*time.Millisecond)),
	}
	text := env.Required("NSM_TUNNEL_IP")
	address := net.ParseIP(text)
	if err := env.Err(); err != nil {
		return nil, err
	}
	if address == nil {
		return nil, fmt.Errorf("NSM_TUNNEL_IP=%q: not an address", text)
	}
	port := env.Int("NSM_VXLAN_PORT", 0)
	if port == 0 {
		// IANA's.
		port = 4789
	}
	read.tunnel = newTunnel(address, port)
	var err error
	if read.policies, err = policy.Load(env.List("NSM_REGISTRY_CLIENT_POLICIES", policy.RegistryClient...)...); err != nil {
		return nil, fmt.Errorf("NSM_REGISTRY_CLIENT_POLICIES: %w", err)
	}
	return read, env.Err()
}

// Run serves and registers, until the context ends.
func Run(ctx context.Context, _ []string) error {
	role, err := start.New(ctx, "forwarder")
	if err != nil {
		return err
	}
	set, err := read(role)
	if err != nil {
		return err
	}
	server := serve.New(identity.Server(role.Source))
	server.NetworkService(newChain(ctx, role, set))
	ended, err := server.Start(ctx, set.listenOn)
	if err != nil {
		return err
	}
	if err := register(ctx, role, set); err != nil {
		return err
	}
	slog.Info(serve.Ready, "name", role.Name, "on", set.listenOn.String())
	return <-ended
}

// newChain is the role.
func newChain(root context.Context, role *start.Role, set *settings) (chain.Handler, *elements.Monitor) {
	options := regchain.ClientOptions{To: set.connectTo, Dial: set.dial, WithoutHeal: true}
	server := elements.ServerOptions{Name: role.Name, Generator: role.Generator, Policies: policy.MustLoad(policy.Server...)}
	return elements.NewServer(root, server,
		// the caller's namespace
		&elements.RecvFDServer{},
		// goes back as which it is
		&elements.SendFDServer{},
		// where the endpoint is, or which could be it
		&Discover{
			Services: regchain.NewServiceClient(root, options),
			// sockets of this node come as descriptors
			Endpoints: regchain.NewEndpointClient(root, options, &regchain.RecvFDClient{}, &regchain.SendFDClient{}),
		},
		// one of them
		&RoundRobin{},
		// what the caller's side is
		&elements.Mechanisms{Of: map[string]chain.Element{
			mechanism.Kernel: elements.Null{},
			mechanism.VXLAN:  &VXLANServer{set.tunnel},
		}},
		// the other side
		&elements.Connect{Client: newClient(root, role, set)},
	)
}

// newClient is the role's other side.
func newClient(root context.Context, role *start.Role, set *settings) chain.Handler {
	return elements.NewClient(root, elements.ClientOptions{Name: role.Name, Dial: set.dial},
		// the caller's mechanism is not the next hop's
		&MechanismTranslation{},
		// what is offered, in the order of the Go implementation's forwarder
		local(mechanism.Memif),
		local(mechanism.Kernel),
		set.tunnel.offer(),
		// of that what reaches the next hop
		&FilterMechanisms{},
		// the endpoint's namespace
		&elements.RecvFDClient{},
		// goes on as which it is
		&elements.SendFDClient{},
	)
}

// register makes the forwarder known to its manager, and keeps it known.
func register(ctx context.Context, role *start.Role, set *settings) error {
	client := regchain.NewEndpointClient(ctx,
		regchain.ClientOptions{To: set.connectTo, Dial: set.dial, Policies: set.policies},
		// the socket's descriptor goes with the call
		&regchain.SendFDClient{},
	)
	_, err := client.Register(ctx, &registry.NetworkServiceEndpoint{
		Name:                 role.Name,
		NetworkServiceNames:  []string{set.service},
		NetworkServiceLabels: map[string]*registry.NetworkServiceLabels{set.service: {Labels: set.labels}},
		Url:                  set.listenOn.String(),
	})
	if err != nil {
		return fmt.Errorf("register %s: %w", role.Name, err)
	}
	return nil
}
