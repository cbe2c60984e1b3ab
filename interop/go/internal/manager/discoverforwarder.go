package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"

	"google.golang.org/protobuf/proto"

	"interop/internal/chain"
	"interop/internal/gen/connection"
	"interop/internal/gen/networkservice"
	"interop/internal/gen/registry"
	"interop/internal/path"
	"interop/internal/regchain"
	"interop/internal/selection"
)

// DiscoverForwarder says which forwarder of this node comes next: the one that has the connection,
// else the first of the registry's that works.
type DiscoverForwarder struct {
	// Services and Endpoints are the registries to ask.
	Services  regchain.Handler[regchain.Service]
	Endpoints regchain.Handler[regchain.Endpoint]
	// Name is the service that forwarders register for.
	Name string
	// Own is this manager's public URL, by which its forwarders are found.
	Own string
}

// chosen is the forwarder that has the connection.
type chosen struct{ name string }

// Request tries the candidates.
func (d *DiscoverForwarder) Request(ctx context.Context, request *networkservice.NetworkServiceRequest, next chain.Handler) (*connection.Connection, error) {
	conn := request.GetConnection()
	known := chain.State[chosen](ctx, d)
	name := known.name
	reselect := conn.GetState() == connection.State_RESELECT_REQUESTED
	if reselect {
		name = ""
	}
	service, err := d.service(ctx, conn)
	if err != nil {
		return nil, err
	}
	found, err := regchain.List(ctx, d.Endpoints, &registry.NetworkServiceEndpoint{
		Name:                name,
		NetworkServiceNames: []string{d.Name},
		Url:                 d.Own,
	})
	if err != nil {
		slog.Debug("the list of forwarders ended early", "err", err)
	}
	candidates := selection.Forwarders(conn.GetLabels(), service, d.Name, found)
	if len(candidates) == 0 {
		if name != "" {
			return nil, fmt.Errorf("forwarder %v is not available", name)
		}
		return nil, errors.New("no candidates found")
	}
	if name == "" && !reselect {
		prefer(candidates, path.Next(conn).GetName())
	}
	failed := errors.New("all forwarders have failed")
	for at, candidate := range candidates {
		to, err := url.Parse(candidate.GetUrl())
		if err != nil {
			slog.Error("a forwarder's URL", "name", candidate.GetName(), "err", err)
			continue
		}
		answer, err := next.Request(chain.WithURL(ctx, to), proto.CloneOf(request))
		if err == nil {
			if name == "" {
				known.name = candidate.GetName()
			}
			return answer, nil
		}
		slog.Warn("a forwarder failed", "name", candidate.GetName(), "url", candidate.GetUrl(), "err", err)
		failed = fmt.Errorf("%d. forwarder %s: %w: %w", at, candidate.GetName(), err, failed)
	}
	// A code of a hop further on is not this hop's.
	return nil, errors.New(failed.Error())
}

// prefer puts the candidate of this name first.
func prefer(candidates []*registry.NetworkServiceEndpoint, name string) {
	for at, candidate := range candidates {
		if candidate.GetName() == name {
			candidates[0], candidates[at] = candidates[at], candidates[0]
			return
		}
	}
}

// Close goes on whatever happens here, so that the rest of this process lets go too.
func (d *DiscoverForwarder) Close(ctx context.Context, conn *connection.Connection, next chain.Handler) error {
	name := chain.State[chosen](ctx, d).name
	if name == "" {
		name = path.Next(conn).GetName()
	}
	if name == "" {
		return next.Close(ctx, conn)
	}
	found, err := regchain.List(ctx, d.Endpoints, &registry.NetworkServiceEndpoint{Name: name, Url: d.Own})
	if len(found) == 0 {
		slog.Warn("the forwarder of a connection to be closed is not found", "name", name, "err", err)
		return next.Close(ctx, conn)
	}
	to, err := url.Parse(found[0].GetUrl())
	if err != nil {
		slog.Error("a forwarder's URL", "name", name, "err", err)
		return next.Close(ctx, conn)
	}
	return next.Close(chain.WithURL(ctx, to), conn)
}

func (d *DiscoverForwarder) service(ctx context.Context, conn *connection.Connection) (*registry.NetworkService, error) {
	found, err := regchain.List(ctx, d.Services, &registry.NetworkService{
		Name:    conn.GetNetworkService(),
		Payload: conn.GetPayload(),
	})
	for _, service := range found {
		if service.GetName() == conn.GetNetworkService() {
			return service, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("find network service %s: %w", conn.GetNetworkService(), err)
	}
	return nil, fmt.Errorf("network service %v is not found", conn.GetNetworkService())
}
