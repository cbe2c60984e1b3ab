package forwarder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"interop/internal/chain"
	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
	"interop/internal/gen/registry"
	"interop/internal/regchain"
	"interop/internal/selection"
)

// Discover finds where the connection's endpoint is, or which endpoints could be it.
type Discover struct {
	// Services and Endpoints are the manager's registry.
	Services  regchain.Handler[regchain.Service]
	Endpoints regchain.Handler[regchain.Endpoint]
}

// candidates is the endpoints that fit, for [RoundRobin].
type candidates struct {
	service   string
	endpoints []regchain.Endpoint
}

type candidatesKey struct{}

// Request looks up the named endpoint, or all that fit. The payload is the service's.
func (d *Discover) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	conn := request.Connection
	if name := conn.GetNetworkServiceEndpointName(); name != "" {
		to, err := d.locate(ctx, name)
		if err != nil {
			return nil, err
		}
		return next.Request(chain.WithURL(ctx, to), request)
	}
	service, err := d.service(ctx, conn.GetNetworkService(), conn.GetPayload())
	if err != nil {
		return nil, err
	}
	fit, err := d.fitting(ctx, service, conn.GetLabels())
	if err != nil {
		return nil, err
	}
	conn.Payload = service.GetPayload()
	return next.Request(context.WithValue(ctx, candidatesKey{}, candidates{service.GetName(), fit}), request)
}

// Close looks up the endpoint, and goes on whatever comes of it.
func (d *Discover) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	to, err := d.locate(ctx, conn.GetNetworkServiceEndpointName())
	if err != nil {
		slog.Warn("close", "id", conn.GetId(), "err", err)
		return next.Close(ctx, conn)
	}
	return next.Close(chain.WithURL(ctx, to), conn)
}

func (d *Discover) locate(ctx context.Context, name string) (*url.URL, error) {
	found, err := regchain.List(ctx, d.Endpoints, &registry.NetworkServiceEndpoint{Name: name})
	if err != nil {
		return nil, fmt.Errorf("find endpoint %s: %w", name, err)
	}
	for _, endpoint := range found {
		if endpoint.GetName() == name && name != "" {
			return url.Parse(endpoint.GetUrl())
		}
	}
	return nil, fmt.Errorf("network service endpoint %q not found", name)
}

func (d *Discover) service(ctx context.Context, name, payload string) (regchain.Service, error) {
	found, err := regchain.List(ctx, d.Services, &registry.NetworkService{Name: name, Payload: payload})
	if err != nil {
		return nil, fmt.Errorf("find network service %s: %w", name, err)
	}
	for _, service := range found {
		if service.GetName() == name {
			return service, nil
		}
	}
	return nil, fmt.Errorf("network service %q is not found", name)
}

// fitting is the service's endpoints that have not expired, as far as labels let them.
func (d *Discover) fitting(ctx context.Context, service regchain.Service, labels map[string]string) ([]regchain.Endpoint, error) {
	like := &registry.NetworkServiceEndpoint{NetworkServiceNames: []string{service.GetName()}}
	found, err := regchain.List(ctx, d.Endpoints, like)
	if err != nil {
		return nil, fmt.Errorf("find endpoints of %s: %w", service.GetName(), err)
	}
	var alive []regchain.Endpoint
	for _, endpoint := range found {
		if expires := endpoint.GetExpirationTime(); expires == nil || expires.AsTime().After(time.Now()) {
			alive = append(alive, endpoint)
		}
	}
	fit := selection.Endpoints(labels, service, alive)
	if len(fit) == 0 {
		return nil, errors.New("network service endpoint candidates not found")
	}
	return fit, nil
}

// RoundRobin tries the candidates one after the other, each service's from where the last request
// for it has stopped.
type RoundRobin struct {
	mutex sync.Mutex
	next  map[string]int
}

// Request tries them until one works.
func (r *RoundRobin) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	if chain.URLOf(ctx) != nil {
		return next.Request(ctx, request)
	}
	found, _ := ctx.Value(candidatesKey{}).(candidates)
	failed := errors.New("all candidates have failed")
	for range found.endpoints {
		endpoint := found.endpoints[r.step(found.service)%len(found.endpoints)]
		to, err := url.Parse(endpoint.GetUrl())
		if err != nil {
			return nil, fmt.Errorf("endpoint %s: %w", endpoint.GetName(), err)
		}
		asked := proto.CloneOf(request)
		asked.Connection.NetworkServiceEndpointName = endpoint.GetName()
		conn, err := next.Request(chain.WithURL(ctx, to), asked)
		if err == nil {
			return conn, nil
		}
		failed = fmt.Errorf("%w: endpoint %s: %w", failed, endpoint.GetName(), err)
	}
	return nil, failed
}

func (r *RoundRobin) step(service string) int {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.next == nil {
		r.next = map[string]int{}
	}
	at := r.next[service]
	r.next[service]++
	return at
}

// Close hands on.
func (r *RoundRobin) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	return next.Close(ctx, conn)
}
