// Package endpoint is the role that offers network services: addresses, routes and DNS to who
// connects.
package endpoint

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"interop/internal/chain"
	"interop/internal/elements"
	"interop/internal/gen/connectioncontext"
	"interop/internal/gen/registry"
	"interop/internal/identity"
	"interop/internal/ipam"
	"interop/internal/mechanism"
	"interop/internal/policy"
	"interop/internal/regchain"
	"interop/internal/serve"
	"interop/internal/start"
)

// endTimeout is what taking back a registration gets.
const endTimeout = 5 * time.Second

// registryDialTimeout is the Go implementation's.
const registryDialTimeout = 300 * time.Millisecond

// settings is what the role reads beside the common.
type settings struct {
	connectTo  *url.URL
	listenOn   *url.URL
	folder     string
	services   []string
	payload    string
	labels     map[string]string
	addresses  []chain.Element
	dns        []*connectioncontext.DNSConfig
	register   bool
	unregister bool
	policies   policy.List
}

func read(role *start.Role) (*settings, error) {
	env := role.Env
	read := &settings{
		connectTo:  env.URL("NSM_CONNECT_TO", "unix:///var/lib/networkservicemesh/nsm.io.sock"),
		listenOn:   env.URL("NSM_LISTEN_ON", ""),
		services:   env.List("NSM_SERVICE_NAMES"),
		payload:    env.String("NSM_PAYLOAD", mechanism.PayloadEthernet),
		labels:     env.Map("NSM_LABELS", nil),
		register:   env.Bool("NSM_REGISTER_SERVICE", true),
		unregister: env.Bool("NSM_UNREGISTER_ITSELF", false),
	}
	groups, err := ipam.ParseGroups(env.String("NSM_CIDR_PREFIX", "169.254.0.0/16"))
	if err != nil {
		return nil, fmt.Errorf("NSM_CIDR_PREFIX: %w", err)
	}
	switch policy := env.String("NSM_IPAM_POLICY", "polite"); policy {
	case "polite":
		read.addresses = ipam.New(groups)
	case "strict":
		read.addresses = ipam.NewStrict(groups)
	default:
		return nil, fmt.Errorf("NSM_IPAM_POLICY=%q: want polite or strict", policy)
	}
	if text := env.String("NSM_DNS_CONFIGS", "[]"); json.Unmarshal([]byte(text), &read.dns) != nil {
		return nil, fmt.Errorf("NSM_DNS_CONFIGS=%q: want a JSON list of dns_server_ips and search_domains", text)
	}
	if read.policies, err = policy.Load(env.List("NSM_REGISTRY_CLIENT_POLICIES", policy.RegistryClient...)...); err != nil {
		return nil, fmt.Errorf("NSM_REGISTRY_CLIENT_POLICIES: %w", err)
	}
	if read.listenOn == nil {
		if read.folder, err = os.MkdirTemp(env.String("NSM_BASE_DIR", ""), role.Name); err != nil {
			return nil, err
		}
		read.listenOn = &url.URL{Scheme: "unix", Path: filepath.Join(read.folder, "listen.on")}
	}
	return read, env.Err()
}

// Run serves and registers, until the context ends.
func Run(ctx context.Context, _ []string) error {
	role, err := start.New(ctx, "nse")
	if err != nil {
		return err
	}
	set, err := read(role)
	if err != nil {
		return err
	}
	if set.folder != "" {
		defer func() { _ = os.RemoveAll(set.folder) }()
	}
	root, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	server := serve.New(identity.Server(role.Source))
	handler, monitor := newChain(root, role, set)
	server.NetworkService(handler, monitor)
	go refreshOnHangup(root, monitor)
	ended, err := server.Start(root, set.listenOn)
	if err != nil {
		return err
	}
	registry, entry, err := register(ctx, root, role, set)
	if err != nil {
		return err
	}
	slog.Info(serve.Ready, "name", role.Name, "services", set.services, "on", set.listenOn.String())
	select {
	case err = <-ended:
	case <-ctx.Done():
	}
	if set.unregister {
		within, cancel := context.WithTimeout(root, endTimeout)
		defer cancel()
		if failed := registry.Unregister(within, entry); failed != nil {
			slog.Error("unregister failed", "name", role.Name, "err", failed)
		} else {
			slog.Info("unregistered", "name", role.Name)
		}
	}
	return err
}

// refreshOnHangup asks the clients to request their connections again at each SIGHUP: what an
// endpoint of the field does when something in its connections' context has changed.
func refreshOnHangup(ctx context.Context, monitor *elements.Monitor) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGHUP)
	defer signal.Stop(asked)
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
			monitor.AskRefresh()
		}
	}
}

// newChain is the role.
func newChain(root context.Context, role *start.Role, set *settings) (chain.Handler, *elements.Monitor) {
	more := slices.Concat(
		// a pair of addresses from each group
		set.addresses,
		[]chain.Element{
			// an interface in this namespace, or nothing
			&elements.Mechanisms{Of: map[string]chain.Element{
				mechanism.Kernel: &elements.KernelServer{},
				mechanism.Noop:   elements.Null{},
			}},
			// names
			&DNSContext{Configs: set.dns},
			// the namespace's descriptor goes with the answer
			&elements.SendFDServer{},
		},
	)
	options := elements.ServerOptions{
		Name:      role.Name,
		Generator: role.Generator,
		Policies:  policy.MustLoad(policy.Server...),
	}
	return elements.NewServer(root, options, more...)
}

// register makes services and endpoint known to the manager, and keeps them known.
func register(ctx, root context.Context, role *start.Role, set *settings) (regchain.Handler[regchain.Endpoint], regchain.Endpoint, error) {
	options := regchain.ClientOptions{To: set.connectTo, Dial: role.Dial(registryDialTimeout), Policies: set.policies}
	if set.register {
		for _, service := range set.services {
			entry := &registry.NetworkService{Name: service, Payload: set.payload}
			if _, err := regchain.NewServiceClient(root, options).Register(ctx, entry); err != nil {
				return nil, nil, fmt.Errorf("register service %s: %w", service, err)
			}
		}
	}
	entry := &registry.NetworkServiceEndpoint{
		Name:                 role.Name,
		NetworkServiceNames:  set.services,
		NetworkServiceLabels: map[string]*registry.NetworkServiceLabels{},
		Url:                  set.listenOn.String(),
	}
	for _, service := range set.services {
		entry.NetworkServiceLabels[service] = &registry.NetworkServiceLabels{Labels: set.labels}
	}
	client := regchain.NewEndpointClient(root, options,
		// where this runs, as labels
		&regchain.ClientInfo{},
		// the socket's descriptor goes with the call
		&regchain.SendFDClient{},
	)
	answer, err := client.Register(ctx, entry)
	if err != nil {
		return nil, nil, fmt.Errorf("register endpoint %s: %w", role.Name, err)
	}
	return client, answer, nil
}
